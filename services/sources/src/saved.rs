//! How the connectors' cursors are kept: JSON with the version of its format.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thyme_core::{Error, Result};

pub const START_OVER: &str = "read the source from its beginning: thyme sources reset DATASET";

pub trait Saved: Serialize + DeserializeOwned {
    /// The version this build writes and reads.
    const VERSION: u32;
    /// Whose cursor it is: `a Kafka topic`.
    const OF: &str;

    fn version(&self) -> u32;

    fn decode(bytes: &[u8]) -> Result<Self> {
        let cursor: Self = serde_json::from_slice(bytes).map_err(|_| {
            Error::precondition(format!("the saved cursor is not one of {}", Self::OF)).hint(START_OVER)
        })?;
        match cursor.version() {
            version if version == Self::VERSION => Ok(cursor),
            found => {
                let expected = Self::VERSION;
                let message = format!("the saved cursor has format version {found}, this build reads {expected}");
                Err(Error::precondition(message))
            }
        }
    }

    fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| Error::internal(format!("a cursor does not encode: {error}")))
    }
}
