//! One error type for the whole system. The *kind* tells the caller what to do, the *message* what happened, the *hint* how
//! to fix it. [`ErrorKind::table`] is the single table from kind to gRPC code, HTTP status and CLI exit code.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A request that can never succeed as written.
    InvalidArgument,
    /// A definition (dataset, pipeline, featureset) that does not hold together.
    InvalidDefinition,
    /// The named thing does not exist.
    NotFound,
    /// It exists already, or another operation of the same sort is under way.
    Conflict,
    /// Valid, but not in the present state (for example refused until another step is taken).
    FailedPrecondition,
    /// A time outside what is kept.
    OutOfRange,
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// The credentials do not allow it.
    PermissionDenied,
    /// A limit was reached: too large, too many, disk full.
    ResourceExhausted,
    /// Not offered by this version.
    Unimplemented,
    /// Try again later.
    Unavailable,
    /// The deadline passed.
    DeadlineExceeded,
    /// Stored bytes are not what they should be.
    DataLoss,
    /// A defect in Thyme.
    Internal,
}

/// One row of the error table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRow {
    pub kind: ErrorKind,
    /// Stable machine-readable name, the `code` of an `application/problem+json` body.
    pub code: &'static str,
    /// Numeric `google.rpc.Code`.
    pub grpc: i32,
    pub http: u16,
    /// Exit code of the CLI.
    pub exit: i32,
}

const fn row(kind: ErrorKind, code: &'static str, grpc: i32, http: u16, exit: i32) -> ErrorRow {
    ErrorRow { kind, code, grpc, http, exit }
}

/// The error table: kind, code, gRPC, HTTP, CLI exit.
pub const ERROR_TABLE: &[ErrorRow] = &[
    row(ErrorKind::InvalidArgument, "invalid_argument", 3, 400, 1),
    row(ErrorKind::InvalidDefinition, "invalid_definition", 3, 422, 4),
    row(ErrorKind::NotFound, "not_found", 5, 404, 5),
    row(ErrorKind::Conflict, "conflict", 6, 409, 1),
    row(ErrorKind::FailedPrecondition, "failed_precondition", 9, 409, 1),
    row(ErrorKind::OutOfRange, "out_of_range", 11, 400, 1),
    row(ErrorKind::Unauthenticated, "unauthenticated", 16, 401, 6),
    row(ErrorKind::PermissionDenied, "permission_denied", 7, 403, 6),
    row(ErrorKind::ResourceExhausted, "resource_exhausted", 8, 429, 7),
    row(ErrorKind::Unimplemented, "unimplemented", 12, 501, 1),
    row(ErrorKind::Unavailable, "unavailable", 14, 503, 7),
    row(ErrorKind::DeadlineExceeded, "deadline_exceeded", 4, 504, 7),
    row(ErrorKind::DataLoss, "data_loss", 15, 500, 1),
    row(ErrorKind::Internal, "internal", 13, 500, 1),
];

impl ErrorKind {
    pub fn table(self) -> &'static ErrorRow {
        let found = ERROR_TABLE.iter().find(|row| row.kind == self);
        match found {
            Some(row) => row,
            None => &ERROR_TABLE[ERROR_TABLE.len() - 1],
        }
    }
}

/// What went wrong: kind, message (lowercase, no full stop), and when known the field at fault, a hint and a place in the
/// user's source.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    kind: ErrorKind,
    message: String,
    field: Option<String>,
    hint: Option<String>,
    location: Option<String>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), field: None, hint: None, location: None }))
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }
    pub fn definition(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidDefinition, message)
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::FailedPrecondition, message)
    }
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }
    pub fn data_loss(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::DataLoss, message)
    }
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
    /// Names the request field, parameter or definition at fault.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }
    /// How to fix it, one sentence.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }
    /// `file:line` in the user's source.
    pub fn at(mut self, location: impl Into<String>) -> Self {
        self.0.location = Some(location.into());
        self
    }
    /// Puts `context: ` before the message.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    pub fn message(&self) -> &str {
        &self.0.message
    }
    pub fn field_name(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
    pub fn location(&self) -> Option<&str> {
        self.0.location.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.0.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(hint) = &self.0.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row_and_codes_are_unique() {
        for row in ERROR_TABLE {
            assert_eq!(ERROR_TABLE.iter().filter(|other| other.kind == row.kind || other.code == row.code).count(), 1);
            assert_eq!(row.kind.table(), row);
        }
    }

    #[test]
    fn display_carries_place_and_hint() {
        let error = Error::definition("unknown column 'amuont'").at("features.py:12").hint("did you mean 'amount'?");
        assert_eq!(error.to_string(), "features.py:12: unknown column 'amuont' (hint: did you mean 'amount'?)");
    }
}
