//! What takes one deployment to the next.

use super::{Compiled, Plan};
use crate::error::Error;
use std::collections::BTreeMap;

/// Every feature id ever published: (featureset, id) -> the name it was last published under.
pub type PublishedIds = BTreeMap<(String, u32), String>;

/// The plan that takes `current` to `next`. Refused: breaking changes without a version bump, and reused feature ids.
pub fn diff(_current: &Compiled, _next: &Compiled, _published: &PublishedIds) -> Result<Plan, Vec<Error>> {
    Err(vec![Error::internal("not built yet")])
}
