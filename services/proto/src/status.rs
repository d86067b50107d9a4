//! Errors on the wire: the ONE place where an error kind becomes a gRPC status, and back.
//!
//! Details: `ErrorInfo` (domain `thyme`, reason = the stable code of the error table, metadata `location`), `BadRequest` (the
//! field at fault), `LocalizedMessage` (the hint), `RetryInfo` where trying again later makes sense. An error that is a part of an answer
//! carries the same.

use crate::v1;
use prost::Message as _;
use std::collections::HashMap;
use std::time::Duration;
use thyme_core::error::ERROR_TABLE;
use thyme_core::{Error, ErrorKind};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

const DOMAIN: &str = "thyme";
const LOCATION: &str = "location";
const HINT_LOCALE: &str = "en";
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status of one error.
pub fn to_status(error: &Error) -> Status {
    status_with(error, error.message(), violation(error).into_iter().collect())
}

/// The status of several errors, as a commit finds them: the first decides the code, `BadRequest` lists them all.
pub fn to_status_of_all(errors: &[Error]) -> Status {
    match errors {
        [] => to_status(&Error::internal("failed without an error")),
        [only] => to_status(only),
        [first, ..] => {
            let message = format!("{} errors: {}", errors.len(), first);
            let list =
                errors.iter().map(|error| (error.field_name().unwrap_or_default().to_string(), error.to_string()));
            status_with(first, &message, list.collect())
        }
    }
}

/// The status for clients that show nothing but the message (stock Arrow Flight): place and hint stand in the text.
pub fn to_plain_status(error: &Error) -> Status {
    status_with(error, &error.to_string(), violation(error).into_iter().collect())
}

fn violation(error: &Error) -> Option<(String, String)> {
    error.field_name().map(|field| (field.to_string(), error.message().to_string()))
}

fn status_with(error: &Error, message: &str, violations: Vec<(String, String)>) -> Status {
    let row = error.kind().table();
    let mut metadata = HashMap::new();
    if let Some(location) = error.location() {
        metadata.insert(LOCATION.to_string(), location.to_string());
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(row.code, DOMAIN, metadata);
    for (field, description) in violations {
        details.add_bad_request_violation(field, description);
    }
    if let Some(hint) = error.hint_text() {
        details.set_localized_message(HINT_LOCALE, hint);
    }
    if error.kind() == ErrorKind::Unavailable {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(Code::from_i32(row.grpc), message, details)
}

/// Whether Thyme made a status, and not the transport.
pub fn is_of_thyme(status: &Status) -> bool {
    status.get_error_details().error_info().is_some_and(|info| info.domain == DOMAIN)
}

/// An error as a part of an answer: the status of [`to_status`], as a message.
pub fn to_message(error: &Error) -> v1::ErrorStatus {
    let status = to_status(error);
    let without_details =
        |_| v1::ErrorStatus { code: status.code().into(), message: status.message().to_string(), details: Vec::new() };
    v1::ErrorStatus::decode(status.details()).unwrap_or_else(without_details)
}

/// Reads such a part back.
pub fn from_message(error: &v1::ErrorStatus) -> Error {
    let details = error.encode_to_vec().into();
    from_status(&Status::with_details(Code::from_i32(error.code), &error.message, details))
}

/// Reads a status back, whether Thyme made it (by its code) or the transport did (by the gRPC code).
pub fn from_status(status: &Status) -> Error {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    let row = ERROR_TABLE.iter().find(|row| Some(row.code) == reason);
    let row = row.or_else(|| ERROR_TABLE.iter().find(|row| row.grpc == status.code() as i32));
    let mut error = Error::new(row.map_or(ErrorKind::Internal, |row| row.kind), status.message());
    if let Some(violation) = details.bad_request().and_then(|request| request.field_violations.first()) {
        error = error.field(&*violation.field);
    }
    if let Some(hint) = details.localized_message() {
        error = error.hint(&*hint.message);
    }
    if let Some(location) = details.error_info().and_then(|info| info.metadata.get(LOCATION)) {
        error = error.at(location.as_str());
    }
    error
}
