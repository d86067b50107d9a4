"""Files of rows in parts: JSON lines, CSV, Parquet, Arrow."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from thyme.errors import InvalidArgumentError, NotFoundError
from thyme.result import RejectedRow
from thyme.rows import batches_of
from thyme.shapes import Shape
from thyme.suggest import suggestion
from thyme.texts import from_csv, from_json

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 32_768  # more than a call takes, so that parts go over Flight
_ARROW_FILE = b"ARROW1"
_ENDINGS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow",
}  # fmt: skip


@dataclass
class Part:
    """Some rows of a file. `numbers` are their places in it (0-based); `broken` are lines that are no rows."""

    rows: Any
    numbers: Sequence[int]
    count: int
    broken: list[RejectedRow] = field(default_factory=list)

    def row_number(self, index: int) -> int:
        """The place in the file of a row of this part."""
        return self.numbers[index]

    def take_ids(self, name: str | None, keep: bool) -> list[str] | None:
        """The event ids in the column `name`, which is removed unless it is a field of the dataset."""
        if name is None:
            return None
        if not isinstance(self.rows, list):
            if name not in self.rows.column_names:
                raise InvalidArgumentError(f"no column '{name}'", hint=suggestion(name, self.rows.column_names))
            ids = [_id_text(value) for value in self.rows.column(name).to_pylist()]
            self.rows = self.rows if keep else self.rows.drop_columns([name])
            return ids
        for number, row in zip(self.numbers, self.rows, strict=True):
            if name not in row:
                raise InvalidArgumentError(f"row {number + 1} has no field '{name}'", hint=suggestion(name, row))
        return [_id_text(row[name] if keep else row.pop(name)) for row in self.rows]


def _id_text(value: object) -> str:
    """A cell as an event id: times as they stand in JSON, so that a row sent by another way has the same id."""
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def format_of(path: str, given: str | None) -> str:
    """The format: as given, else by the ending; JSON lines for stdin."""
    if given is not None:
        if given not in set(_ENDINGS.values()):
            raise InvalidArgumentError(
                f"unknown file format '{given}'", hint=suggestion(given, set(_ENDINGS.values())), field="--format"
            )
        return given
    if path == "-":
        return "jsonl"
    found = _ENDINGS.get(Path(path).suffix.lower())
    if found is None:
        raise InvalidArgumentError(
            f"cannot tell the format of '{path}' from its ending", hint="say --format jsonl, csv, parquet or arrow"
        )
    return found


def read_parts(path: str, given: str | None, shape: Shape) -> tuple[int | None, Iterator[Part]]:
    """The number of rows, where it is known, and the parts of a file; one part is held at a time.

    Raises:
        NotFoundError: no such file.
        InvalidArgumentError: not readable as what it says to be.
    """
    kind = format_of(path, given)
    if path != "-" and not Path(path).is_file():
        raise NotFoundError(f"no such file: {path}")
    if kind in ("parquet", "arrow"):
        from thyme.spines import read_spine

        reader, total = read_spine(path, kind, {})
        return total, _table_parts(reader)
    total = None if path == "-" else _lines(path) - (1 if kind == "csv" else 0)
    return total, _csv_parts(path, shape) if kind == "csv" else _json_parts(path, shape)


def arrow_reader(path: str) -> pa.RecordBatchReader:
    """The batches of an Arrow file or stream (`-`: stdin)."""
    import pyarrow as pa

    if path == "-":
        # Not `sys.stdin`: a thread may be reading when the command ends, and Python would wait for its lock.
        return pa.ipc.open_stream(io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False)))
    with open(path, "rb") as file:
        is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE
    source = pa.memory_map(path)
    if not is_file:
        return pa.ipc.open_stream(source)
    held = pa.ipc.open_file(source)
    batches = (held.get_batch(index) for index in range(held.num_record_batches))
    return pa.RecordBatchReader.from_batches(held.schema, batches)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[IO[str]]:
    if path == "-":
        yield sys.stdin
    else:
        with open(path, encoding="utf-8", newline="") as file:
            yield file


def _lines(path: str) -> int:
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _table_parts(reader: pa.RecordBatchReader) -> Iterator[Part]:
    first = 0
    for table in batches_of(reader, PART_ROWS):
        for start in range(0, table.num_rows, PART_ROWS):
            piece = table.slice(start, PART_ROWS)
            yield Part(piece, range(first, first + piece.num_rows), piece.num_rows)
            first += piece.num_rows


def _json_parts(path: str, shape: Shape) -> Iterator[Part]:
    with _opened(path) as lines:
        yield from json_parts(lines, shape, PART_ROWS)


def json_parts(lines: Iterable[str], shape: Shape, part_rows: int) -> Iterator[Part]:
    """Lines of JSON objects in parts of so many lines. Times stay text: whoever takes the rows reads them by type."""
    encoded = {name: text for name, text in shape.types.items() if text == "bytes"}
    part = Part([], [], 0)
    numbers: list[int] = []
    for number, line in enumerate(lines):
        part.count += 1
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                what = error.msg.removesuffix(" at")
                part.broken.append(RejectedRow(number, f"not JSON: {what} at column {error.colno}"))
                continue
            if not isinstance(row, dict):
                part.broken.append(RejectedRow(number, "not a JSON object"))
                continue
            for name in encoded.keys() & row.keys():
                row[name] = from_json(row[name], encoded[name])
            part.rows.append(row)
            numbers.append(number)
        if part.count >= part_rows:
            part.numbers = numbers
            yield part
            part, numbers = Part([], [], 0), []
    if part.count:
        part.numbers = numbers
        yield part


def _csv_parts(path: str, shape: Shape) -> Iterator[Part]:
    part = Part([], [], 0)
    with _opened(path) as file:
        for number, row in enumerate(csv.DictReader(file)):
            part.count += 1
            if None in row:
                part.broken.append(RejectedRow(number, "more cells than the header has columns"))
                continue
            cells = {name: cell for name, cell in row.items() if cell is not None}
            part.rows.append({name: from_csv(cell, shape.types.get(name, "str")) for name, cell in cells.items()})
            part.numbers.append(number)
            if part.count >= PART_ROWS:
                yield part
                part = Part([], [], 0)
    if part.count:
        yield part
