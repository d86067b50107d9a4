//! The extractor runtime: committed Python, called in this process.
//!
//! A small fixed pool of long-lived worker threads keep their Python thread state and let go of the interpreter while they wait
//! for calls: a call costs well under a microsecond of attaching. A watchdog enforces deadlines: it interrupts pure Python, and
//! replaces a worker that is stuck in native code. Each deployment's modules live under names of their own.

mod call;
mod context;
mod glue;
mod guest;
mod loader;
mod native;
mod pace;
mod pool;
mod values;
mod watchdog;

pub use glue::{describe_error, raise};
pub use loader::{PythonExtractors, close_extractors};
pub use values::{from_python, to_python};
