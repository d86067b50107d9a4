//! A schema registry that speaks Confluent's HTTP interface: the schema of an id, with those that it refers to.

use super::schemas::Waits;
use super::settings::{Address, RegistrySettings};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use std::cell::OnceCell;
use std::time::{Duration, Instant};
use thyme_core::{Error, Result};
use tokio::runtime::Runtime;

/// References of references.
const DEEPEST: usize = 32;
/// Schemas that one refers to, with those behind them.
const MOST_REFERENCES: usize = 200;
/// No schema is as large with all that it refers to; what answers more is no registry.
const LARGEST: usize = 16 << 20;
/// That there is no such subject, version or schema, in the registry's own numbers.
const NO_SUCH_SCHEMA: [u32; 3] = [40_401, 40_402, 40_403];
const CHECK_WAY: &str = "check schema_registry, and that it can be reached from the server";
const CHECK_CERTIFICATE: &str = "check schema_registry, that it can be reached from the server, and that its certificate is signed by an \
                                 authority of the server's system, or of the file that SSL_CERT_FILE names";
const CHECK_ADDRESS: &str = "check schema_registry: it is the address of Confluent's interface";

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
    references: Option<Vec<Reference>>,
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
    waits: Waits,
    /// Made for the first question: a definition is checked without.
    client: OnceCell<Client>,
}

