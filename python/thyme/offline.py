"""Point-in-time export over Arrow Flight: the spine's batches go up while joined batches come down."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from thyme.calls import Asked, feature_names, qualified_names
from thyme.errors import InvalidArgumentError
from thyme.flights import ERRORS, Flights
from thyme.progress import Progress
from thyme.result import ThymeResult, with_metadata
from thyme.rows import as_table, batches_of, is_stream
from thyme.shapes import Shape
from thyme.suggest import suggestion

BATCH_ROWS = 8_192
_PATIENCE_SECONDS = 1.0
_WAITING_BATCHES = 4  # that came down and nobody took yet


@dataclass(frozen=True)
class Spine:
    """A spine with the command that asks for its features. `total`: how many rows, None for a stream, whose `batches`
    can be read once only."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    total: int | None
    command: bytes

    @staticmethod
    def of(shapes: Shape | list[Shape], rows: Any, asked: Asked) -> Spine:
        """Reads the spine, of a stream only the beginning, and checks that it has the named columns. `shapes`: a list
        where several featuresets are asked, whose names are qualified then.

        Raises:
            InvalidArgumentError: a column that is not there, or `entity_column` for a featureset with several keys.
        """
        several = isinstance(shapes, list)
        listed: list[Shape] = shapes if isinstance(shapes, list) else [shapes]
        columns = dict(asked.entity_columns or {})
        if asked.entity_column is not None:
            for shape in listed:
                key = _only_key(shape, asked.entity_column, f"{shape.name}." if several else "")
                columns[key] = asked.entity_column
        integers = [name for shape in listed for name in shape.integers() if name in shape.keys]
        total: int | None = None
        if is_stream(rows):
            schema, batches = _stream(rows, integers)
        else:
            table = as_table(rows, integers, "spine")
            schema, batches, total = table.schema, table.to_batches(max_chunksize=BATCH_ROWS), table.num_rows
        for name in [*columns.values(), asked.timestamp_column]:
            if name not in schema.names:
                raise InvalidArgumentError(
                    f"the spine has no column '{name}'", hint=suggestion(name, schema.names), field=name
                )
        names = [shape.name for shape in listed]
        command = {
            **({"featuresets": names} if several else {"featureset": names[0]}),
            "entity_columns": columns,
            "timestamp_column": asked.timestamp_column,
            "features": (qualified_names if several else feature_names)(asked.features),
            "statuses": asked.statuses,
            **asked.when.fields(),
            **({} if asked.pin is None else {"pin": asked.pin}),
        }
        return Spine(schema, batches, total, json.dumps(command).encode("utf-8"))


def _only_key(shape: Shape, column: str, prefix: str) -> str:
    if len(shape.keys) == 1:
        return f"{prefix}{shape.keys[0]}"
    key = shape.keys[0] if shape.keys else "key"
    raise InvalidArgumentError(
        f"{shape.name} has {len(shape.keys)} keys: {', '.join(shape.keys)}",
        hint=f'give entity_columns={{"{prefix}{key}": "{column}", ...}}',
        field="entity_column",
    )


