//! A server in a process of its own: the `thyme` command of an environment or, where there is none, the same server without
//! Python in this program.

use crate::cpu;
use crate::failure::Outcome;
use serde::{Deserialize, Serialize};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_query::NoExtractors;
use thyme_server::Config;
use tonic::transport::Channel;

const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// No CPU used for so long means that nothing goes on in the background.
const QUIET: Duration = Duration::from_millis(400);

/// The flags of the server, in the shape of its configuration file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Flags {
    data_dir: String,
    control_addr: String,
    query_addr: String,
    run_log: bool,
}

pub struct Server {
    process: Child,
    pub control: Channel,
    pub query: Channel,
    /// Whether it can run extractors.
    pub has_python: bool,
}

impl Server {
    /// Starts one on `data_dir` and waits until both ports answer.
    pub async fn start(python: &Path, data_dir: &Path, run_log: bool) -> Outcome<Server> {
        let (control_addr, query_addr) = free_addresses()?;
        let flags = Flags {
            data_dir: data_dir.display().to_string(),
            control_addr: control_addr.clone(),
            query_addr: query_addr.clone(),
            run_log,
        };
        let thyme = python.with_file_name("thyme");
        let has_python = thyme.exists();
        let mut command = if has_python { with_python(thyme, &flags) } else { without_python(&flags)? };
        let process = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let (control, query) = (channel(&control_addr)?, channel(&query_addr)?);
        let mut server = Server { process, control, query, has_python };
        server.wait_until_serving().await?;
        Ok(server)
    }

    async fn wait_until_serving(&mut self) -> Outcome<()> {
        let started = Instant::now();
        for channel in [self.control.clone(), self.query.clone()] {
            loop {
                let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
                let request = tonic_health::pb::HealthCheckRequest::default();
                let Err(status) = health.check(request).await else { break };
                if let Some(ended) = self.process.try_wait()? {
                    return Err(format!("the server ended with {ended}").into());
                }
                if started.elapsed() > STARTS_WITHIN {
                    return Err(format!("the server does not answer: {status}").into());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    pub fn cpu_seconds(&self) -> Outcome<f64> {
        cpu::seconds(Some(self.process.id()))
    }

    /// Waits until the server does nothing any more, flushes and compactions included.
    pub async fn wait_until_quiet(&self) -> Outcome<()> {
        let mut before = self.cpu_seconds()?;
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.cpu_seconds()?;
            // A hundredth is what an idle server's timers may come to.
            if now - before <= 0.01 {
                return Ok(());
            }
            before = now;
        }
    }

    /// Asks it to stop and waits for the end. Meanwhile this process must go on, so that its connections are let go.
    pub async fn stop(mut self) -> Outcome<()> {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status()?;
        if !asked.success() {
            return Err("the server cannot be stopped".into());
        }
        while self.process.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

fn with_python(thyme: PathBuf, flags: &Flags) -> Command {
    let mut command = Command::new(thyme);
    command.args(["serve", "--data-dir", &flags.data_dir, "--clock", "event", "--log-level", "warn"]);
    command.args(["--control-addr", &flags.control_addr, "--query-addr", &flags.query_addr]);
    command.args(["--set", &format!("query.run_log={}", flags.run_log)]);
    command
}

fn without_python(flags: &Flags) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("server-child").arg(serde_json::to_string(flags)?);
    Ok(command)
}

/// The server in this process.
pub fn run_child(flags: &str) -> Outcome<()> {
    let flags: Flags = serde_json::from_str(flags)?;
    let settings = serde_json::json!({
        "data_dir": flags.data_dir,
        "server": {"control_addr": flags.control_addr, "query_addr": flags.query_addr, "clock": "event"},
        "logging": {"level": "warn"},
        "query": {"run_log": flags.run_log.to_string()},
    });
    let config = Config::load(None, std::env::vars(), &settings)?;
    thyme_server::run_blocking(config, Arc::new(NoExtractors), thyme_server::stop_signal())?;
    Ok(())
}

fn free_addresses() -> Outcome<(String, String)> {
    let (first, second) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((first.local_addr()?.to_string(), second.local_addr()?.to_string()))
}

fn channel(address: &str) -> Outcome<Channel> {
    Ok(Channel::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect_lazy())
}
