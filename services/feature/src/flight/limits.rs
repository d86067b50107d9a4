//! What keeps many calls at once within bounds: how many exports work on a chunk, and how long one waits for a client that has stopped.

use crate::task::AbortOnDrop;
use arrow_flight::FlightData;
use futures::stream::{BoxStream, Stream, StreamExt as _};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use thyme_core::{Error, ErrorKind, Result};
use thyme_proto::status::to_plain_status;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Status;

/// Exports that have a chunk in hand.
const AT_WORK: usize = 8;
/// How long one waits to begin.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take nothing, or send nothing.
const IDLE: Duration = Duration::from_secs(600);

#[derive(Clone)]
pub(crate) struct Limits {
    at_work: Arc<Semaphore>,
    most: usize,
    patience: Duration,
    pub idle: Duration,
}

impl Limits {
    pub fn of_a_server() -> Limits {
        Limits::of(AT_WORK, PATIENCE, IDLE)
    }

    pub fn of(most: usize, patience: Duration, idle: Duration) -> Limits {
        Limits { at_work: Arc::new(Semaphore::new(most)), most, patience, idle }
    }

    /// A place to work on one chunk in, in the order of asking. It is given back before anything waits for a client. One that has done a
    /// chunk waits as long as it takes.
    pub async fn place(&self, has_begun: bool) -> Result<OwnedSemaphorePermit> {
        let place = self.at_work.clone().acquire_owned();
        let place = match has_begun {
            true => place.await,
            false => tokio::time::timeout(self.patience, place).await.map_err(|_| self.busy())?,
        };
        place.map_err(|_| Error::internal("there are no places any more"))
    }

    fn busy(&self) -> Error {
        let message = format!("{} exports are under way", self.most);
        Error::new(ErrorKind::ResourceExhausted, message).hint("ask again when one of them is done")
    }
}

/// Waits for what a client sends.
pub(crate) async fn sent<T>(idle: Duration, next: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(idle, next).await.map_err(|_| {
        let message = format!("nothing was sent for {} s", idle.as_secs_f64());
        Error::new(ErrorKind::DeadlineExceeded, message).hint("end the stream when all rows are sent")
    })
}

type Messages = BoxStream<'static, Result<FlightData, Status>>;

/// Lets go of a stream, and all that it holds, when nothing was taken of it for so long. A client that comes back is told.
pub(crate) fn until_idle(
    messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    idle: Duration,
) -> Messages {
    let held = Arc::new(Mutex::new(Held { messages: Some(messages.boxed()), ready_since: None }));
    let watch = AbortOnDrop(tokio::spawn(let_go(Arc::downgrade(&held), idle)));
    Taken { held, idle, _watch: watch }.boxed()
}

struct Held {
    /// None when it was let go.
    messages: Option<Messages>,
    /// When the last message was given, unless the next one is waited for.
    ready_since: Option<Instant>,
}

async fn let_go(held: Weak<Mutex<Held>>, idle: Duration) {
    loop {
        let Some(held) = held.upgrade() else { return };
        let (since, stopped) = {
            let mut held = held.lock();
            let since = held.ready_since.unwrap_or_else(Instant::now);
            (since, (since.elapsed() >= idle).then(|| held.messages.take()))
        };
        drop(held);
        if stopped.is_some() {
            return;
        }
        tokio::time::sleep_until(since + idle).await;
    }
}

struct Taken {
    held: Arc<Mutex<Held>>,
    idle: Duration,
    _watch: AbortOnDrop<()>,
}

impl Stream for Taken {
    type Item = Result<FlightData, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut held = self.held.lock();
        held.ready_since = None;
        let Some(messages) = &mut held.messages else {
            held.messages = Some(futures::stream::empty().boxed());
            return Poll::Ready(Some(Err(to_plain_status(&stopped(self.idle)))));
        };
        let next = messages.poll_next_unpin(context);
        if matches!(next, Poll::Ready(Some(_))) {
            held.ready_since = Some(Instant::now());
        }
        next
    }
}

fn stopped(idle: Duration) -> Error {
    let message = format!("nothing was taken of the answer for {} s", idle.as_secs_f64());
    Error::new(ErrorKind::DeadlineExceeded, message)
        .hint("read on as rows come; with the pin the same can be asked again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    const SHORT: Duration = Duration::from_millis(200);
    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn who_begins_waits_in_order_and_not_for_ever() {
        let limits = Limits::of(1, SHORT, LONG);
        let first = limits.place(false).await.unwrap();
        let begun = Instant::now();
        let error = limits.place(false).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::ResourceExhausted, "1 exports are under way"));
        assert!(begun.elapsed() >= SHORT);
        let waits = |has_begun| {
            let limits = Limits { patience: if has_begun { SHORT } else { LONG }, ..limits.clone() };
            tokio::spawn(async move { limits.place(has_begun).await.unwrap() })
        };
        let going_on = waits(true);
        tokio::time::sleep(2 * SHORT).await;
        let last = waits(false);
        tokio::time::sleep(SHORT).await;
        drop(first);
        let second = tokio::time::timeout(LONG, going_on).await.unwrap().unwrap();
        tokio::task::yield_now().await;
        assert!(!last.is_finished());
        drop(second);
        drop(tokio::time::timeout(LONG, last).await.unwrap().unwrap());
    }

    fn messages(count: usize) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
        futures::stream::iter((0..count).map(|_| Ok(FlightData::new())))
    }

    #[tokio::test]
    async fn a_stream_that_nobody_takes_from_is_let_go() {
        let (gone, was_let_go) = tokio::sync::oneshot::channel::<()>();
        let holds = messages(3).map(move |message| {
            let _held = &gone;
            message
        });
        let mut taken = until_idle(holds, SHORT);
        taken.next().await.unwrap().unwrap();
        let since = Instant::now();
        let dropped = tokio::time::timeout(LONG, was_let_go).await.expect("while the stream is there");
        assert!(dropped.is_err() && since.elapsed() >= SHORT / 2);
        let status = taken.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(status.message().starts_with("nothing was taken of the answer for 0.2 s (hint:"), "{status}");
        assert!(taken.next().await.is_none());
    }

    #[tokio::test]
    async fn one_that_is_waited_for_may_take_its_time() {
        let slow = futures::stream::once(tokio::time::sleep(4 * SHORT)).map(|()| Ok(FlightData::new()));
        let mut taken = until_idle(messages(1).chain(slow), SHORT);
        for _ in 0..2 {
            tokio::time::timeout(LONG, taken.next()).await.expect("it comes").unwrap().unwrap();
        }
        assert!(taken.next().await.is_none());
        // Also where it was asked for once, and looked at no more until there is something.
        let mut taken = until_idle(futures::stream::pending(), SHORT);
        assert!(taken.next().now_or_never().is_none());
        tokio::time::sleep(4 * SHORT).await;
        assert!(taken.next().now_or_never().is_none(), "it is there still");
    }

    #[tokio::test]
    async fn a_client_that_sends_nothing_is_told() {
        assert_eq!(sent(SHORT, std::future::ready(7)).await.unwrap(), 7);
        let error = sent(SHORT, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::DeadlineExceeded, "nothing was sent for 0.2 s"));
    }
}
