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


def to_pylist(data: pa.Table | pa.RecordBatch | pa.Array | pa.ChunkedArray) -> list[Any]:
    """The rows or values of Arrow data; a map as a dict, Decimals without the zeros that fill a column's digits."""
    values: list[Any] = data.to_pylist()
    if not isinstance(data, (pa.Table, pa.RecordBatch)):
        return [_read(value, data.type) for value in values] if _is_read(data.type) else values
    types = {found.name: found.type for found in data.schema if _is_read(found.type)}
    for row in values if types else ():
        row.update({name: _read(row[name], wanted) for name, wanted in types.items()})
    return values


def _is_read(given: pa.DataType) -> bool:
    """Whether it has values that Arrow hands over in another form than we do."""
    return any(name in str(given) for name in ("decimal", "map<"))


def _read(value: Any, given: pa.DataType) -> Any:
    if isinstance(value, Decimal):
        return Decimal(decimal_text(value))
    if value is None or not pa.types.is_nested(given):
        return value
    if pa.types.is_map(given):
        return {name: _read(entry, given.item_type) for name, entry in value}
    if pa.types.is_struct(given):
        return {found.name: _read(value[found.name], found.type) for found in given}
    return value if pa.types.is_union(given) else [_read(entry, given.value_type) for entry in value]


def _entries(value: Any, wanted: pa.DataType) -> Any:
    """Dicts as the pairs that an Arrow map is built from."""
    if value is None or not pa.types.is_nested(wanted):
        return value
    if pa.types.is_map(wanted):
        return [(name, _entries(entry, wanted.item_type)) for name, entry in value.items()]
    if pa.types.is_struct(wanted):
        return {found.name: _entries(value[found.name], found.type) for found in wanted}
    return [_entries(entry, wanted.value_type) for entry in value]
