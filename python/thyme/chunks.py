"""Rows to send, cut into chunks: every chunk is one call that is safe to repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thyme import calls, positions
from thyme.calls import Call
from thyme.errors import InvalidArgumentError
from thyme.result import LogResult
from thyme.rows import as_dicts, as_table, is_columnar, refuse_naive
from thyme.shapes import Shape
from thyme.values import to_fields

ROWS_PER_CHUNK = 2_000
TABLE_ROWS_PER_CHUNK = 16_384
BYTES_PER_CHUNK = 8 << 20  # the server takes messages of twice that


@dataclass
class Chunks:
    """The calls of one `log(...)`, in order; `total` rows in all."""

    total: int
    calls: Iterator[tuple[int, Call]]

    @staticmethod
    def of(shape: Shape, rows: Any, event_ids: Any) -> Chunks:
        """Cuts rows.

        Raises:
            InvalidArgumentError: rows of a kind that is not understood, a naive datetime, or not one event id per row.
        """
        if is_columnar(rows):
            table = as_table(rows, shape.integers())
            ids = _checked_ids(event_ids, table.num_rows)
            return Chunks(table.num_rows, _table_calls(shape.name, table, ids))
        listed = as_dicts(rows)
        refuse_naive(listed)
        ids = _checked_ids(event_ids, len(listed))
        return Chunks(len(listed), _row_calls(shape.name, listed, ids))


def merged(results: list[LogResult]) -> LogResult:
    """The result of all chunks together."""
    return LogResult(
        accepted=sum(result.accepted for result in results),
        rejected=[row for result in results for row in result.rejected],
        position=positions.merge(result.position for result in results),
    )


def _row_calls(dataset: str, rows: list[Any], ids: list[str]) -> Iterator[tuple[int, Call]]:
    from thyme import _proto

    call_id = calls.new_call_id()
    first, part, size = 0, [], 0

    def call() -> tuple[int, Call]:
        payload = {"rows": _proto.RowList(rows=part)}
        return len(part), calls.ingest(dataset, payload, ids[first : first + len(part)], call_id, first)

    for row in rows:
        message = _proto.Row(fields=to_fields(row))
        if part and (len(part) >= ROWS_PER_CHUNK or size + message.ByteSize() > BYTES_PER_CHUNK):
            yield call()
            first, part, size = first + len(part), [], 0
        part.append(message)
        size += message.ByteSize()
    if part:
        yield call()


def _table_calls(dataset: str, table: Any, ids: list[str]) -> Iterator[tuple[int, Call]]:
    call_id = calls.new_call_id()
    first = 0
    waiting = list(reversed(table.to_batches(max_chunksize=TABLE_ROWS_PER_CHUNK)))
    while waiting:
        batch = waiting.pop()
        content = _stream_of(batch)
        if len(content) > BYTES_PER_CHUNK and batch.num_rows > 1:
            half = batch.num_rows // 2
            waiting += [batch.slice(half), batch.slice(0, half)]
            continue
        payload = {"arrow_ipc": content}
        yield batch.num_rows, calls.ingest(dataset, payload, ids[first : first + batch.num_rows], call_id, first)
        first += batch.num_rows


def _stream_of(batch: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _checked_ids(event_ids: Any, rows: int) -> list[str]:
    if event_ids is None:
        return []
    listed = event_ids.to_pylist() if hasattr(event_ids, "to_pylist") else list(event_ids)
    if len(listed) != rows:
        raise InvalidArgumentError(
            f"{len(listed)} event ids for {rows} rows", hint="give one per row, or none at all", field="event_ids"
        )
    for index, given in enumerate(listed):
        if not isinstance(given, str) or not given:
            raise InvalidArgumentError(f"event id {index} is not a text: {given!r}", field="event_ids")
    return listed
