//! What a commit makes of the definitions that there are.

use super::Definitions;
use crate::error::Error;

/// `current` with `change` added: a commit adds and changes what it contains and never removes the rest. `remove` names
/// what goes (`Order`, `UserFeatures`, `UserFeatures.spend_7d`), and is refused while something depends on it.
pub fn merge(_current: &Definitions, _change: &Definitions, _remove: &[String]) -> Result<Definitions, Vec<Error>> {
    Err(vec![Error::internal("not built yet")])
}
