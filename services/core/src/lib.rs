//! The domain of Thyme, pure and synchronous: what a feature value is, and nothing about where it is kept or how it travels.
//!
//! Everything here is a function of its arguments: no I/O, no wall clock, no randomness, no async runtime.

pub mod aggregate;
pub mod decimal;
pub mod definition;
pub mod error;
pub mod exact;
pub mod expr;
pub mod failpoint;
pub mod key;
pub mod pin;
pub mod position;
pub mod record;
pub mod schema;
pub mod slice;
pub mod suggest;
pub mod testing;
pub mod time;
pub mod value;
mod varint;
pub mod window;

pub use decimal::Decimal;
pub use error::{Error, ErrorKind, Result};
pub use value::Value;
