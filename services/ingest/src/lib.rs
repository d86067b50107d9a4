//! IngestService: rows of a dataset to records of its log, validated one by one; the erasure of keys.
//!
//! [`Ingestor`] is the one way in: gRPC ([`grpc`]), HTTP, Flight and sources all append through it. What it accepts is durable
//! in the log when it says so; whether an event is a duplicate or late is decided later, in log order, by the engine.

pub mod grpc;
mod ingestor;
pub mod rows;
mod target;
#[cfg(test)]
mod tests;

pub use ingestor::{
    EraseListener, EraseReceipt, EraseWatch, GivenKey, IngestReceipt, Ingestor, RowIds, Rows, parse_call_id,
};
pub use target::{Target, Targets};
