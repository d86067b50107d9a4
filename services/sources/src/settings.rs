//! A connector's settings: texts, numbers, and secrets that a commit only names.

use serde_json::Value as Json;
use thyme_core::definition::SourceDef;
use thyme_core::{Error, Result};

/// Variables that hold passwords of the server's own. What is left out of a definition is taken from some of them, as far as it goes to the
/// address that the environment names beside it; no definition names them.
const SERVERS_OWN: &[&str] =
    &["PGPASSWORD", "KAFKA_SASL_PASSWORD", "SCHEMA_REGISTRY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// A variable of the server's environment; tests have one of their own.
pub type Environment = fn(&str) -> Option<String>;

/// `None` where it is empty, too.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `None` where it is not set.
pub fn text<'a>(source: &'a SourceDef, name: &str) -> Result<Option<&'a str>> {
    match source.settings.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.as_str())),
        Some(other) => Err(Error::definition(format!("setting '{name}' is a text, got {other}")).field(name)),
    }
}

pub fn port(source: &SourceDef, name: &str) -> Result<Option<u16>> {
    let Some(given) = source.settings.get(name).filter(|given| !given.is_null()) else { return Ok(None) };
    let port = given.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    let wrong = || Error::definition(format!("setting '{name}' is a port from 1 to 65535, got {given}")).field(name);
    port.map(Some).ok_or_else(wrong)
}

/// The name of the variable that holds a secret: `{"env": NAME}`. A value written out would be kept with the commit for
/// everybody to read, so it is refused, and the message does not repeat it.
pub fn secret_name<'a>(source: &'a SourceDef, name: &str) -> Result<Option<&'a str>> {
    match source.settings.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(members)) if members.len() == 1 => match members.get("env") {
            Some(Json::String(variable)) if !variable.is_empty() => check_variable(variable, name).map(Some),
            _ => Err(no_secret(name)),
        },
        Some(_) => Err(no_secret(name)),
    }
}

/// A definition says where a secret is sent, so it names no secret that the server has for another place.
pub fn check_variable<'a>(variable: &'a str, name: &str) -> Result<&'a str> {
    let is_setting = variable.starts_with("THYME_") && variable.contains("__");
    if is_setting || SERVERS_OWN.contains(&variable) {
        let message = format!("'{name}' names {variable}, which holds a secret of the server's own");
        return Err(Error::definition(message)
            .field(name)
            .hint("set a variable for this source where the server is started, and name that; or leave it out"));
    }
    Ok(variable)
}

/// The value of that variable now, in the server's environment.
pub fn secret(variable: &str, name: &str) -> Result<String> {
    std::env::var(variable).map_err(|_| {
        Error::precondition(format!("the environment variable {variable} of '{name}' is not set"))
            .field(name)
            .hint("set it where the server is started")
    })
}

fn no_secret(name: &str) -> Error {
    let message = format!("setting '{name}' is a secret, and a secret is not written into a definition");
    Error::definition(message).field(name).hint(format!("write {name}=Secret(env=\"NAME_OF_A_VARIABLE\")"))
}
