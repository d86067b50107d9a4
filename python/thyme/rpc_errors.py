"""Errors of the wire as exceptions: by the stable code in their details, else by the status of the transport."""

from __future__ import annotations

import re
from typing import Any

from thyme import _proto
from thyme.errors import DeadlineExceededError, ThymeError, UnavailableError, error_class

DETAILS_KEY = "grpc-status-details-bin"


def from_rpc_error(error: Any, url: str) -> ThymeError:
    """The exception for a `grpc.RpcError`, synchronous or not."""
    metadata = dict(error.trailing_metadata() or ())
    return _from_status(error.code().value[0], error.details() or "", metadata.get(DETAILS_KEY), url)


def from_part(error: Any, url: str) -> ThymeError:
    """The exception for an error that is a part of an answer."""
    return _from_status(error.code, error.message, error.SerializeToString(), url)


def from_flight_error(error: Exception, url: str) -> ThymeError:
    """The exception for what `pyarrow.flight` raises: it keeps the details where the server gave some."""
    details = getattr(error, "extra_info", None)
    code = _FLIGHT_CODES.get(type(error).__name__, 13)
    text = str(error).split(". gRPC client debug context:")[0]
    for prefix in ("Flight error: ", "Flight returned "):
        if text.startswith(prefix):
            text = (
                text.split(": ", 1)[-1] if prefix == "Flight error: " else text.partition("with message: ")[2] or text
            )
    # Several codes come as one class.
    if told := _TOLD.fullmatch(text):
        code, text = _TOLD_CODES.get(told["code"], code), told["text"]
    return _from_status(code, text, details, url)


_TOLD = re.compile(r"gRPC returned (?P<code>[a-z -]+) error, with message: (?P<text>.*)", re.DOTALL)
_TOLD_CODES = {"precondition failed": 9, "out-of-range": 11, "resource exhausted": 8, "data loss": 15}
_FLIGHT_CODES = {
    "ArrowInvalid": 3,
    "ArrowKeyError": 5,
    "ArrowNotImplementedError": 12,
    "ArrowCapacityError": 8,
    "FlightUnavailableError": 14,
    "FlightTimedOutError": 4,
    "FlightUnauthenticatedError": 16,
    "FlightUnauthorizedError": 7,
    "FlightInternalError": 13,
    "FlightServerError": 13,
}


def _from_status(code: int, message: str, details: bytes | None, url: str) -> ThymeError:
    reason, field, hint, location, violations = None, None, None, None, []
    if details:
        status = _proto.message("google.rpc.Status").FromString(details)
        message = status.message or message
        for detail in status.details:
            name = detail.type_url.rpartition("/")[2]
            if name == "google.rpc.ErrorInfo":
                info = _proto.message(name).FromString(detail.value)
                reason, location = info.reason, info.metadata.get("location")
            elif name == "google.rpc.BadRequest":
                found = _proto.message(name).FromString(detail.value).field_violations
                violations = [(violation.field, violation.description) for violation in found]
                field = violations[0][0] or None if violations else None
            elif name == "google.rpc.LocalizedMessage":
                hint = _proto.message(name).FromString(detail.value).message
    kind = error_class(reason, code)
    if reason is None and kind is UnavailableError:
        return UnavailableError(f"cannot reach {url}", hint="is the server running? start one with: thyme serve")
    if reason is None and kind is DeadlineExceededError:
        return DeadlineExceededError(f"no answer from {url} in time", hint="give a longer timeout, or ask for less")
    # Flight shows nothing but the message, so place and hint stand in it as well.
    message = message.removesuffix(f" (hint: {hint})").removeprefix(f"{location}: ")
    error = kind(message, hint=hint, field=field, location=location)
    error.violations = violations if len(violations) > 1 else []
    return error
