//! Errors as `application/problem+json`: `error`, `detail`, `code`, and where known `field`, `hint` and `location`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use thyme_core::{Error, ErrorKind};

/// One or more errors on their way out; the first decides the status.
#[derive(Debug)]
pub struct Problem {
    errors: Vec<Error>,
    status: Option<StatusCode>,
}

pub type Answered<T = Response> = Result<T, Problem>;

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem { errors: vec![error], status: None }
    }
}

impl From<Vec<Error>> for Problem {
    fn from(errors: Vec<Error>) -> Problem {
        Problem { errors, status: None }
    }
}

impl Problem {
    /// The request is larger than the server reads.
    pub fn too_large(limit: usize) -> Problem {
        let error = Error::new(ErrorKind::ResourceExhausted, format!("the request is larger than {limit} bytes"))
            .hint("send it in parts, or use Arrow Flight");
        Problem { errors: vec![error], status: Some(StatusCode::PAYLOAD_TOO_LARGE) }
    }

    pub fn method_not_allowed() -> Problem {
        let error = Error::invalid("this path does not take that method");
        Problem { errors: vec![error], status: Some(StatusCode::METHOD_NOT_ALLOWED) }
    }
}

fn describe(error: &Error) -> serde_json::Map<String, serde_json::Value> {
    let mut entry = serde_json::Map::new();
    entry.insert("error".to_string(), error.message().into());
    entry.insert("detail".to_string(), error.to_string().into());
    entry.insert("code".to_string(), error.kind().table().code.into());
    let optional = [("field", error.field_name()), ("hint", error.hint_text()), ("location", error.location())];
    for (name, text) in optional {
        if let Some(text) = text {
            entry.insert(name.to_string(), text.into());
        }
    }
    entry
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let unknown = Error::internal("failed without an error");
        let first = self.errors.first().unwrap_or(&unknown);
        let status = self
            .status
            .or_else(|| StatusCode::from_u16(first.kind().table().http).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = describe(first);
        body.insert("status".to_string(), status.as_u16().into());
        if self.errors.len() > 1 {
            let all = self.errors.iter().map(|error| describe(error).into()).collect();
            body.insert("errors".to_string(), serde_json::Value::Array(all));
        }
        let mut response = (status, serde_json::Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if first.kind() == ErrorKind::Unavailable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
