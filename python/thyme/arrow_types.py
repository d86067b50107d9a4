"""Column types as users write them, as Arrow types. Imports pyarrow: only where columns are built."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa

from thyme.literals import decimal_text

_SCALARS = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "bytes": pa.binary(),
    "datetime": pa.timestamp("us", tz="UTC"),
    "Decimal": pa.decimal128(38, 18),
}


def arrow_type(text: str) -> pa.DataType | None:
    """The Arrow type of `int`, `list[str]` …; None when the text is empty or unknown (the values decide then)."""
    if text in _SCALARS:
        return _SCALARS[text]
    if text.startswith("list[") and text.endswith("]"):
        item = arrow_type(text[5:-1])
        return None if item is None else pa.list_(item)
    if text.startswith("dict[str,") and text.endswith("]"):
        item = arrow_type(text[9:-1].strip())
        return None if item is None else pa.map_(pa.string(), item)
    if text.startswith("TopKEntry[") and text.endswith("]"):
        item = arrow_type(text[10:-1])
        return None if item is None else pa.struct([("value", item), ("count", pa.int64())])
    return None


def arrow_array(values: list[Any], type_text: str) -> pa.Array:
    """An Arrow array of Python values; by the values where the type is not known."""
    wanted = arrow_type(type_text)
    return pa.array(values) if wanted is None else pa.array([_entries(value, wanted) for value in values], wanted)


def to_pylist(data: pa.Table | pa.ChunkedArray) -> list[Any]:
    """The rows or values of Arrow data; Decimals without the zeros that fill a column's digits."""
    types = data.schema.types if isinstance(data, pa.Table) else [data.type]
    values = data.to_pylist()
    return _trimmed(values) if any("decimal" in str(found) for found in types) else values


def _trimmed(value: Any) -> Any:
    if isinstance(value, Decimal):
        return Decimal(decimal_text(value))
    if isinstance(value, dict):
        return {name: _trimmed(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_trimmed(entry) for entry in value)
    return value


def _entries(value: Any, wanted: pa.DataType) -> Any:
    """Dicts as the pairs that an Arrow map is built from."""
    if value is None or not pa.types.is_nested(wanted):
        return value
    if pa.types.is_map(wanted):
        return [(name, _entries(entry, wanted.item_type)) for name, entry in value.items()]
    if pa.types.is_struct(wanted):
        return {found.name: _entries(value[found.name], found.type) for found in wanted}
    return [_entries(entry, wanted.value_type) for entry in value]