class Export:
    """One export under way. Opening it checks the question and reads nothing of the spine: it may be tried again.

    Two threads send and receive, so that whoever takes the batches can be interrupted at any time. When a call ends,
    pyarrow's reader ends the writing, too, and if another thread does so at that moment gRPC aborts the process. So the
    thread that reads is the one that says "no more rows", once all rows that were sent have come back joined: a server
    does not wait for more. Only where they had come before it was known that they are all does the other thread say it,
    and not while the export is cancelled.

    Raises:
        ThymeError: what the server found, or that it cannot be reached.
    """

    def __init__(self, flights: Flights, spine: Spine, timeout: float) -> None:
        self._flights = flights
        self._spine = spine
        self._failure: BaseException | None = None
        self._summary: dict[str, Any] | None = None
        self.told: dict[str, Any] = {}  # what is known when all rows were taken
        self._has_ended = False
        self._ending = threading.Lock()
        self._is_cancelled = False
        self._received = 0
        self._sent: int | None = None  # rows, once they are all
        self._arrived: queue.Queue[Any] = queue.Queue(_WAITING_BATCHES)
        self._sender = threading.Thread(target=self._send, daemon=True)
        receiver = threading.Thread(target=self._receive, daemon=True)
        descriptor = flight.FlightDescriptor.for_command(spine.command)
        with flights.calling():
            self._writer, self._reader = flights.client.do_exchange(descriptor, flights.options(timeout))
        receiver.start()
        try:
            with contextlib.suppress(*ERRORS):  # the receiver tells why
                self._writer.begin(spine.schema)
            self.schema: pa.Schema = self._next()
        except BaseException:
            self.close()
            raise
        self._sender.start()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The joined rows, in the order of the spine. Whoever stops early cancels the export."""
        try:
            while (batch := self._next()) is not None:
                yield batch
            self._sender.join()
            if self._failure is not None:
                raise self._failure
            self.told["summary"] = self._summary
        finally:
            self.close()

    def read_all(self, progress: Progress) -> pa.Table:
        """All joined rows."""
        found: list[pa.RecordBatch] = []
        try:
            for batch in self.batches():
                found.append(batch)
                progress.advance(batch.num_rows)
        except BaseException:
            progress.advance(-sum(batch.num_rows for batch in found))  # a further try begins again
            raise
        return pa.Table.from_batches(found, self.schema)

    def cancel(self) -> None:
        """Ends the call; whoever waits for a batch gets an error. From any thread, at any time."""
        is_free = self._ending.acquire(timeout=_PATIENCE_SECONDS)
        self._is_cancelled = True
        self._reader.cancel()
        if is_free:
            self._ending.release()
        with contextlib.suppress(queue.Empty):  # nobody may be there to take them: the receiver must not wait
            while not _is_last(arrived := self._arrived.get_nowait()):
                pass
            self._arrived.put(arrived)

    def close(self) -> None:
        """Ends the call and its threads."""
        self.cancel()
        while not self._has_ended:
            self._take()
        if self._sender.ident is not None:
            self._sender.join(timeout=_PATIENCE_SECONDS)  # it may be waiting for its input
        if not self._sender.is_alive():
            with contextlib.suppress(*ERRORS):
                self._writer.close()

    def _take(self) -> Any:
        arrived = self._arrived.get()
        self._has_ended = _is_last(arrived)
        return arrived

    def _next(self) -> Any:
        arrived = self._take()
        if not isinstance(arrived, BaseException):
            return arrived
        with self._flights.calling():
            raise self._failure if self._failure and isinstance(arrived, flight.FlightCancelledError) else arrived

    def _receive(self) -> None:
        try:
            self._arrived.put(self._reader.schema)
            for chunk in self._reader:
                if chunk.app_metadata is not None:  # the last one, which has no rows
                    self._summary = json.loads(chunk.app_metadata.to_pybytes())
                elif chunk.data is not None:
                    if chunk.data.num_rows:
                        with self._ending:
                            self._received += chunk.data.num_rows
                            self._say_if_all()
                    self._arrived.put(chunk.data)
        except BaseException as error:
            self._arrived.put(error)
        else:
            self._arrived.put(None)

    def _say_if_all(self) -> None:
        if self._received == self._sent and not self._is_cancelled:
            with contextlib.suppress(*ERRORS):
                self._writer.done_writing()

    def _send(self) -> None:
        sent = 0
        try:
            for batch in self._spine.batches:
                try:
                    self._writer.write_batch(batch)
                    sent += batch.num_rows
                except ERRORS as error:  # the call has ended: the receiver tells why
                    self._failure = self._flights.error(error)
                    return
            with self._ending:
                self._sent = sent
                self._say_if_all()
        except BaseException as error:
            self._failure = error
            self.cancel()


def _stream(rows: Any, integers: list[str]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Schema and batches of a stream; all batches have the columns of the first."""
    if hasattr(rows, "__arrow_c_stream__") and not isinstance(rows, pa.RecordBatchReader):
        rows = pa.RecordBatchReader.from_stream(rows)
    pieces = batches_of(rows, BATCH_ROWS, integers, "spine")
    first = next(pieces, None)
    if first is None:
        schema = rows.schema if isinstance(rows, pa.RecordBatchReader) else pa.schema([])
    else:
        first = as_table(first, integers, "spine")
        schema = first.schema

    def batches() -> Iterator[pa.RecordBatch]:
        for piece in itertools.chain([] if first is None else [first], pieces):
            yield from _fitting(piece, schema).to_batches(max_chunksize=BATCH_ROWS)

    return schema, batches()


def _fitting(piece: Any, schema: pa.Schema) -> pa.Table:
    table = as_table(piece, (), "spine")
    if table.schema.equals(schema):
        return table
    for name in table.column_names:
        if name not in schema.names:
            raise InvalidArgumentError(f"the spine's first batch has no column '{name}'", field=name)
    columns = {name: table[name] if name in table.column_names else pa.nulls(len(table)) for name in schema.names}
    try:
        return pa.table(columns).cast(schema)
    except pa.ArrowException as error:
        raise InvalidArgumentError(
            f"the spine's batches do not fit together: {error}", hint="give all the same columns and types"
        ) from None


def whole(export: Export, progress: Progress) -> ThymeResult:
    """A result with all rows."""
    result = with_metadata(export.read_all(progress))
    result._told = export.told
    return result


def streamed(export: Export) -> ThymeResult:
    """A result whose rows are still coming."""
    result = with_metadata(export.schema.empty_table())
    result.table, result._told = None, export.told
    batches = _started(export)
    next(batches)
    result.stream = pa.RecordBatchReader.from_batches(export.schema, batches)
    return result


def _started(export: Export) -> Iterator[Any]:
    """Closes the export also where nobody takes a batch: a generator that never began has no end either."""
    try:
        yield None
        yield from export.batches()
    finally:
        export.close()


def _is_last(arrived: Any) -> bool:
    return arrived is None or isinstance(arrived, BaseException)
