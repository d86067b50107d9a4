"""Python values as typed values of the wire, and back. An int stays an int, a float a float, null is said."""

from __future__ import annotations

import datetime as _datetime
import decimal
from collections.abc import Mapping
from typing import Any

from thyme import _proto
from thyme.errors import InvalidArgumentError
from thyme.literals import NAIVE_HINT, datetime_micros, micros_datetime


def to_value(value: Any, what: str = "value") -> Any:
    """The wire form of a Python value.

    Raises:
        InvalidArgumentError: a naive datetime, an int beyond 64 bits, or a type that columns cannot have.
    """
    if value is None:
        return _proto.Value(null_value=0)
    if isinstance(value, bool):
        return _proto.Value(bool_value=value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidArgumentError(f"{what}: integer beyond 64 bits: {value}", field=what)
        return _proto.Value(int64_value=value)
    if isinstance(value, float):
        return _proto.Value(double_value=value)
    if isinstance(value, str):
        return _proto.Value(string_value=value)
    if isinstance(value, decimal.Decimal):
        return _proto.Value(decimal_value=str(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _proto.Value(bytes_value=bytes(value))
    if isinstance(value, _datetime.datetime):
        if value != value:  # pandas NaT
            return _proto.Value(null_value=0)
        if value.tzinfo is None:
            raise InvalidArgumentError(
                f"{what}: a datetime without a time zone: {value!r}", hint=NAIVE_HINT, field=what
            )
        return _proto.Value(datetime_micros=datetime_micros(value))
    if isinstance(value, Mapping):
        entries = {str(name): to_value(entry, what) for name, entry in value.items()}
        return _proto.Value(map_value=_proto.MapValue(entries=entries))
    if isinstance(value, (list, tuple)) or type(value).__name__ == "ndarray":
        return _proto.Value(list_value=_proto.ListValue(values=[to_value(entry, what) for entry in value]))
    if type(value).__module__ == "numpy" and type(value).__name__ == "datetime64":
        return _proto.Value(datetime_micros=int(value.astype("datetime64[us]").astype("int64")))
    if hasattr(value, "item") and hasattr(value, "dtype"):  # a NumPy scalar
        return to_value(value.item(), what)
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas.NA, pandas.NaT
        return _proto.Value(null_value=0)
    raise InvalidArgumentError(f"{what}: a {type(value).__name__} is no value: {value!r}", field=what)


def from_value(value: Any) -> Any:
    """The Python value of a wire value; datetimes are aware, UTC."""
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "datetime_micros":
        return micros_datetime(value.datetime_micros)
    if kind == "decimal_value":
        return decimal.Decimal(value.decimal_value)
    if kind == "list_value":
        return [from_value(entry) for entry in value.list_value.values]
    if kind == "map_value":
        return {name: from_value(value.map_value.entries[name]) for name in sorted(value.map_value.entries)}
    return getattr(value, kind)


def to_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row, key or set of inputs: name to wire value."""
    return {str(name): to_value(value, str(name)) for name, value in row.items()}


def from_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Name to Python value."""
    return {name: from_value(fields[name]) for name in fields}


_ARRAYS = {
    "bools": ("BoolArray", "values", False),
    "ints": ("Int64Array", "values", 0),
    "doubles": ("DoubleArray", "values", 0.0),
    "strings": ("StringArray", "values", ""),
    "bytes": ("BytesArray", "values", b""),
    "datetimes": ("DatetimeArray", "micros", 0),
    "decimals": ("DecimalArray", "values", ""),
}


def to_column(name: str, values: list[Any]) -> Any:
    """A column of one type; of mixed types, or of lists and dicts, as single values."""
    wire = [to_value(value, name) for value in values]
    kinds = {value.WhichOneof("kind") for value in wire} - {"null_value"}
    names = {
        "bool_value": "bools", "int64_value": "ints", "double_value": "doubles", "string_value": "strings",
        "bytes_value": "bytes", "datetime_micros": "datetimes",
        "decimal_value": "decimals",
    }  # fmt: skip
    array = names.get(next(iter(kinds))) if len(kinds) == 1 else None
    if array is None:
        return _proto.Column(name=name, any=_proto.ListValue(values=wire))
    message, member, zero = _ARRAYS[array]
    kind = next(iter(kinds))
    nulls = [row for row, value in enumerate(wire) if value.WhichOneof("kind") == "null_value"]
    content = [getattr(value, kind) if value.WhichOneof("kind") == kind else zero for value in wire]
    return _proto.Column(name=name, null_rows=nulls, **{array: getattr(_proto, message)(**{member: content})})


def from_column(column: Any) -> list[Any]:
    """The Python values of a column."""
    array = column.WhichOneof("values")
    if array is None:
        return [None] * len(column.null_rows)
    if array == "any":
        return [from_value(value) for value in column.any.values]
    _, member, _ = _ARRAYS[array]
    values = list(getattr(getattr(column, array), member))
    if array == "datetimes":
        values = [micros_datetime(micros) for micros in values]
    if array == "decimals":
        values = [decimal.Decimal(text) if text else None for text in values]
    for row in column.null_rows:
        values[row] = None
    return values
