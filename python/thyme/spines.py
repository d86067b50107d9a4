"""Spines read from files, batch by batch. CSV and JSON lines are read through once before, for the types of columns: a
value far down must not contradict what the first lines said."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as arrow_csv

from thyme.arrow_types import arrow_type
from thyme.errors import InvalidArgumentError, NotFoundError
from thyme.files import arrow_reader, format_of, json_parts
from thyme.rows import as_table
from thyme.shapes import Shape

BATCH_ROWS = 8_192
_BLOCK_BYTES = 4 << 20
_READ_BY_TYPE = ("int", "float", "str", "bool", "Decimal")  # a time is read by the server, as text


def read_spine(path: str, given: str | None, types: Mapping[str, str]) -> tuple[pa.RecordBatchReader, int | None]:
    """The batches of a file (`-`: stdin) and the number of its rows, where it is known. `types`: declared types of
    columns (the keys); the others are read by their values.

    Raises:
        NotFoundError: no such file.
        InvalidArgumentError: not readable as what it says to be.
    """
    kind = format_of(path, given)
    if path != "-" and not Path(path).is_file():
        raise NotFoundError(f"no such file: {path}")
    try:
        if kind == "arrow":
            reader, total = arrow_reader(path), None
        elif kind == "parquet":
            reader, total = _parquet(_seekable(path))
        elif kind == "csv":
            reader, total = _csv(_seekable(path), types)
        else:
            reader, total = _json_lines(_seekable(path), types)
    except pa.ArrowException as error:
        raise _unreadable(path, error) from None
    return pa.RecordBatchReader.from_batches(reader.schema, _readable(path, reader)), total


def _readable(path: str, batches: Any) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except pa.ArrowException as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> InvalidArgumentError:
    return InvalidArgumentError(f"{'stdin' if path == '-' else path}: {error}", field="--input")


def _seekable(path: str) -> Any:
    """The path; for stdin a temporary file with what it holds."""
    if path != "-":
        return path
    held = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(sys.stdin.buffer, held, 1 << 20)
    return held


def _parquet(source: Any) -> tuple[pa.RecordBatchReader, int]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(source)
    batches = file.iter_batches(batch_size=BATCH_ROWS)
    return pa.RecordBatchReader.from_batches(file.schema_arrow, batches), file.metadata.num_rows


def _csv(source: Any, types: Mapping[str, str]) -> tuple[pa.RecordBatchReader, int]:
    declared = {name: arrow_type(text) for name, text in types.items() if text in _READ_BY_TYPE}
    found: dict[str, pa.DataType] = {}
    total = 0
    for batch in _open_csv(source, {name: pa.string() for name in _open_csv(source, {}).schema.names}):
        total += batch.num_rows
        written = io.BytesIO()
        arrow_csv.write_csv(batch, written)
        written.seek(0)
        schema = arrow_csv.read_csv(written, parse_options=_PARSE).schema
        found = {field.name: _both(found.get(field.name, field.type), field.type) for field in schema}
    return _open_csv(source, {**found, **declared}), total


_PARSE = arrow_csv.ParseOptions(newlines_in_values=True)


def _open_csv(source: Any, types: Mapping[str, Any]) -> pa.RecordBatchReader:
    if not isinstance(source, str):
        source.seek(0)
        source = pa.PythonFile(io.FileIO(source.fileno(), closefd=False))
    return arrow_csv.open_csv(
        source,
        read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
        parse_options=_PARSE,
        convert_options=arrow_csv.ConvertOptions(column_types=types),
    )


def _both(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds the values of two; text if there is no other."""
    schemas = [pa.schema([("", one)]), pa.schema([("", other)])]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.string()


def _json_lines(source: Any, types: Mapping[str, str]) -> tuple[pa.RecordBatchReader, int]:
    schemas: list[pa.Schema] = []
    total = 0
    for rows in _json_rows(source, types):
        total += len(rows)
        schemas = [pa.unify_schemas([*schemas, as_table(rows, (), "spine").schema], promote_options="permissive")]
    schema = schemas[0] if schemas else pa.schema([])
    for index, field in enumerate(schema):
        if types.get(field.name) == "float" and pa.types.is_integer(field.type):
            schema = schema.set(index, field.with_type(pa.float64()))

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in _json_rows(source, types):
            yield from pa.Table.from_pylist(rows, schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches()), total


def _json_rows(source: Any, types: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
    with open(source, encoding="utf-8") if isinstance(source, str) else _text(source) as lines:
        for part in json_parts(lines, Shape("", [], dict(types)), BATCH_ROWS):
            if part.broken:
                broken = part.broken[0]
                raise InvalidArgumentError(f"row {broken.index + 1}: {broken.reason}", field="--input")
            yield part.rows


def _text(source: Any) -> io.TextIOWrapper:
    source.seek(0)
    return io.TextIOWrapper(io.FileIO(source.fileno(), closefd=False), encoding="utf-8")
