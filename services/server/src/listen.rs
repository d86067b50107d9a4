//! Ports: binding with a clear error, and serving gRPC and HTTP on one port, to so many connections at once.

#[cfg(test)]
mod tests;

use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Connections that a listener has open at once; further ones wait to be accepted.
const MOST_CONNECTIONS: u32 = 4096;
/// Requests under way on one HTTP/2 connection; its client keeps further ones to itself.
const MOST_STREAMS: u32 = 200;
/// Connections that the system keeps for a listener until it accepts them.
const BACKLOG: u32 = 128;
/// How often a listener that is full says so in the log.
const SAY_AGAIN: Duration = Duration::from_secs(60);

pub fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    listener(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Error::conflict(format!("port {} is in use, {setting} is {address}", address.port()))
                .field(setting)
                .hint(format!("stop what listens there, or set {setting} to another port"))
        }
        _ => Error::precondition(format!("cannot listen on {address}: {error}")).field(setting),
    })
}

/// As tokio binds one, and its connections are kept alive: a client that is gone without a word would hold its place for ever.
fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// HTTP/1 and HTTP/2 (by prior knowledge) until `stop` says true; requests under way are finished, or cut when the task is aborted. `name` is
/// what the listener is called in metrics and the log.
pub fn serve(name: &'static str, listener: TcpListener, routes: Router, stop: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(serve_at_most(MOST_CONNECTIONS, name, listener, routes, stop))
}

async fn serve_at_most(
    most: u32,
    name: &'static str,
    mut listener: TcpListener,
    routes: Router,
    mut stop: watch::Receiver<bool>,
) {
    // Without this, each request makes its routes anew.
    let routes = routes.with_state(());
    let mut places = Places::new(most, name);
    // They end with this task, wherever they are: a stop that lasts too long aborts it.
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = places.next().await;
            let (stream, _) = Listener::accept(&mut listener).await;
            (stream, place)
        };
        let (stream, place) = tokio::select! {
            next = next => next,
            // An error means that the server itself is gone.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        // Without it a small answer waits for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
        while connections.try_join_next().is_some() {}
        connections.spawn(converse(stream, routes.clone(), stop.clone(), place.taken()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One connection to its end; when the server stops, until the requests under way are answered.
async fn converse(stream: TcpStream, routes: Router, mut stop: watch::Receiver<bool>, _place: Taken) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(MOST_STREAMS);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Mostly clients that went away without a word.
        tracing::trace!(%error, "a connection ended badly");
    }
}

/// The places of a listener's connections.
struct Places {
    most: u32,
    name: &'static str,
    free: Arc<Semaphore>,
    told: Option<Instant>,
}

/// For the next connection.
struct Place {
    name: &'static str,
    permit: OwnedSemaphorePermit,
}

/// Of an open connection; free again with its end.
struct Taken {
    name: &'static str,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    fn new(most: u32, name: &'static str) -> Places {
        // So that they are shown from the start.
        metrics::gauge!("thyme_connections", "listener" => name).increment(0.0);
        metrics::counter!("thyme_connections_full_total", "listener" => name).increment(0);
        Places { most, name, free: Arc::new(Semaphore::new(most as usize)), told: None }
    }

    /// Waits until one is free.
    async fn next(&mut self) -> Place {
        let free = match self.free.clone().try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => {
                self.tell();
                self.free.clone().acquire_owned().await
            }
        };
        match free {
            Ok(permit) => Place { name: self.name, permit },
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        }
    }

    fn tell(&mut self) {
        metrics::counter!("thyme_connections_full_total", "listener" => self.name).increment(1);
        if self.told.is_none_or(|told| told.elapsed() > SAY_AGAIN) {
            self.told = Some(Instant::now());
            let (listener, connections) = (self.name, self.most);
            tracing::warn!(
                listener,
                connections,
                "a listener has all the connections it takes, others wait for one to close"
            );
        }
    }
}

impl Place {
    fn taken(self) -> Taken {
        metrics::gauge!("thyme_connections", "listener" => self.name).increment(1.0);
        Taken { name: self.name, _permit: self.permit }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        metrics::gauge!("thyme_connections", "listener" => self.name).decrement(1.0);
    }
}
