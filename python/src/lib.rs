//! The native module `thyme._native`: the server, and the real engine in memory for tests and notebooks.

mod closing;
mod definitions;
mod mock;
mod serve;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Version of the native module.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(version, module)?)?;
    module.add_function(wrap_pyfunction!(serve::serve, module)?)?;
    module.add_function(wrap_pyfunction!(definitions::validate, module)?)?;
    module.add_function(wrap_pyfunction!(definitions::parse_window, module)?)?;
    module.add_class::<mock::MockEngine>()?;
    closing::at_exit(module.py())
}
