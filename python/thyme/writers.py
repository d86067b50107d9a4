"""Files of rows written batch by batch. A file is there when it is whole: until then it has another name, and when the
work fails or is interrupted nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from thyme.arrow_types import to_pylist
from thyme.files import format_of
from thyme.grid import Blocks, RowGroups
from thyme.stores import is_url, place_of

Write = Callable[[pa.RecordBatch], None]


def write_table(table: pa.Table, path: str, given: str | None) -> None:
    """Writes a table by the ending of the path, or by the format given; `-` is stdout."""
    with writing(path, given, table.schema) as write:
        for batch in table.to_batches():
            write(batch)


@contextlib.contextmanager
def writing(path: str, given: str | None, schema: pa.Schema) -> Iterator[Write]:
    """A function that writes a batch to the file or object, by the ending of the path or by the format given; `-` is
    stdout."""
    kind = given or ("jsonl" if path == "-" else format_of(path, None))
    with _sink(path) as sink, _FORMATS[kind](sink, schema) as write:
        yield write


@contextlib.contextmanager
def _sink(path: str) -> Iterator[Any]:
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if is_url(path):
        with place_of(path).writing() as sink:
            yield sink
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a device or pipe
        with open(target, "wb") as sink:
            yield sink
        return
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(unfinished, "wb") as sink:
            yield sink
        os.replace(unfinished, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _parquet(sink: Any, schema: pa.Schema) -> Iterator[Write]:
    blocks, groups = Blocks(schema), RowGroups(lambda: sink, schema)

    def write(batch: pa.RecordBatch) -> None:
        for block in blocks.add(batch):
            groups.add(block)

    yield write
    for block in blocks.rest():
        groups.add(block)
    groups.close()


@contextlib.contextmanager
def _csv(sink: Any, schema: pa.Schema) -> Iterator[Write]:
    """Lists, dicts and entries of TopK as JSON text: a cell holds nothing else. A Decimal as its digits."""
    import pyarrow.csv as arrow_csv

    flat = pa.schema([found.with_type(pa.string()) if _is_written(found.type) else found for found in schema])
    with arrow_csv.CSVWriter(sink, flat) as writer:

        def write(batch: pa.RecordBatch) -> None:
            columns = [_as_text(column) if _is_written(column.type) else column for column in batch.columns]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=flat))

        yield write


def _is_written(data_type: pa.DataType) -> bool:
    return pa.types.is_nested(data_type) or pa.types.is_decimal(data_type)


def _as_text(column: pa.Array) -> pa.Array:
    from thyme.cli.output import json_value, text_of

    def json_text(value: Any) -> str:
        return json.dumps(json_value(value), ensure_ascii=False)

    write = text_of if pa.types.is_decimal(column.type) else json_text
    texts = [None if value is None else write(value) for value in to_pylist(column)]
    return pa.array(texts, pa.string())


@contextlib.contextmanager
def _arrow(sink: Any, schema: pa.Schema) -> Iterator[Write]:
    with pa.ipc.new_stream(sink, schema) as writer:
        yield writer.write_batch


@contextlib.contextmanager
def _json_lines(sink: Any, schema: pa.Schema) -> Iterator[Write]:
    from thyme.cli.output import json_value

    def write(batch: pa.RecordBatch) -> None:
        for row in to_pylist(batch):
            sink.write(json.dumps(json_value(row), ensure_ascii=False).encode("utf-8") + b"\n")

    yield write


_FORMATS: dict[str, Callable[[Any, pa.Schema], contextlib.AbstractContextManager[Write]]] = {
    "parquet": _parquet,
    "csv": _csv,
    "arrow": _arrow,
    "jsonl": _json_lines,
}
