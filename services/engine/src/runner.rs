//! An engine's thread: rounds while there is work, commands between them, sleep otherwise.

use crate::engine::Engine;
use crate::handle::EngineHandle;
use crate::spec::{JobSpec, Role};
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};
use tokio::sync::oneshot;

/// Told to the engine's thread, with a place for the answer.
pub(crate) enum Command {
    Deploy(JobSpec, oneshot::Sender<Result<()>>),
    DropState(Vec<u32>, oneshot::Sender<Result<()>>),
    SetRole(Role, oneshot::Sender<Result<()>>),
    Fence(oneshot::Sender<Result<()>>),
    /// The number of the same deployment from now on.
    Renumber(u64, oneshot::Sender<Result<()>>),
    /// The deployment that all owners have noted.
    Noted(oneshot::Sender<Result<u64>>),
    /// The erases that owners have noted, in so many partitions of a topic.
    NotedErases(String, u16, oneshot::Sender<Result<Vec<u64>>>),
}

/// After a failed round, wait this long, doubling up to the second figure.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(5));

/// How often an owner notes again what it has noted (see `notes.rs`).
const NOTE_AGAIN: Duration = Duration::from_secs(60 * 60);

/// The running engine; `stop` ends it and waits for that, and without it nobody waits.
pub struct RunningEngine {
    pub handle: EngineHandle,
    thread: Option<JoinHandle<()>>,
}

impl RunningEngine {
    /// Asks the thread to end and waits for it.
    pub fn stop(mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread panicked");
        }
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

impl Engine {
    /// Runs on a thread of its own from now on.
    pub fn spawn(self) -> Result<RunningEngine> {
        Ok(RunningEngine { handle: self.handle(), thread: Some(self.on_a_thread()?) })
    }

    fn on_a_thread(self) -> Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| Error::internal(format!("starting the engine's thread: {error}")))?;
        std::thread::Builder::new()
            .name("thyme-engine".to_string())
            .spawn(move || runtime.block_on(self.run()))
            .map_err(|error| Error::internal(format!("starting the engine's thread: {error}")))
    }

    async fn run(mut self) {
        let shared = self.shared().clone();
        self.options.awaits_log = false;
        let mut log_changes = self.log().changes();
        let mut retry = RETRY.0;
        let mut noted_at = Instant::now();
        while !shared.stopping.load(Ordering::Acquire) {
            self.obey();
            if noted_at.elapsed() > NOTE_AGAIN {
                self.note_again();
                noted_at = Instant::now();
            }
            log_changes.mark_unchanged();
            let started = Instant::now();
            match self.step() {
                Ok(0) => {
                    tokio::select! {
                        _ = log_changes.changed() => {}
                        () = shared.wake.notified() => {}
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    }
                }
                Ok(records) => {
                    metrics::histogram!("thyme_tick_duration_seconds").record(started.elapsed().as_secs_f64());
                    metrics::counter!("thyme_tick_records_total").increment(records as u64);
                }
                Err(error) => {
                    let slice = (!self.options.slice.is_whole()).then_some(self.options.slice.index);
                    tracing::error!(slice, %error, "a tick failed and will be tried again");
                    *shared.trouble.write() = Some(error);
                    tokio::select! {
                        () = shared.wake.notified() => {}
                        () = tokio::time::sleep(retry) => {}
                    }
                    retry = (retry * 2).min(RETRY.1);
                    continue;
                }
            }
            if shared.trouble.read().is_some() {
                *shared.trouble.write() = None;
                tracing::info!("the engine goes on");
            }
            retry = RETRY.0;
        }
        self.leave_logs();
    }

    fn obey(&mut self) {
        loop {
            let command = self.shared().commands.lock().pop_front();
            let Some(command) = command else { return };
            let is_heard = match command {
                Command::Deploy(spec, done) => done.send(self.deploy(&spec)).is_ok(),
                Command::DropState(consumers, done) => done.send(self.drop_state(&consumers)).is_ok(),
                Command::SetRole(role, done) => done.send(self.set_role(role)).is_ok(),
                Command::Fence(done) => done.send(self.fence()).is_ok(),
                Command::Renumber(number, done) => {
                    self.number = number;
                    done.send(Ok(())).is_ok()
                }
                Command::Noted(done) => done.send(self.noted_by_all()).is_ok(),
                Command::NotedErases(topic, partitions, done) => {
                    done.send(self.noted_erases(&topic, partitions)).is_ok()
                }
            };
            if !is_heard {
                tracing::warn!("nobody waits for the engine's answer any more");
            }
        }
    }
}
