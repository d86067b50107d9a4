//! Where the schema registry is, and who asks it. What is left out comes from the server's environment.

use super::{Format, NAMES};
use crate::settings::{Environment, environment, secret, secret_name, text};
use reqwest::Url;
use thyme_core::definition::SourceDef;
use thyme_core::{Error, Result};

/// What is left out comes from `SCHEMA_REGISTRY_URL`, `SCHEMA_REGISTRY_USERNAME`, `SCHEMA_REGISTRY_PASSWORD`.
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    url: Option<Url>,
    username: Option<String>,
    /// The name of the variable.
    password_from: Option<String>,
}

/// Where it is now, by the definition and the environment.
pub struct Address {
    pub url: Url,
    /// User and password. Neither is sent where there is no user.
    pub login: Option<(String, Option<String>)>,
}

impl RegistrySettings {
    pub fn of(source: &SourceDef, format: Format) -> Result<RegistrySettings> {
        let given = NAMES.iter().filter(|name| name.starts_with("schema_registry"));
        let given: Vec<&&str> =
            given.filter(|name| source.settings.get(**name).is_some_and(|v| !v.is_null())).collect();
        if let (Format::Json, Some(name)) = (format, given.first()) {
            return Err(Error::definition(format!("format \"json\" takes no {name}"))
                .field(**name)
                .hint("leave it out: JSON is read without its schema"));
        }
        let owned = |name: &str| -> Result<Option<String>> {
            Ok(text(source, name)?.filter(|text| !text.is_empty()).map(str::to_string))
        };
        Ok(RegistrySettings {
            url: owned("schema_registry")?.map(|text| registry_url(&text)).transpose()?,
            username: owned("schema_registry_username")?,
            password_from: secret_name(source, "schema_registry_password")?.map(str::to_string),
        })
    }

    pub fn address(&self) -> Result<Address> {
        self.address_in(environment)
    }

    pub fn address_in(&self, environment: Environment) -> Result<Address> {
        let own = environment("SCHEMA_REGISTRY_URL").map(|text| registry_url(&text));
        let url = match (&self.url, &own) {
            (Some(url), _) | (None, Some(Ok(url))) => url.clone(),
            (None, Some(Err(error))) => return Err(error.clone().context("SCHEMA_REGISTRY_URL")),
            (None, None) => return Err(no_registry()),
        };
        // Whoever commits says where the registry is: the server's own user and password go to the server's own registry only.
        let is_servers_own = matches!(&own, Some(Ok(own)) if own.origin() == url.origin());
        let may_be_named = is_servers_own || self.password_from.is_some();
        let named = || environment("SCHEMA_REGISTRY_USERNAME").filter(|_| may_be_named);
        let Some(user) = self.username.clone().or_else(named) else {
            return if self.password_from.is_some() { Err(no_user()) } else { Ok(Address { url, login: None }) };
        };
        let password = match &self.password_from {
            Some(variable) => Some(secret(variable, "schema_registry_password")?),
            None => environment("SCHEMA_REGISTRY_PASSWORD").filter(|_| is_servers_own),
        };
        Ok(Address { url, login: Some((user, password)) })
    }
}

fn no_registry() -> Error {
    Error::precondition("the Kafka source names no schema registry")
        .field("schema_registry")
        .hint("write schema_registry=\"https://…\", or set SCHEMA_REGISTRY_URL where the server is started")
}

fn no_user() -> Error {
    Error::precondition("the schema registry is given a password but no user")
        .field("schema_registry_username")
        .hint("write schema_registry_username=…, or set SCHEMA_REGISTRY_USERNAME where the server is started")
}

fn registry_url(text: &str) -> Result<Url> {
    let wrong = |what: &str, hint: &str| Err(Error::definition(what.to_string()).field("schema_registry").hint(hint));
    match Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => wrong(
            "schema_registry: user and password do not belong into the address",
            "write schema_registry_username=… and schema_registry_password=Secret(env=…)",
        ),
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain(&url) => Ok(url),
        _ => wrong(
            "schema_registry is no http:// or https:// address",
            "such as https://registry.example.com:8081; one only",
        ),
    }
}

/// Without what belongs to one question only, and may be secret.
fn is_plain(url: &Url) -> bool {
    url.query().is_none() && url.fragment().is_none()
}
