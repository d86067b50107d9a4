//! The work behind an answer: a task that makes what the stream gives out. That it came to its end it tells itself, so a task that dies is
//! no end of the rows.

use super::encoding::to_flight;
use crate::task::AbortOnDrop;
use arrow_flight::error::FlightError;
use std::time::Duration;
use thyme_core::{Error, ErrorKind, Result};
use thyme_query::ExportSummary;
use tokio::sync::{mpsc, oneshot};

/// For what the work makes: each, then `None` or what went wrong.
pub(super) type Sender<T> = mpsc::UnboundedSender<Result<Option<T>>>;

/// Ends when it is dropped: the client has gone.
pub(super) struct Work<T> {
    made: mpsc::UnboundedReceiver<Result<Option<T>>>,
    _task: AbortOnDrop<()>,
}

impl<T: Send + 'static> Work<T> {
    /// `work` sends what it makes, and returns what came of it: that is told before the end is.
    pub fn begin<F>(
        deadline: Option<Duration>,
        told: oneshot::Sender<ExportSummary>,
        work: impl FnOnce(Sender<T>) -> F,
    ) -> Work<T>
    where
        F: Future<Output = Result<Option<ExportSummary>>> + Send + 'static,
    {
        let (sender, made) = mpsc::unbounded_channel();
        let work = within(deadline, work(sender.clone()));
        let task = async move {
            let done = work.await.map(|summary| {
                let _gone = summary.map(|summary| told.send(summary));
                None
            });
            let _gone = sender.send(done);
        };
        Work { made, _task: AbortOnDrop(tokio::spawn(task)) }
    }

    /// `None` at the end. After an error there is nothing more to ask for.
    pub async fn next(&mut self) -> Result<Option<T>, FlightError> {
        let next = self.made.recv().await;
        next.unwrap_or_else(|| Err(Error::internal("the export ended before its rows did"))).map_err(to_flight)
    }
}

/// The work, ended at its deadline if it has one.
async fn within<T>(deadline: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(deadline) = deadline else { return work.await };
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| Err(too_late(deadline)))
}

pub(super) fn too_late(deadline: Duration) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, format!("the export was not done within {} ms", deadline.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn dies(sender: Sender<u8>) -> Result<Option<ExportSummary>> {
        sender.send(Ok(Some(1))).unwrap();
        panic!("of the test");
    }

    async fn ends(sender: Sender<u8>) -> Result<Option<ExportSummary>> {
        sender.send(Ok(Some(1))).unwrap();
        Ok(None)
    }

    #[tokio::test]
    async fn work_that_dies_is_no_end_of_the_rows() {
        let (told, _summary) = oneshot::channel();
        let mut work = Work::begin(None, told, dies);
        assert_eq!(work.next().await.unwrap(), Some(1));
        let error = work.next().await.unwrap_err();
        assert!(error.to_string().contains("the export ended before its rows did"), "{error}");

        let (told, _summary) = oneshot::channel();
        let mut work = Work::begin(None, told, ends);
        assert_eq!(work.next().await.unwrap(), Some(1));
        assert_eq!(work.next().await.unwrap(), None);
    }
}
