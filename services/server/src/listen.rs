//! Ports: binding with a clear error, and serving gRPC and HTTP on one port.

use axum::Router;
use axum::serve::ListenerExt as _;
use std::net::SocketAddr;
use thyme_core::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            Error::conflict(format!("port {} is in use, {setting} is {address}", address.port()))
                .field(setting)
                .hint(format!("stop what listens there, or set {setting} to another port"))
        }
        _ => Error::precondition(format!("cannot listen on {address}: {error}")).field(setting),
    })
}

/// HTTP/1 and HTTP/2 (by prior knowledge) until `stop` says true; requests under way are finished.
pub fn serve(listener: TcpListener, routes: Router, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    let listener = listener.tap_io(|stream| {
        // Without it a small answer waits for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was not set");
        }
    });
    let stopped = async move {
        // An error means that the server itself is gone.
        let _gone = stop.wait_for(|stop| *stop).await;
    };
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "a listener ended");
        }
    })
}
