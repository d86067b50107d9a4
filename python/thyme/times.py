"""Times as users give them: aware datetimes, ISO-8601 text (UTC without a zone). Inside, microseconds, UTC."""

from __future__ import annotations

import datetime as _datetime
import re

from thyme.errors import InvalidArgumentError
from thyme.literals import datetime_micros

_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9})\d*)?)?)?"
    r"\s*(?:([Zz])|([+\- ])(\d{2}):?(\d{2}))?"
)
_HINT = "write ISO-8601 in UTC, for example 2024-01-15T12:00:00Z"


def parse_micros(text: str) -> int:
    """Microseconds since 1970 of ISO-8601 text; UTC without a zone, finer than a microsecond floored.

    Raises:
        InvalidArgumentError: not a time.
    """
    found = _ISO.fullmatch(text.strip())
    if found is None:
        raise InvalidArgumentError(f"not a time: '{text}'", hint=_HINT)
    year, month, day, hour, minute, second, fraction, _zulu, sign, zone_hours, zone_minutes = found.groups()
    try:
        moment = _datetime.datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            tzinfo=_datetime.timezone.utc,
        )
    except ValueError as error:
        raise InvalidArgumentError(f"not a time: '{text}' ({error})", hint=_HINT) from None
    offset = 0 if zone_hours is None else int(zone_hours) * 60 + int(zone_minutes)
    offset = -offset if sign == "-" else offset
    micros = int((fraction or "").ljust(6, "0")[:6] or 0)
    return datetime_micros(moment) + micros - offset * 60_000_000


def as_micros(value: object, what: str = "ts") -> int:
    """Microseconds since 1970 of an aware datetime, ISO-8601 text, pandas or NumPy time.

    Raises:
        InvalidArgumentError: a naive datetime, or no time at all.
    """
    try:
        if isinstance(value, _datetime.datetime):
            return datetime_micros(value)
        if isinstance(value, str):
            return parse_micros(value)
        if type(value).__module__ == "numpy" and type(value).__name__ == "datetime64":
            return int(value.astype("datetime64[us]").astype("int64"))
    except InvalidArgumentError as error:
        error.field = error.field or what
        raise
    raise InvalidArgumentError(
        f"{what} takes a datetime with a time zone or ISO-8601 text, got {value!r}", hint=_HINT, field=what
    )
