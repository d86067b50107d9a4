//! Commands without a spine: changes of a featureset, rows of a dataset.

use super::command::{Described, message_name, parse_json, unpack};
use super::json::{JsonChanges, JsonRows};
use super::listing::schema_of;
use arrow_flight::FlightDescriptor;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use thyme_core::Result;
use thyme_core::definition::Compiled;
use thyme_proto::v1;

pub(crate) use thyme_proto::v1::range_ticket::Command;

/// What only a command about a spine says.
const OF_A_SPINE: [&str; 4] = ["spine", "entity_column", "entity_columns", "timestamp_column"];

/// What GetFlightInfo is asked for; `None` if it is about a spine. A path is all there is of what it names.
pub(crate) fn range_command(descriptor: &FlightDescriptor, compiled: &Compiled) -> Result<Option<Command>> {
    Ok(match Described::read(descriptor)? {
        Described::Name(name) => {
            schema_of(compiled, &name)?;
            Some(if compiled.datasets.contains_key(&name) {
                Command::Rows(v1::RowsCommand { dataset: name, ..v1::RowsCommand::default() })
            } else {
                Command::Changes(v1::ChangesCommand { featureset: name, ..v1::ChangesCommand::default() })
            })
        }
        Described::Json(text) => {
            let given: BTreeMap<String, IgnoredAny> = parse_json(text)?;
            if OF_A_SPINE.iter().any(|name| given.contains_key(*name)) {
                return Ok(None);
            }
            Some(if given.contains_key("dataset") {
                Command::Rows(parse_json::<JsonRows>(text)?.into())
            } else {
                Command::Changes(parse_json::<JsonChanges>(text)?.into())
            })
        }
        Described::Any(any) => match message_name(&any) {
            "thyme.v1.ExportCommand" => None,
            "thyme.v1.RowsCommand" => Some(Command::Rows(unpack(&any, "RowsCommand")?)),
            _ => Some(Command::Changes(unpack(&any, "ChangesCommand")?)),
        },
    })
}
