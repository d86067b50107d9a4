"""Rows as users give them: list of dicts, pandas, Polars, pyarrow, anything with `__arrow_c_stream__`."""

from __future__ import annotations

import datetime
import decimal
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thyme.errors import InvalidArgumentError
from thyme.literals import NAIVE_HINT

if TYPE_CHECKING:
    import pyarrow as pa

_KINDS = "a list of dicts, a pandas or Polars DataFrame, a pyarrow Table, or anything with __arrow_c_stream__"


def is_columnar(rows: Any) -> bool:
    """Whether rows come as columns (a DataFrame or Arrow data) and not one by one."""
    return hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__") or _is_pandas(rows)


def is_stream(rows: Any) -> bool:
    """Whether rows come batch by batch, once: a reader, an Arrow stream of another library, an iterator."""
    if hasattr(rows, "__next__"):
        return True
    kind = type(rows).__module__.partition(".")[0]
    held = kind in ("pandas", "polars") or hasattr(rows, "num_rows")
    return hasattr(rows, "__arrow_c_stream__") and not held


def batches_of(rows: Any, most: int, integers: Iterable[str] = (), what: str = "rows") -> Iterator[Any]:
    """A stream (see `is_stream`) in pieces of at most `most` rows, unless a batch has more: tables or lists of dicts.

    Raises:
        InvalidArgumentError: the stream holds something else.
    """
    import pyarrow as pa

    if hasattr(rows, "__arrow_c_stream__") and not isinstance(rows, pa.RecordBatchReader):
        rows = pa.RecordBatchReader.from_stream(rows)
    iterator = iter(rows)
    first = next(iterator, None)
    if first is None:
        return
    iterator = itertools.chain([first], iterator)
    if not is_columnar(first):
        while piece := list(itertools.islice(iterator, most)):
            yield as_dicts(piece, what)
        return
    waiting: list[pa.Table] = []
    count = 0
    for batch in iterator:
        table = as_table(batch, integers, what)
        if waiting and (table.schema != waiting[0].schema or count + table.num_rows > most):
            yield pa.concat_tables(waiting)
            waiting, count = [], 0
        waiting.append(table)
        count += table.num_rows
    if waiting:
        yield pa.concat_tables(waiting)


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
    rows = rows if isinstance(rows, list) else list(rows)
    kinds = set(map(type, itertools.chain.from_iterable(row.values() for row in rows)))
    if not any(issubclass(kind, datetime.datetime) for kind in kinds):
        return
    for index, row in enumerate(rows):
        for name, value in row.items():
            if isinstance(value, datetime.datetime) and value == value and value.tzinfo is None:
                raise InvalidArgumentError(
                    f"{what}: row {index}, {name}: a datetime without a time zone: {value!r}",
                    hint=NAIVE_HINT,
                    field=name,
                )


_KINDS_OF: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bytes": (bytes,),
    "Decimal": (decimal.Decimal, int),
}


def typed_table(rows: Sequence[Mapping[str, Any]], types: Mapping[str, str]) -> pa.Table | None:
    """Dicts as columns of the declared types; None where a name or the type of a value differs, or where the types
    cannot tell: the rows are then to be judged one by one."""
    import pyarrow as pa

    from thyme.arrow_types import arrow_type

    if not types or not set(itertools.chain.from_iterable(rows)) <= types.keys():
        return None
    columns = {}
    for name, type_text in types.items():
        values = [row.get(name) for row in rows]
        kinds = set(map(type, values)) - {type(None)}
        allowed, wanted = _KINDS_OF.get(type_text, ()), arrow_type(type_text)
        if type_text == "datetime":
            is_text = kinds == {str}
            allowed, wanted = ((str,), pa.string()) if is_text else ((datetime.datetime,), wanted)
        if not kinds.issubset(allowed):
            return None
        try:
            columns[name] = pa.array(values, wanted if kinds else pa.null())
        except (pa.ArrowException, OverflowError, UnicodeError):
            return None
    return pa.table(columns)


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
