//! Checks definitions and binds them.

use super::{Compiled, Definitions};
use crate::error::Error;

/// Checks everything and binds it to indices. All errors are reported, each with its place in the user's source.
pub fn compile(_definitions: &Definitions) -> Result<Compiled, Vec<Error>> {
    Err(vec![Error::internal("not built yet")])
}
