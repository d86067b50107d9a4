//! A schema registry that speaks Confluent's HTTP interface: the schema of an id, with those that it refers to. An id's schema never
//! changes, so each is asked for once.

use super::settings::RegistrySettings;
use crate::settings::secret;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use thyme_core::{Error, ErrorKind, Result};
use tokio::runtime::Runtime;

const DEADLINE: Duration = Duration::from_secs(10);
/// References of references; a longer chain goes in a circle.
const DEEPEST: usize = 32;
/// "Schema not found", in the registry's own numbers.
const NO_SUCH_SCHEMA: u32 = 40_403;

/// A schema as it was registered.
pub struct Written {
    /// `AVRO`, `PROTOBUF` or `JSON`.
    pub kind: String,
    pub text: String,
    /// Name and text of each schema it refers to, after those that this one needs itself.
    pub references: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    schema: String,
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
}

pub struct Registry {
    settings: RegistrySettings,
    client: reqwest::Client,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for Registry {
    /// A source may be dropped where blocking is not allowed.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Registry {
    /// Nothing is asked yet.
    pub fn new(settings: RegistrySettings) -> Result<Registry> {
        let failed = |what: String| Error::internal(format!("no client for a schema registry: {what}"));
        let client = reqwest::Client::builder().timeout(DEADLINE).build().map_err(|error| failed(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Registry { settings, client, runtime: Some(runtime.map_err(|error| failed(error.to_string()))?) })
    }

    /// `None` if the registry knows no such id.
    pub fn schema(&self, id: u32) -> Result<Option<Written>> {
        let Some(answer) = self.get::<Answer>(&["schemas", "ids", &id.to_string()])? else { return Ok(None) };
        let mut references = Vec::new();
        self.follow(&answer.references, &mut references, 0)?;
        let kind = answer.schema_type.unwrap_or_else(|| "AVRO".to_string());
        Ok(Some(Written { kind, text: answer.schema, references }))
    }

    fn follow(&self, found: &[Reference], texts: &mut Vec<(String, String)>, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::precondition("references between schemas of the registry go in a circle"));
        }
        for reference in found {
            if texts.iter().any(|(name, _)| *name == reference.name) {
                continue;
            }
            let version = reference.version.to_string();
            let answer = self.get::<Answer>(&["subjects", &reference.subject, "versions", &version])?.ok_or_else(|| {
                let Reference { name, subject, .. } = reference;
                Error::precondition(format!(
                    "the schema registry has no version {version} of '{subject}', which a schema refers to as '{name}'"
                ))
            })?;
            self.follow(&answer.references, texts, depth + 1)?;
            texts.push((reference.name.clone(), answer.schema));
        }
        Ok(())
    }

    /// `None` if the registry says that there is no such schema: what another server answers at that place is an error.
    fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>> {
        let mut url = self.settings.url()?;
        let place = format!("the schema registry at {url}");
        url.path_segments_mut()
            .map_err(|()| Error::internal("a registry's address without a path"))?
            .pop_if_empty()
            .extend(path);
        let mut request =
            self.client.get(url).header("Accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(user) = self.settings.username() {
            request = request.basic_auth(user, self.password()?);
        }
        let runtime = self.runtime.as_ref().ok_or_else(|| Error::internal("the schema registry's client is closed"))?;
        let answered = runtime.block_on(async {
            let response = request.send().await?;
            Ok((response.status(), response.bytes().await?))
        });
        let (status, body) = answered.map_err(|error: reqwest::Error| {
            // The address it repeats has no secret; the cause is in its sources.
            let mut text = error.without_url().to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Error::unavailable(format!("{place} does not answer: {text}"))
                .hint("check schema_registry, and that it can be reached from the server")
        })?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map(Some).map_err(|error| {
                Error::unavailable(format!("{place} answers something else than a schema: {error}"))
                    .hint("check schema_registry: it is the address of Confluent's interface")
            }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let message = format!("{place} refuses the server: {status}");
                Err(Error::new(ErrorKind::FailedPrecondition, message).hint(
                    "check schema_registry_username, and the variable that schema_registry_password=Secret(env=…) names",
                ))
            }
            StatusCode::NOT_FOUND if is_no_such_schema(&body) => Ok(None),
            status => Err(Error::unavailable(format!("{place} answers {status}"))
                .hint("check schema_registry: it is the address of Confluent's interface")),
        }
    }

    fn password(&self) -> Result<Option<String>> {
        match &self.settings.password_from {
            Some(variable) => secret(variable, "schema_registry_password").map(Some),
            None => Ok(std::env::var("SCHEMA_REGISTRY_PASSWORD").ok()),
        }
    }
}

/// No such schema, subject or version.
fn is_no_such_schema(body: &[u8]) -> bool {
    let refusal = serde_json::from_slice::<Refusal>(body);
    refusal.is_ok_and(|refusal| matches!(refusal.error_code, 40_401 | 40_402 | NO_SUCH_SCHEMA))
}
