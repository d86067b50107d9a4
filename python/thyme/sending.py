"""Rows to send, in parts. A part is sent as a whole and is safe to send again, because its rows keep their ids.

Columns go as they are. Dicts become columns where every value is of its field's declared type, which is about twenty
times faster; otherwise they are sent one by one, so that the server can judge each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union

from thyme import calls, positions
from thyme.calls import Call
from thyme.errors import InvalidArgumentError
from thyme.result import LogResult, RejectedRow
from thyme.rows import as_dicts, as_table, batches_of, is_columnar, is_stream, refuse_naive, typed_table
from thyme.shapes import Shape
from thyme.values import to_fields

if TYPE_CHECKING:
    import pyarrow as pa

FEW_ROWS = 100  # for so few it is not worth asking the server for types
ROWS_PER_CALL = 2_000
COLUMN_ROWS_PER_CALL = 16_384  # up to here one call is as fast as Flight
BYTES_PER_CALL = 8 << 20  # the server takes messages of twice that
PART_ROWS = 65_536
PART_BYTES = 64 << 20

Piece = Union["pa.Table", list[Mapping[str, Any]]]


@dataclass
class Part:
    """Rows that are sent together: as a table, as dicts, or as dicts with a table that says the same. `first_row` is
    the number of the first of them among all rows given."""

    dataset: str
    first_row: int
    ids: list[str]
    rows: list[Mapping[str, Any]] | None
    table: pa.Table | None
    call_id: str = field(default_factory=calls.new_call_id)

    @property
    def count(self) -> int:
        """How many rows."""
        return self.table.num_rows if self.rows is None else len(self.rows)  # type: ignore[union-attr]

    @property
    def is_bulk(self) -> bool:
        """Whether a stream of its own is worth it."""
        if self.table is None:
            return False
        return self.table.num_rows > COLUMN_ROWS_PER_CALL or self.table.nbytes > BYTES_PER_CALL


class Given:
    """The rows of one `log(...)`. `total`: how many, None where only the end tells. `wants_types`: whether it is worth
    asking for the declared types.

    Raises:
        InvalidArgumentError: rows of a kind that is not understood, a naive datetime, or not one event id per row.
    """

    def __init__(self, rows: Any, event_ids: Any) -> None:
        self._rows = rows
        self._ids: Iterator[str] | None = None
        self.total: int | None = None
        if is_stream(rows):
            self.wants_types = True
        elif is_columnar(rows):
            self.wants_types = True
            self._rows = rows.collect() if hasattr(rows, "collect") else rows
            self.total = self._rows.num_rows if hasattr(self._rows, "num_rows") else len(self._rows)
        else:
            self._rows = as_dicts(rows)
            self.total = len(self._rows)
            self.wants_types = self.total > FEW_ROWS
        if event_ids is not None:
            self._ids = _checked(event_ids, self.total)

    def parts(self, shape: Shape) -> Iterator[Part]:
        """Reads on as parts are taken: of a stream only one part is held at a time."""
        first_row = 0
        for piece in self._pieces(shape):
            is_rows = isinstance(piece, list)
            count = len(piece) if is_rows else piece.num_rows
            ids = [] if self._ids is None else list(itertools.islice(self._ids, count))
            if self._ids is not None and len(ids) < count:
                raise _miscounted(first_row + len(ids), f"at least {first_row + count}")
            table = (typed_table(piece, shape.types) if count > FEW_ROWS else None) if is_rows else piece
            yield Part(shape.name, first_row, ids, piece if is_rows else None, table)
            first_row += count
        if self._ids is not None and next(self._ids, None) is not None:
            raise _miscounted(f"more than {first_row}", first_row)

    def _pieces(self, shape: Shape) -> Iterator[Piece]:
        if not is_stream(self._rows):
            yield from _cut(self._rows, shape)
            return
        for batch in batches_of(self._rows, PART_ROWS, shape.integers()):
            yield from _cut(batch, shape)


def _cut(rows: Any, shape: Shape) -> Iterator[Piece]:
    if isinstance(rows, list):
        refuse_naive(rows)
        for first in range(0, len(rows), PART_ROWS):
            yield rows[first : first + PART_ROWS]
        return
    table = as_table(rows, shape.integers())
    for first in range(0, table.num_rows, PART_ROWS):
        yield from smaller(table.slice(first, PART_ROWS), PART_BYTES)


def smaller(table: Any, most_bytes: int) -> Iterator[Any]:
    """A table or batch in pieces of at most so many bytes, or one row."""
    waiting = [table]
    while waiting:
        piece = waiting.pop()
        if piece.nbytes > most_bytes and piece.num_rows > 1:
            half = piece.num_rows // 2
            waiting += [piece.slice(half), piece.slice(0, half)]
        else:
            yield piece


def row_calls(part: Part) -> Iterator[Call]:
    """Calls with the dicts of a part."""
    from thyme import _proto

    first, rows, size = 0, [], 0

    def call() -> Call:
        payload = {"rows": _proto.RowList(rows=rows)}
        return calls.ingest(part.dataset, payload, part.ids[first : first + len(rows)], part.call_id, first)

    for row in part.rows or ():
        message = _proto.Row(fields=to_fields(row))
        if rows and (len(rows) >= ROWS_PER_CALL or size + message.ByteSize() > BYTES_PER_CALL):
            yield call()
            first, rows, size = first + len(rows), [], 0
        rows.append(message)
        size += message.ByteSize()
    if rows:
        yield call()


def column_calls(part: Part, first: int = 0) -> Iterator[Call]:
    """Calls with the columns of a part, from the row `first` on."""
    import pyarrow as pa

    for batch in part.table.slice(first).to_batches(max_chunksize=COLUMN_ROWS_PER_CALL):  # type: ignore[union-attr]
        for piece in smaller(batch, BYTES_PER_CALL):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, piece.schema) as writer:
                writer.write_batch(piece)
            ids = part.ids[first : first + piece.num_rows]
            payload = {"arrow_ipc": sink.getvalue().to_pybytes()}
            yield calls.ingest(part.dataset, payload, ids, part.call_id, first)
            first += piece.num_rows


def merged(results: Iterable[LogResult], first_row: int = 0) -> LogResult:
    """Results together. `first_row`: the number of the row that they count from."""
    accepted, rejected, position = 0, [], ""
    for result in results:
        accepted += result.accepted
        rejected += [RejectedRow(first_row + row.index, row.reason, row.field) for row in result.rejected]
        position = positions.merge([position, result.position])
    return LogResult(accepted, rejected, position)


def _checked(event_ids: Any, rows: int | None) -> Iterator[str]:
    if hasattr(event_ids, "to_pylist"):
        event_ids = event_ids.to_pylist()
    if rows is not None:
        event_ids = list(event_ids)
        if len(event_ids) != rows:
            raise _miscounted(len(event_ids), rows)
        return iter(list(_texts(event_ids)))
    return _texts(event_ids)


def _texts(event_ids: Iterable[Any]) -> Iterator[str]:
    for index, given in enumerate(event_ids):
        if not isinstance(given, str) or not given:
            raise InvalidArgumentError(f"event id {index} is not a text: {given!r}", field="event_ids")
        yield given


def _miscounted(ids: object, rows: object) -> InvalidArgumentError:
    hint = "give one per row, or none at all"
    return InvalidArgumentError(f"{ids} event ids for {rows} rows", hint=hint, field="event_ids")
