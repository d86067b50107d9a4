"""Rows as users give them: list of dicts, pandas, Polars, pyarrow, anything with `__arrow_c_stream__`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from thyme.errors import InvalidArgumentError
from thyme.literals import NAIVE_HINT

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = "a list of dicts, a pandas or Polars DataFrame, a pyarrow Table, or anything with __arrow_c_stream__"


def is_columnar(rows: Any) -> bool:
    """Whether rows come as columns (a DataFrame or Arrow data) and not one by one."""
    return hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__") or _is_pandas(rows)


def as_dicts(rows: Any, what: str = "rows") -> list[Mapping[str, Any]]:
    """Rows that come one by one.

    Raises:
        InvalidArgumentError: something else.
    """
    if isinstance(rows, Mapping):
        rows = [rows]
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        raise InvalidArgumentError(f"{what} takes {_KINDS}; got {type(rows).__name__}", field=what)
    listed = list(rows)
    for index, row in enumerate(listed):
        if not isinstance(row, Mapping):
            raise InvalidArgumentError(f"{what}: row {index} is no dict: {row!r}", hint=f"give {_KINDS}", field=what)
    return listed


def as_table(rows: Any, integers: Iterable[str] = (), what: str = "rows") -> pa.Table:
    """Rows as a `pyarrow.Table`.

    NaN in a DataFrame is a missing value and becomes null. `integers` are columns whose declared type is int: pandas
    makes floats of them where values are missing, which is undone where it loses nothing.

    Raises:
        InvalidArgumentError: a naive `datetime` object in a list of dicts, or rows of another kind.
    """
    import pyarrow as pa

    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if _is_pandas(rows):
        return _integers(_without_nan(pa.Table.from_pandas(rows, preserve_index=False)), integers)
    if type(rows).__module__.partition(".")[0] == "polars":
        rows = rows.collect() if hasattr(rows, "collect") else rows
        return _without_nan(_small(pa.table(rows)))
    if hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__"):
        return pa.table(rows)
    listed = as_dicts(rows, what)
    refuse_naive(listed, what)
    names = list(dict.fromkeys(name for row in listed for name in row))
    try:
        return pa.table({name: [row.get(name) for row in listed] for name in names})
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InvalidArgumentError(f"{what}: {error}", hint="a column holds values of one type", field=what) from None


def refuse_naive(rows: Iterable[Mapping[str, Any]], what: str = "rows") -> None:
    """Raises for a `datetime` without a time zone: which instant it means is not known."""
    import datetime

    for index, row in enumerate(rows):
        for name, value in row.items():
            if isinstance(value, datetime.datetime) and value == value and value.tzinfo is None:
                raise InvalidArgumentError(
                    f"{what}: row {index}, {name}: a datetime without a time zone: {value!r}",
                    hint=NAIVE_HINT,
                    field=name,
                )


def _is_pandas(rows: Any) -> bool:
    return type(rows).__module__.partition(".")[0] == "pandas" and hasattr(rows, "columns")


def _without_nan(table: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    for index, column in enumerate(table.columns):
        if pa.types.is_floating(column.type):
            nan = pc.is_nan(column)
            if pc.any(nan).as_py():
                cleaned = pc.if_else(nan, pa.scalar(None, column.type), column)
                table = table.set_column(index, table.schema.names[index], cleaned)
    return table


def _integers(table: pa.Table, names: Iterable[str]) -> pa.Table:
    import pyarrow as pa

    for name in names:
        index = table.schema.get_field_index(name)
        if index >= 0 and pa.types.is_floating(table.schema.field(index).type):
            try:
                table = table.set_column(index, name, table.column(index).cast(pa.int64(), safe=True))
            except pa.ArrowInvalid:
                continue  # fractions: the server names the rows
    return table


def _small(table: pa.Table) -> pa.Table:
    """Large and view types as their plain forms."""
    import pyarrow as pa

    def plain(data_type: pa.DataType) -> pa.DataType:
        if pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type):
            return pa.string()
        if pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type):
            return pa.binary()
        if pa.types.is_large_list(data_type):
            return pa.list_(plain(data_type.value_type))
        if pa.types.is_dictionary(data_type):
            return plain(data_type.value_type)
        return data_type

    fields = [pa.field(field.name, plain(field.type), field.nullable) for field in table.schema]
    return table.cast(pa.schema(fields))
