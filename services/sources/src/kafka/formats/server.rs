//! A registry for tests: fixed answers by path.

use super::settings_of;
use crate::kafka::decode::Decoder;
use crate::kafka::schemas::{Schemas, Waits};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thyme_core::schema::Field;

/// For tests that are about waiting, or must not.
pub const SHORT: Waits = Waits {
    answer: Duration::from_secs(5),
    schema: Duration::from_secs(60),
    pause: Duration::from_millis(1),
    missing: Duration::from_secs(3600),
};

#[derive(Clone)]
pub enum Answer {
    Body(u16, String),
    /// To another address.
    Redirect(String),
    /// The connection stays open, and nothing comes.
    Silence,
    /// A body with status 200, after a while.
    Late(Duration, String),
    /// Fewer bytes than were promised.
    Torn,
    /// More bytes than any schema has.
    Endless,
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    asked: Vec<String>,
}

pub struct Registry {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Registry {
    /// It knows nothing yet, and says so.
    pub fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let serving = state.clone();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                silent.extend(serve(stream.unwrap(), &serving));
            }
        });
        Registry { address, state }
    }

    pub fn answer(&self, path: &str, answer: Answer) {
        self.state.lock().unwrap().answers.insert(path.to_string(), answer);
    }

    pub fn json(&self, path: &str, status: u16, body: &Json) {
        self.answer(path, Answer::Body(status, body.to_string()));
    }

    pub fn avro(&self, id: u32, schema: &Json) {
        self.json(&format!("/schemas/ids/{id}"), 200, &json!({"schema": schema.to_string()}));
    }

    pub fn protobuf(&self, id: u32, text: &str) {
        self.json(&format!("/schemas/ids/{id}"), 200, &json!({"schema": text, "schemaType": "PROTOBUF"}));
    }

    /// Paths in the order in which they were asked for, each with the authorization that was sent.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    pub fn settings(&self, format: &str) -> Json {
        json!({"topic": "t", "format": format, "schema_registry": self.address})
    }

    pub fn decoder(&self, format: &str, fields: &[Field]) -> Decoder {
        Decoder::new(&settings_of(&self.settings(format)).unwrap(), fields)
    }

    pub fn schemas(&self, format: &str, waits: Waits) -> Schemas {
        schemas(&self.settings(format), waits)
    }
}

pub fn schemas(settings: &Json, waits: Waits) -> Schemas {
    let settings = settings_of(settings).unwrap();
    Schemas::new(settings.format, settings.registry, waits)
}

/// The connection, if it is to stay open.
fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Option<TcpStream> {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = head.first()?.split(' ').nth(1)?.to_string();
    let key = head.iter().find(|line| line.to_lowercase().starts_with("authorization:"));
    let missing = json!({"error_code": 40403, "message": "Schema not found"});
    let answer = {
        let mut state = state.lock().unwrap();
        state.asked.push(format!("{path} {}", key.map_or("", String::as_str)));
        state.answers.get(&path).cloned().unwrap_or(Answer::Body(404, missing.to_string()))
    };
    let text = match answer {
        Answer::Body(status, body) => {
            format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        }
        Answer::Redirect(to) => {
            format!("HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Answer::Torn => "HTTP/1.1 200 X\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{\"schema\"".to_string(),
        Answer::Late(wait, body) => {
            std::thread::sleep(wait);
            format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        }
        Answer::Silence => return Some(stream),
        Answer::Endless => {
            let head = format!("HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
            let mut sent = stream.write_all(head.as_bytes());
            while sent.is_ok() {
                sent = stream.write_all(&[b' '; 1 << 16]);
            }
            return None;
        }
    };
    // A client that gave up is no fault of the test's.
    let _ = stream.write_all(text.as_bytes());
    None
}
