//! Flight descriptors: a command as protobuf (`google.protobuf.Any` around the message), its JSON form, or a path that names
//! a dataset or featureset.

use super::json::{JsonExport, JsonIngest};
use arrow_flight::FlightDescriptor;
use arrow_flight::flight_descriptor::DescriptorType;
use prost::Message as _;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use thyme_core::{Error, Result};
use thyme_proto::v1;

const DEFAULT_TIMESTAMP_COLUMN: &str = "timestamp";

/// How a command was written: results are answered the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Protobuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonSpine {
    spine: String,
}

/// What DoExchange and GetFlightInfo are asked to do.
pub(crate) fn export_command(descriptor: &FlightDescriptor) -> Result<v1::ExportCommand> {
    let mut command = match Described::read(descriptor)? {
        Described::Name(featureset) => v1::ExportCommand { featureset, ..v1::ExportCommand::default() },
        Described::Json(text) => {
            let mut json: JsonExport = parse_json(text)?;
            if json.featureset.is_none() && json.featuresets.is_empty() {
                return Err(unreadable("missing field `featureset`"));
            }
            if let Some(column) = json.entity_column.take() {
                json.entity_columns.insert("entity_id".to_string(), column);
            }
            json.into()
        }
        Described::Any(any) => unpack(&any, "ExportCommand")?,
    };
    if command.timestamp_column.is_empty() {
        command.timestamp_column = DEFAULT_TIMESTAMP_COLUMN.to_string();
    }
    Ok(command)
}

/// How a command was written.
pub(crate) fn form(descriptor: &FlightDescriptor) -> Result<Form> {
    Ok(match Described::read(descriptor)? {
        Described::Name(_) | Described::Json(_) => Form::Json,
        Described::Any(_) => Form::Protobuf,
    })
}

/// What DoPut is asked to do.
pub(crate) enum Put {
    Rows(v1::IngestCommand),
    Spine,
}

/// What DoPut is asked to do, and how to answer.
pub(crate) fn put_command(descriptor: &FlightDescriptor) -> Result<(Put, Form)> {
    Ok(match Described::read(descriptor)? {
        Described::Name(dataset) => {
            (Put::Rows(v1::IngestCommand { dataset, ..v1::IngestCommand::default() }), Form::Json)
        }
        Described::Json(text) if names_spine(text) => {
            let JsonSpine { spine } = parse_json(text)?;
            if spine != "new" {
                return Err(unreadable(format!("\"spine\" is \"{spine}\"")).hint("put one with {\"spine\": \"new\"}"));
            }
            (Put::Spine, Form::Json)
        }
        Described::Json(text) => {
            let json: JsonIngest = parse_json(text)?;
            (Put::Rows(json.into()), Form::Json)
        }
        Described::Any(any) if message_name(&any) == "thyme.v1.SpineCommand" => {
            unpack::<v1::SpineCommand>(&any, "SpineCommand")?;
            (Put::Spine, Form::Protobuf)
        }
        Described::Any(any) => (Put::Rows(unpack(&any, "IngestCommand")?), Form::Protobuf),
    })
}

fn names_spine(text: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Spine {
        #[serde(rename = "spine")]
        _spine: IgnoredAny,
    }
    serde_json::from_slice::<Spine>(text).is_ok()
}

/// The dataset or featureset that a descriptor names, in whatever form.
pub(crate) fn described_name(descriptor: &FlightDescriptor) -> Result<String> {
    match Described::read(descriptor)? {
        Described::Name(name) => Ok(name),
        Described::Json(_) | Described::Any(_) => {
            export_command(descriptor).map(|command| command.featureset).or_else(|error| {
                match put_command(descriptor) {
                    Ok((Put::Rows(command), _)) => Ok(command.dataset),
                    Ok((Put::Spine, _)) | Err(_) => Err(error),
                }
            })
        }
    }
}

pub(super) enum Described<'d> {
    Name(String),
    Json(&'d [u8]),
    Any(prost_types::Any),
}

impl Described<'_> {
    pub(super) fn read(descriptor: &FlightDescriptor) -> Result<Described<'_>> {
        match descriptor.r#type() {
            DescriptorType::Path => match descriptor.path.as_slice() {
                [name] => Ok(Described::Name(name.clone())),
                path => Err(Error::invalid(format!("a path of {} parts", path.len()))
                    .field("descriptor")
                    .hint("a path names one dataset or featureset")),
            },
            DescriptorType::Cmd if descriptor.cmd.trim_ascii_start().first() == Some(&b'{') => {
                Ok(Described::Json(&descriptor.cmd))
            }
            DescriptorType::Cmd => match prost_types::Any::decode(descriptor.cmd.clone()) {
                Ok(any) if !any.type_url.is_empty() => Ok(Described::Any(any)),
                Ok(_) | Err(_) => Err(unreadable("neither a JSON object nor a google.protobuf.Any")),
            },
            DescriptorType::Unknown => Err(unreadable("neither a command nor a path")),
        }
    }
}

fn unreadable(what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the flight descriptor is not understood: {what}"))
        .field("descriptor")
        .hint("send a command such as {\"featureset\": \"UserFeatures\"} or {\"dataset\": \"Order\"}")
}

pub(super) fn parse_json<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(unreadable)
}

pub(super) fn message_name(any: &prost_types::Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

pub(super) fn unpack<T: prost::Message + Default>(any: &prost_types::Any, name: &str) -> Result<T> {
    let given = message_name(any);
    if given != format!("thyme.v1.{name}") {
        return Err(unreadable(format!("expected thyme.v1.{name}, got {given}")));
    }
    T::decode(any.value.as_slice()).map_err(unreadable)
}
