"""Files of rows in parts: JSON lines, CSV, Parquet, Arrow."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from thyme.errors import InvalidArgumentError, NotFoundError
from thyme.result import RejectedRow
from thyme.shapes import Shape
from thyme.suggest import suggestion
from thyme.texts import from_csv, from_json

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 20_000
_ENDINGS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet",
    ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow",
}  # fmt: skip


@dataclass
class Part:
    """Some rows of a file. `numbers` are their places in it (0-based); `broken` are lines that are no rows."""

    rows: Any
    numbers: list[int]
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
    """The number of rows, where it is known, and the parts of a file.

    Raises:
        NotFoundError: no such file.
    """
    kind = format_of(path, given)
    if path != "-" and not Path(path).is_file():
        raise NotFoundError(f"no such file: {path}")
    if kind in ("parquet", "arrow"):
        table = read_table(path, kind, shape)
        return table.num_rows, _table_parts(table)
    total = None if path == "-" else _lines(path) - (1 if kind == "csv" else 0)
    return total, _csv_parts(path, shape) if kind == "csv" else _json_parts(path, shape)


def read_table(path: str, given: str | None, shape: Shape) -> pa.Table:
    """A whole file as an Arrow table: the spine of an export. Key columns are read by their declared types."""
    import pyarrow as pa

    from thyme.arrow_types import arrow_type

    kind = format_of(path, given)
    if path != "-" and not Path(path).is_file():
        raise NotFoundError(f"no such file: {path}")
    source = sys.stdin.buffer if path == "-" else path
    if kind == "parquet":
        import pyarrow.parquet as pq

        return pq.read_table(pa.BufferReader(source.read()) if path == "-" else source)
    if kind == "arrow":
        content = pa.py_buffer(source.read()) if path == "-" else pa.memory_map(path).read_buffer()
        if content.to_pybytes()[:6] == b"ARROW1":
            return pa.ipc.open_file(content).read_all()
        return pa.ipc.open_stream(content).read_all()
    if kind == "csv":
        import pyarrow.csv as arrow_csv

        types = {
            name: arrow_type(text) for name, text in shape.types.items() if text in ("int", "float", "str", "bool")
        }
        return arrow_csv.read_csv(source, convert_options=arrow_csv.ConvertOptions(column_types=types))
    rows = [row for part in _json_parts(path, shape) for row in part.rows]
    return pa.Table.from_pylist(rows)


def write_table(table: pa.Table, path: str, given: str | None) -> None:
    """Writes a table by the ending of the path, or by the format given; `-` is stdout."""
    kind = given or ("jsonl" if path == "-" else format_of(path, None))
    with contextlib.ExitStack() as stack:
        sink: Any = sys.stdout.buffer if path == "-" else stack.enter_context(open(path, "wb"))
        if kind == "parquet":
            import pyarrow.parquet as pq

            pq.write_table(table, sink)
        elif kind == "csv":
            import pyarrow.csv as arrow_csv

            arrow_csv.write_csv(table, sink)
        elif kind == "arrow":
            import pyarrow as pa

            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
        else:
            from thyme.cli.output import json_value

            for row in table.to_pylist():
                sink.write(json.dumps(json_value(row), ensure_ascii=False).encode("utf-8") + b"\n")


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


def _table_parts(table: pa.Table) -> Iterator[Part]:
    for first in range(0, table.num_rows, PART_ROWS):
        piece = table.slice(first, PART_ROWS)
        yield Part(piece, list(range(first, first + piece.num_rows)), piece.num_rows)


def _json_parts(path: str, shape: Shape) -> Iterator[Part]:
    part = Part([], [], 0)
    with _opened(path) as file:
        for number, line in enumerate(file):
            part.count += 1
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    part.broken.append(RejectedRow(number, f"not JSON: {error.msg} at column {error.colno}"))
                    continue
                if not isinstance(row, dict):
                    part.broken.append(RejectedRow(number, "not a JSON object"))
                    continue
                part.rows.append({name: from_json(value, shape.types.get(name, "")) for name, value in row.items()})
                part.numbers.append(number)
            if part.count >= PART_ROWS:
                yield part
                part = Part([], [], 0)
    if part.count:
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
