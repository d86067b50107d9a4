//! Commands in JSON: the fields of the messages, by their names.

use serde::Deserialize;
use std::collections::BTreeMap;
use thyme_proto::v1;

/// The JSON form of a message, and what may stand in it besides. Fields that commands have in common are not shared by `flatten`: serde then
/// does not say which fields there are.
macro_rules! json_command {
    (
        $json:ident of $message:ident { $($(#[$how:meta])* $field:ident: $kind:ty,)* }
        besides { $($(#[$about:meta])* $other:ident: $other_kind:ty,)* }
    ) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $json {
            $($(#[$how])* pub $field: $kind,)*
            $($(#[$about])* pub $other: $other_kind,)*
        }

        impl From<$json> for v1::$message {
            fn from(json: $json) -> v1::$message {
                v1::$message { $($field: json.$field.given(),)* }
            }
        }
    };
}

/// A field as the message has it: one that is not there, or null, is empty.
trait Given<T> {
    fn given(self) -> T;
}

impl<T> Given<T> for T {
    fn given(self) -> T {
        self
    }
}

impl<T: Default> Given<T> for Option<T> {
    fn given(self) -> T {
        self.unwrap_or_default()
    }
}

json_command! {
    JsonExport of ExportCommand {
        featureset: Option<String>,
        #[serde(default)]
        featuresets: Vec<String>,
        #[serde(default)]
        entity_columns: BTreeMap<String, String>,
        timestamp_column: Option<String>,
        features: Option<Vec<String>>,
        known_at: Option<String>,
        #[serde(default)]
        exclusive: bool,
        at_least: Option<String>,
        #[serde(default)]
        statuses: bool,
        pin: Option<String>,
        spine: Option<String>,
    }
    besides {
        /// The column of the only key.
        entity_column: Option<String>,
    }
}

json_command! {
    JsonChanges of ChangesCommand {
        featureset: String,
        features: Option<Vec<String>>,
        since: Option<String>,
        until: Option<String>,
        known_at: Option<String>,
        #[serde(default)]
        exclusive: bool,
        at_least: Option<String>,
        #[serde(default)]
        statuses: bool,
        pin: Option<String>,
    }
    besides {}
}

json_command! {
    JsonRows of RowsCommand {
        dataset: String,
        since: Option<String>,
        until: Option<String>,
        known_at: Option<String>,
        at_least: Option<String>,
        pin: Option<String>,
    }
    besides {}
}

json_command! {
    JsonIngest of IngestCommand {
        dataset: String,
        event_id_column: Option<String>,
        call_id: Option<String>,
    }
    besides {}
}
