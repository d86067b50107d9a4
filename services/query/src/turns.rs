//! Turns: work that takes milliseconds is not done on threads that serve requests, at most as much at once as there are cores, and in
//! pieces between which whoever waits longest goes on. So a large batch or an export holds up another one for a piece, and single
//! lookups, which wait for no turn, for their share of the processor.

use std::sync::Arc;
use thyme_core::error::{Error, Result};
use tokio::sync::Semaphore;

#[derive(Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    pub fn of_this_machine() -> Turns {
        Turns::of(std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn of(at_once: usize) -> Turns {
        Turns(Arc::new(Semaphore::new(at_once)))
    }

    /// Does a piece of work when its turn comes. The turn lasts as long as the work, also where nobody waits for it any more.
    pub async fn take<T: Send + 'static>(&self, piece: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let turn = self.0.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Error::internal("there are no turns any more"))?;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            piece()
        });
        done.await.map_err(|error| Error::internal(format!("reading the state failed: {error}")))
    }

    /// Does work in steps, each in a turn of its own, until one says that there is no more.
    pub async fn each<W: Send + 'static>(&self, mut work: W, step: fn(&mut W) -> Result<bool>) -> Result<W> {
        loop {
            let piece = move || {
                let more = step(&mut work);
                (work, more)
            };
            let (done, more) = self.take(piece).await?;
            if !more? {
                return Ok(done);
            }
            work = done;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_is_done_at_once_than_there_are_turns() {
        let turns = Turns::of(2);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works = (0..8).map(|_| {
            let (turns, now, most) = (turns.clone(), now.clone(), most.clone());
            tokio::spawn(async move {
                for _ in 0..20 {
                    let (now, most) = (now.clone(), most.clone());
                    let piece = move || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(1));
                        now.fetch_sub(1, Ordering::SeqCst);
                    };
                    turns.take(piece).await.unwrap();
                }
            })
        });
        for work in futures::future::join_all(works).await {
            work.unwrap();
        }
        assert_eq!((most.load(Ordering::SeqCst), turns.0.available_permits()), (2, 2));
    }

    /// What was done, and for its first step something to wait for.
    struct Steps(Arc<Mutex<Vec<&'static str>>>, Option<std::sync::mpsc::Receiver<()>>);

    impl Steps {
        fn step(&mut self) -> Result<bool> {
            let first = self.1.take();
            if let Some(ready) = &first {
                ready.recv().unwrap();
            }
            self.0.lock().push("step");
            Ok(first.is_some())
        }
    }

    #[tokio::test]
    async fn whoever_waits_comes_between_two_steps() {
        let turns = Turns::of(1);
        let done = Arc::new(Mutex::new(Vec::new()));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let long = turns.each(Steps(done.clone(), Some(is_ready)), Steps::step);
        let noted = done.clone();
        let other = turns.take(move || noted.lock().push("other"));
        // Polled in this order: the other one waits when the first step ends.
        let (long, other, ()) = futures::join!(long, other, async { ready.send(()).unwrap() });
        other.unwrap();
        assert_eq!(*long.unwrap().0.lock(), ["step", "other", "step"]);
    }

    #[tokio::test]
    async fn a_turn_lasts_as_long_as_its_work() {
        let turns = Turns::of(1);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let other = turns.clone();
        let work = tokio::spawn(async move {
            other
                .take(move || {
                    begin.send(()).unwrap();
                    ended.recv().unwrap();
                })
                .await
        });
        begun.await.unwrap();
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
        assert_eq!(turns.0.available_permits(), 0, "the work goes on");
        end.send(()).unwrap();
        turns.take(|| ()).await.unwrap();
    }
}
