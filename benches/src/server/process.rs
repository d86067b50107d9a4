//! A server in a process of its own: the `thyme` command of an environment or, where there is none, the same server without
//! Python in this program.

use crate::failure::Outcome;
use crate::{allocations, cpu};
use serde::{Deserialize, Serialize};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
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
    /// Whether it counts its allocations, and tells them for each line that it reads.
    counts: bool,
}

pub struct Server {
    process: Child,
    /// To ask one that counts its allocations.
    counter: Option<(ChildStdin, BufReader<ChildStdout>)>,
    pub query_address: String,
    pub control: Channel,
    pub query: Channel,
    /// Whether it can run extractors.
    pub has_python: bool,
}

impl Server {
    /// Starts one on `data_dir` and waits until both ports answer.
    pub async fn start(python: &Path, data_dir: &Path, run_log: bool) -> Outcome<Server> {
        let flags = Flags::new(data_dir, run_log)?;
        let thyme = python.with_file_name("thyme");
        let has_python = thyme.exists();
        let mut command = if has_python { with_python(thyme, &flags) } else { without_python(&flags)? };
        command.stdout(Stdio::null());
        Self::begin(command, flags, has_python).await
    }

    /// The server in a child of this program, whatever there is of Python: one that counts its allocations.
    pub async fn start_counting(data_dir: &Path) -> Outcome<Server> {
        let flags = Flags { counts: true, ..Flags::new(data_dir, true)? };
        let mut command = without_python(&flags)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self::begin(command, flags, false).await
    }

    async fn begin(mut command: Command, flags: Flags, has_python: bool) -> Outcome<Server> {
        let mut process = command.stderr(Stdio::inherit()).spawn()?;
        let counter = process.stdin.take().zip(process.stdout.take().map(BufReader::new));
        let (control, query) = (channel(&flags.control_addr)?, channel(&flags.query_addr)?);
        let query_address = flags.query_addr;
        let mut server = Server { process, counter, query_address, control, query, has_python };
        server.wait_until_serving().await?;
        Ok(server)
    }

    /// Allocations so far of a server that counts them.
    pub fn allocations(&mut self) -> Outcome<u64> {
        let (questions, answers) = self.counter.as_mut().ok_or("this server does not count its allocations")?;
        writeln!(questions, "count")?;
        let mut answer = String::new();
        answers.read_line(&mut answer)?;
        Ok(answer.trim_end().parse()?)
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
    if flags.counts {
        allocations::begin();
        std::thread::spawn(tell_allocations);
    }
    thyme_server::run_blocking(config, Arc::new(NoExtractors), thyme_server::stop_signal())?;
    Ok(())
}

/// For each line that comes, until no more can.
fn tell_allocations() {
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        println!("{}", allocations::so_far());
    }
}

impl Flags {
    /// Free ports, and nothing counted.
    fn new(data_dir: &Path, run_log: bool) -> Outcome<Flags> {
        let (control_addr, query_addr) = free_addresses()?;
        Ok(Flags { data_dir: data_dir.display().to_string(), control_addr, query_addr, run_log, counts: false })
    }
}

fn free_addresses() -> Outcome<(String, String)> {
    let (first, second) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((first.local_addr()?.to_string(), second.local_addr()?.to_string()))
}

/// A connection, to be used on the runtime that makes it.
pub fn channel(address: &str) -> Outcome<Channel> {
    Ok(Channel::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect_lazy())
}
