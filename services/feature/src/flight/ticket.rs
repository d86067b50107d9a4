//! Tickets: what GetFlightInfo tells and DoGet takes. Nothing in one is trusted more than in a command.

use super::command::Form;
use super::range_command::Command;
use arrow_flight::Ticket;
use prost::Message as _;
use std::ops::RangeInclusive;
use thyme_core::{Error, Result};
use thyme_proto::v1;

const OF_A_PART: &str = "type.googleapis.com/thyme.v1.ExportTicket";
const OF_SLICES: &str = "type.googleapis.com/thyme.v1.RangeTicket";
const MAX_BYTES: usize = 64 << 10;

/// What a ticket asks for.
pub(super) enum Asked {
    /// A part of a spine that was put before. The form is how the command was written.
    Part { command: v1::ExportCommand, part: u32, form: Form },
    /// Without a spine: the keys of some hash slices.
    Slices { command: Command, slices: RangeInclusive<u8> },
}

impl Asked {
    pub fn ticket(self) -> Result<Ticket> {
        let (kind, value, instead) = match self {
            Asked::Part { command, part, form } => {
                let ticket = v1::ExportTicket { command: Some(command), part, json: form == Form::Json };
                (OF_A_PART, ticket.encode_to_vec(), "; or use DoExchange")
            }
            Asked::Slices { command, slices } => {
                let (first_slice, last_slice) = (u32::from(*slices.start()), u32::from(*slices.end()));
                let ticket = v1::RangeTicket { command: Some(command), first_slice, last_slice };
                (OF_SLICES, ticket.encode_to_vec(), "")
            }
        };
        let bytes = prost_types::Any { type_url: kind.to_string(), value }.encode_to_vec();
        if bytes.len() > MAX_BYTES {
            let message = format!("a ticket of {} bytes; at most {MAX_BYTES} are taken", bytes.len());
            let hint = format!("name fewer features, or none for all of them{instead}");
            return Err(Error::invalid(message).hint(hint));
        }
        Ok(Ticket::new(bytes))
    }

    pub fn read(ticket: &Ticket) -> Result<Asked> {
        if ticket.ticket.len() > MAX_BYTES {
            return Err(wrong("it is too long"));
        }
        let any = prost_types::Any::decode(ticket.ticket.clone()).map_err(|_| wrong("it is not readable"))?;
        match any.type_url.as_str() {
            OF_A_PART => read_part(&any.value),
            OF_SLICES => read_slices(&any.value),
            _ => Err(wrong("it is of another kind")),
        }
    }
}

fn read_part(value: &[u8]) -> Result<Asked> {
    let ticket = v1::ExportTicket::decode(value).map_err(|_| wrong("it is not readable"))?;
    let command = ticket.command.unwrap_or_default();
    if command.spine.is_empty() || command.pin.is_empty() {
        return Err(wrong("it has no spine or no pin"));
    }
    let form = if ticket.json { Form::Json } else { Form::Protobuf };
    Ok(Asked::Part { command, part: ticket.part, form })
}

fn read_slices(value: &[u8]) -> Result<Asked> {
    let ticket = v1::RangeTicket::decode(value).map_err(|_| wrong("it is not readable"))?;
    let slice = |number: u32| u8::try_from(number).map_err(|_| wrong("there are 256 hash slices"));
    let slices = slice(ticket.first_slice)?..=slice(ticket.last_slice)?;
    if slices.is_empty() {
        return Err(wrong("its hash slices end before they begin"));
    }
    let command = ticket.command.ok_or_else(|| wrong("it asks for nothing"))?;
    Ok(Asked::Slices { command, slices })
}

fn wrong(what: &str) -> Error {
    Error::invalid(format!("not a ticket of GetFlightInfo: {what}"))
        .field("ticket")
        .hint("pass a ticket as GetFlightInfo has told it, or ask it again")
}
