//! The end of the interpreter. A thread that comes back to an interpreter that is going away is ended on the spot, which
//! aborts the process where native code is on its stack. So before that moment nobody may be on the way back.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use thyme_extract::close_extractors;

static CLOSING: AtomicBool = AtomicBool::new(false);
/// Calls that have let the interpreter go and will take it back.
static AWAY: AtomicUsize = AtomicUsize::new(0);

/// The longest wait for calls of other threads.
const PATIENCE: Duration = Duration::from_secs(10);

/// Has [`close`] called when the interpreter ends, before it stops other threads.
pub(crate) fn at_exit(py: Python<'_>) -> PyResult<()> {
    let close = wrap_pyfunction!(close, py)?;
    py.import("atexit")?.call_method1("register", (close,)).map(|_| ())
}

/// Ends what runs in other threads; what they ask afterwards is refused.
#[pyfunction]
fn close(py: Python<'_>) {
    CLOSING.store(true, Ordering::SeqCst);
    close_extractors(py);
    py.detach(|| {
        let began = Instant::now();
        while AWAY.load(Ordering::SeqCst) > 0 && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// Runs with the interpreter let go, so that extractors can take it.
pub(crate) fn away<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    AWAY.fetch_add(1, Ordering::SeqCst);
    let _back = Back;
    if CLOSING.load(Ordering::SeqCst) {
        return Err(PyRuntimeError::new_err("the interpreter is about to end"));
    }
    Ok(py.detach(work))
}

struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        AWAY.fetch_sub(1, Ordering::SeqCst);
    }
}