/// What asks, one question after the other.
struct Client {
    http: reqwest::Client,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Drop for Client {
    /// A source may be dropped where blocking is not allowed.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Client {
    /// `deadline` is that of one question.
    fn new(deadline: Duration) -> Result<Client> {
        // It is asked so rarely that a connection kept open would be closed by then.
        let http = reqwest::Client::builder().timeout(deadline).pool_max_idle_per_host(0);
        // Where they lead would be sent user and password.
        let http = http.redirect(Policy::none()).build().map_err(|error| {
            Error::precondition(format!("no client for a schema registry: {}", chain(&error)))
                .hint("check the certificates of the server's system, or the file that SSL_CERT_FILE names")
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::internal(format!("no runtime: {error}")))?;
        Ok(Client { http, runtime: Some(runtime) })
    }

    fn ask(&self, request: RequestBuilder) -> Result<reqwest::Result<(StatusCode, Option<Vec<u8>>)>> {
        let runtime = self.runtime.as_ref().ok_or_else(|| Error::internal("the schema registry's client is closed"))?;
        Ok(runtime.block_on(answered(request)))
    }
}

/// One schema with what it refers to, as far as it is there.
struct Reading {
    until: Instant,
    bytes: usize,
    /// Name and text, as in [`Written::references`].
    texts: Vec<(String, String)>,
}

impl Reading {
    /// Before one more is looked into.
    fn check(&mut self, text: &str) -> Result<()> {
        self.bytes += text.len();
        if self.bytes > LARGEST || self.texts.len() >= MOST_REFERENCES {
            let message =
                format!("a schema refers to more than {MOST_REFERENCES} others, or to more than {LARGEST} bytes");
            return Err(Error::precondition(message).hint("larger ones are not read"));
        }
        if Instant::now() > self.until {
            return Err(Error::unavailable(
                "the schema registry does not answer in time for all that a schema refers to",
            ));
        }
        Ok(())
    }
}

impl Registry {
    pub fn new(settings: RegistrySettings, waits: Waits) -> Registry {
        Registry { settings, waits, client: OnceCell::new() }
    }

    fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(self.waits.answer)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// `None` if the registry knows no such id.
    pub fn schema(&self, id: u32) -> Result<Option<Written>> {
        let Some(answer) = self.get(&["schemas", "ids", &id.to_string()])? else { return Ok(None) };
        let until = Instant::now() + self.waits.schema;
        let mut reading = Reading { until, bytes: answer.schema.len(), texts: Vec::new() };
        self.follow(answer.references.unwrap_or_default(), &mut reading, &mut Vec::new())?;
        let kind = answer.schema_type.unwrap_or_else(|| "AVRO".to_string());
        Ok(Some(Written { kind, text: answer.schema, references: reading.texts }))
    }

    /// `path`: the names that led here.
    fn follow(&self, found: Vec<Reference>, reading: &mut Reading, path: &mut Vec<String>) -> Result<()> {
        for Reference { name, subject, version } in found {
            if reading.texts.iter().any(|(known, _)| *known == name) {
                continue;
            }
            if path.contains(&name) || path.len() >= DEEPEST {
                let way = path.join("' -> '");
                return Err(Error::precondition(format!(
                    "schemas of the registry refer to each other in a circle: '{way}' -> '{name}'"
                )));
            }
            let version = version.to_string();
            let answer = self.get(&["subjects", &subject, "versions", &version])?.ok_or_else(|| {
                let what = format!("the schema registry has no version {version} of '{subject}'");
                Error::precondition(format!("{what}, which a schema refers to as '{name}'"))
                    .hint("register it again, or grant the user the right to read that subject")
            })?;
            reading.check(&answer.schema)?;
            path.push(name);
            self.follow(answer.references.unwrap_or_default(), reading, path)?;
            reading.texts.extend(path.pop().map(|name| (name, answer.schema)));
        }
        Ok(())
    }

    /// `None` if the registry says that there is no such schema: what another server answers at that place is an error.
    fn get(&self, path: &[&str]) -> Result<Option<Answer>> {
        let Address { mut url, login } = self.settings.address()?;
        let place = format!("the schema registry at {url}");
        let reachable = if url.scheme() == "https" { CHECK_CERTIFICATE } else { CHECK_WAY };
        url.path_segments_mut()
            .map_err(|()| Error::internal("a registry's address without a path"))?
            .pop_if_empty()
            .extend(path);
        let client = self.client()?;
        let accepted = "application/vnd.schemaregistry.v1+json, application/json";
        let mut request = client.http.get(url).header("Accept", accepted);
        if let Some((user, password)) = login {
            request = request.basic_auth(user, password);
        }
        let (status, body) = client.ask(request)?.map_err(|error| {
            let what = if error.is_timeout() { "did not answer in time" } else { "does not answer" };
            // The address it repeats would be that of this one question.
            Error::unavailable(format!("{place} {what}: {}", chain(&error.without_url()))).hint(reachable)
        })?;
        match status {
            StatusCode::OK => match body.and_then(|body| serde_json::from_slice(&body).ok()) {
                Some(answer) => Ok(Some(answer)),
                None => {
                    Err(Error::unavailable(format!("{place} answers something else than a schema")).hint(CHECK_ADDRESS))
                }
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::precondition(format!(
                "{place} refuses the server: {status}"
            ))
            .hint(
                "check schema_registry_username, and the variable that schema_registry_password=Secret(env=…) names; \
                 SCHEMA_REGISTRY_PASSWORD is sent to the registry of SCHEMA_REGISTRY_URL only",
            )),
            status if status.is_redirection() => {
                Err(Error::precondition(format!("{place} answers {status}: it is at another address"))
                    .hint("write that address as schema_registry; user and password do not follow"))
            }
            StatusCode::NOT_FOUND if is_no_such_schema(&body.unwrap_or_default()) => Ok(None),
            status => Err(Error::unavailable(format!("{place} answers {status}")).hint(CHECK_ADDRESS)),
        }
    }
}

/// `None` for a body that is too large.
async fn answered(request: RequestBuilder) -> reqwest::Result<(StatusCode, Option<Vec<u8>>)> {
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        if body.len() + part.len() > LARGEST {
            return Ok((response.status(), None));
        }
        body.extend_from_slice(&part);
    }
    Ok((response.status(), Some(body)))
}

/// The error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn is_no_such_schema(body: &[u8]) -> bool {
    let refusal = serde_json::from_slice::<Refusal>(body);
    refusal.is_ok_and(|refusal| NO_SUCH_SCHEMA.contains(&refusal.error_code))
}
