//! Commands without a spine: changes of a featureset, rows of a dataset; and the tickets for their parts.

use super::command::{Described, message_name, parse_json, unpack};
use super::listing::schema_of;
use arrow_flight::{FlightDescriptor, Ticket};
use prost::Message as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use thyme_core::definition::Compiled;
use thyme_core::{Error, Result};
use thyme_proto::v1;

pub(crate) use thyme_proto::v1::range_ticket::Command;

const TICKET: &str = "type.googleapis.com/thyme.v1.RangeTicket";
const MAX_TICKET_BYTES: usize = 64 << 10;

/// What only a command about a spine says.
const OF_A_SPINE: [&str; 4] = ["spine", "entity_column", "entity_columns", "timestamp_column"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonChanges {
    featureset: String,
    #[serde(default)]
    features: Option<Vec<String>>,
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    known_at: Option<String>,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    at_least: Option<String>,
    #[serde(default)]
    statuses: bool,
    #[serde(default)]
    pin: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRows {
    dataset: String,
    #[serde(default)]
    since: Option<String>,
    #[serde(default)]
    until: Option<String>,
    #[serde(default)]
    known_at: Option<String>,
    #[serde(default)]
    at_least: Option<String>,
    #[serde(default)]
    pin: Option<String>,
}

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
                Command::Rows(rows_of(parse_json(text)?))
            } else {
                Command::Changes(changes_of(parse_json(text)?))
            })
        }
        Described::Any(any) => match message_name(&any) {
            "thyme.v1.ExportCommand" => None,
            "thyme.v1.RowsCommand" => Some(Command::Rows(unpack(&any, "RowsCommand")?)),
            _ => Some(Command::Changes(unpack(&any, "ChangesCommand")?)),
        },
    })
}

fn changes_of(json: JsonChanges) -> v1::ChangesCommand {
    v1::ChangesCommand {
        featureset: json.featureset,
        features: json.features.unwrap_or_default(),
        since: json.since.unwrap_or_default(),
        until: json.until.unwrap_or_default(),
        known_at: json.known_at.unwrap_or_default(),
        exclusive: json.exclusive,
        at_least: json.at_least.unwrap_or_default(),
        statuses: json.statuses,
        pin: json.pin.unwrap_or_default(),
    }
}

fn rows_of(json: JsonRows) -> v1::RowsCommand {
    v1::RowsCommand {
        dataset: json.dataset,
        since: json.since.unwrap_or_default(),
        until: json.until.unwrap_or_default(),
        known_at: json.known_at.unwrap_or_default(),
        at_least: json.at_least.unwrap_or_default(),
        pin: json.pin.unwrap_or_default(),
    }
}

/// The ticket of a part.
pub(crate) fn ticket(command: Command, slices: RangeInclusive<u8>) -> Result<Ticket> {
    let (first_slice, last_slice) = (u32::from(*slices.start()), u32::from(*slices.end()));
    let ticket = v1::RangeTicket { command: Some(command), first_slice, last_slice };
    let any = prost_types::Any { type_url: TICKET.to_string(), value: ticket.encode_to_vec() };
    let bytes = any.encode_to_vec();
    if bytes.len() > MAX_TICKET_BYTES {
        let message = format!("a ticket of {} bytes; at most {MAX_TICKET_BYTES} are taken", bytes.len());
        return Err(Error::invalid(message).hint("name fewer features, or none for all of them"));
    }
    Ok(Ticket::new(bytes))
}

/// What a ticket says, and of which hash slices; `None` if it is of another kind. Nothing in it is trusted more than in a command.
pub(crate) fn read_ticket(ticket: &Ticket) -> Result<Option<(Command, RangeInclusive<u8>)>> {
    let wrong = |what: &str| {
        Error::invalid(format!("not a ticket of GetFlightInfo: {what}"))
            .field("ticket")
            .hint("pass a ticket as GetFlightInfo has told it, or ask it again")
    };
    if ticket.ticket.len() > MAX_TICKET_BYTES {
        return Err(wrong("it is too long"));
    }
    let any = prost_types::Any::decode(ticket.ticket.clone()).map_err(|_| wrong("it is not readable"))?;
    if any.type_url != TICKET {
        return Ok(None);
    }
    let ticket = v1::RangeTicket::decode(any.value.as_slice()).map_err(|_| wrong("it is not readable"))?;
    let slice = |number: u32| u8::try_from(number).map_err(|_| wrong("there are 256 hash slices"));
    let slices = slice(ticket.first_slice)?..=slice(ticket.last_slice)?;
    if slices.is_empty() {
        return Err(wrong("its hash slices end before they begin"));
    }
    let command = ticket.command.ok_or_else(|| wrong("it asks for nothing"))?;
    Ok(Some((command, slices)))
}
