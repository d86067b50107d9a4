"""What can go wrong, as exceptions: the class tells what to do, the message what happened, the hint how to fix it.

`ERROR_TABLE` mirrors the server's table (kind, gRPC code, CLI exit code); a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Location:
    """A place in the user's source: file as Python knows it, line counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        from thyme.location import display_path

        return f"{display_path(self.file)}:{self.line}"


class ThymeError(Exception):
    """Any error of Thyme.

    Attributes:
        message: what happened, lowercase, no full stop.
        hint: how to fix it, or None.
        field: the parameter, field or definition at fault, or None.
        location: the place in the user's source (`file:line`), or None.
        code: stable machine-readable name such as `not_found`.
        violations: where the server found several errors, each as (field, text); else empty.
    """

    code = "internal"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        field: str | None = None,
        location: Location | str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field
        self.location = location
        self.violations: list[tuple[str, str]] = []

    @property
    def exit_code(self) -> int:
        """Exit code of the command line for this error."""
        return ERROR_TABLE[self.code].exit

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location is not None else ""
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{place}{self.message}{hint}"


class InvalidArgumentError(ThymeError, ValueError):
    """A request that can never succeed as written."""

    code = "invalid_argument"


class ThymeDefinitionError(ThymeError):
    """A definition (dataset, pipeline, featureset) that does not hold together."""

    code = "invalid_definition"


class NotFoundError(ThymeError, LookupError):
    """The named thing does not exist."""

    code = "not_found"


class ConflictError(ThymeError):
    """It exists already, or another operation of the same sort is under way."""

    code = "conflict"


class FailedPreconditionError(ThymeError):
    """Valid, but not in the present state."""

    code = "failed_precondition"


class OutOfRangeError(ThymeError):
    """A time outside what is kept."""

    code = "out_of_range"


class UnauthenticatedError(ThymeError):
    """No credentials, or wrong ones."""

    code = "unauthenticated"


class PermissionDeniedError(ThymeError):
    """The credentials do not allow it."""

    code = "permission_denied"


class ResourceExhaustedError(ThymeError):
    """A limit was reached: too large, too many, disk full."""

    code = "resource_exhausted"


class UnimplementedError(ThymeError):
    """Not offered by this version."""

    code = "unimplemented"


class UnavailableError(ThymeError, ConnectionError):
    """The server cannot be reached or is not ready; try again later."""

    code = "unavailable"


class DeadlineExceededError(ThymeError, TimeoutError):
    """The deadline passed."""

    code = "deadline_exceeded"


class DataLossError(ThymeError):
    """Stored bytes are not what they should be."""

    code = "data_loss"


class InternalError(ThymeError):
    """A defect in Thyme."""

    code = "internal"


class NotInThisReleaseError(ThymeError, ImportError):
    """A public name that a later release will offer."""

    code = "unimplemented"


@dataclass(frozen=True)
class ErrorRow:
    """One row of the error table: exception class, numeric `google.rpc.Code`, exit code of the CLI."""

    error: type[ThymeError]
    grpc: int
    exit: int


ERROR_TABLE: dict[str, ErrorRow] = {
    "invalid_argument": ErrorRow(InvalidArgumentError, 3, 1),
    "invalid_definition": ErrorRow(ThymeDefinitionError, 3, 4),
    "not_found": ErrorRow(NotFoundError, 5, 5),
    "conflict": ErrorRow(ConflictError, 6, 1),
    "failed_precondition": ErrorRow(FailedPreconditionError, 9, 1),
    "out_of_range": ErrorRow(OutOfRangeError, 11, 1),
    "unauthenticated": ErrorRow(UnauthenticatedError, 16, 6),
    "permission_denied": ErrorRow(PermissionDeniedError, 7, 6),
    "resource_exhausted": ErrorRow(ResourceExhaustedError, 8, 7),
    "unimplemented": ErrorRow(UnimplementedError, 12, 1),
    "unavailable": ErrorRow(UnavailableError, 14, 7),
    "deadline_exceeded": ErrorRow(DeadlineExceededError, 4, 7),
    "data_loss": ErrorRow(DataLossError, 15, 1),
    "internal": ErrorRow(InternalError, 13, 1),
}


def error_class(code: str | None = None, grpc: int | None = None) -> type[ThymeError]:
    """The exception class for an error code, else for a numeric gRPC status, else `InternalError`."""
    if code in ERROR_TABLE:
        return ERROR_TABLE[code].error
    for row in ERROR_TABLE.values():
        if row.grpc == grpc:
            return row.error
    return InternalError
