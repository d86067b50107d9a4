"""Python values as typed literals: `{"int": 5}`, `{"datetime": microseconds}` …"""

from __future__ import annotations

import base64
import datetime as _datetime
import decimal
import math

from thyme.errors import InvalidArgumentError, Location, ThymeDefinitionError
from thyme.location import caller_location

_EPOCH = _datetime.datetime(1970, 1, 1, tzinfo=_datetime.timezone.utc)
NAIVE_HINT = (
    "give it a time zone: datetime(2024, 1, 15, tzinfo=timezone.utc), or ISO-8601 text, which is UTC without one"
)


def datetime_micros(value: _datetime.datetime) -> int:
    """Microseconds since 1970 UTC.

    Raises:
        InvalidArgumentError: a naive datetime: which instant it means is not known.
    """
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidArgumentError(f"a datetime without a time zone: {value!r}", hint=NAIVE_HINT)
    return (value - _EPOCH) // _datetime.timedelta(microseconds=1)


def micros_datetime(micros: int) -> _datetime.datetime:
    """The aware UTC datetime of microseconds since 1970."""
    return _EPOCH + _datetime.timedelta(microseconds=micros)


def format_micros(micros: int) -> str:
    """ISO-8601 in UTC with `Z`; a fraction only when there is one, without trailing zeros."""
    try:
        moment = micros_datetime(micros)
    except OverflowError:
        return f"{micros}us"
    text = moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{text}{fraction}Z"


def decimal_text(value: decimal.Decimal) -> str:
    """A finite Decimal as the server writes it: no exponent, no zeros after the last digit of a fraction."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _fits(value: decimal.Decimal) -> bool:
    """Whether a Decimal has at most 20 digits before and 18 after the point."""
    _, digits, exponent = value.as_tuple()
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return not value or (value.adjusted() < 20 and -int(exponent) - zeros <= 18)


def literal(value: object, location: Location | None = None) -> dict[str, object]:
    """The JSON form of a literal.

    Raises:
        ThymeDefinitionError: a naive datetime, NaN or infinity, an integer beyond 64 bits, or a type that columns lack.
    """

    def refused(message: str, hint: str | None = None) -> ThymeDefinitionError:
        return ThymeDefinitionError(message, hint=hint, location=location or caller_location())

    if value is None:
        return {"null": None}
    if isinstance(value, bool):
        return {"bool": value}
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise refused(f"integer literal beyond 64 bits: {value}")
        return {"int": int(value)}
    if isinstance(value, float):
        if not math.isfinite(value):
            raise refused(f"{value} is not a value", "test for missing values with is_null()")
        return {"float": float(value)}
    if isinstance(value, str):
        return {"str": str(value)}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, _datetime.datetime):
        try:
            return {"datetime": datetime_micros(value)}
        except InvalidArgumentError as error:
            raise refused(error.message, error.hint) from None
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return {"list": [literal(item, location) for item in items]}
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise refused(f"{value} is not a value", "test for missing values with is_null()")
        if not _fits(value):
            raise refused(f"{value} has too many digits for a Decimal", "at most 20 before and 18 after the point")
        return {"decimal": decimal_text(value)}
    if hasattr(value, "item") and hasattr(value, "dtype"):  # a NumPy scalar
        return literal(value.item(), location)
    raise refused(
        f"a {type(value).__name__} cannot be a literal: {value!r}",
        "allowed: None, bool, int, float, Decimal, str, bytes, datetime with a time zone, and lists of them",
    )
