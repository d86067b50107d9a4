//! The real thing in one process: log, engine, state, query engine, ingestor, behind a listener on the loopback.

mod flight;
mod grpc;
mod ranges;
mod stack;
mod stream;
mod summary;
mod uploaded;
