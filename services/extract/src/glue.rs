//! The Python side of the runtime, compiled in.

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use std::ffi::CString;
use thyme_core::error::Error;

static GLUE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// The glue module.
pub(crate) fn glue(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let module = GLUE.get_or_try_init(py, || {
        let code = CString::new(include_str!("glue.py")).map_err(|error| to_runtime_error(&error))?;
        PyModule::from_code(py, &code, c"thyme/_glue.py", c"thyme._glue").map(Bound::unbind)
    })?;
    Ok(module.bind(py))
}

fn to_runtime_error(error: &impl ToString) -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err(error.to_string())
}

/// The exception with its traceback: before Python 3.12 the two travel apart.
pub(crate) fn exception<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyBaseException> {
    error.clone_ref(py).into_value(py).into_bound(py)
}

/// Type, message and place of a Python exception, in one line.
pub fn describe_error(py: Python<'_>, error: &PyErr) -> String {
    let described =
        glue(py).and_then(|glue| glue.call_method1("describe", (exception(py, error),))?.extract::<String>());
    described.unwrap_or_else(|_| error.to_string())
}

/// The exception for an error: the class of `thyme.errors` with the same code.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    let code = error.kind().table().code;
    let arguments = (code, error.message(), error.hint_text(), error.field_name(), error.location());
    match glue(py).and_then(|glue| glue.call_method1("lookup_error", arguments)) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failed) => failed,
    }
}
