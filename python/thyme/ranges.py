"""Exports without a spine, over Arrow Flight: the changes of a featureset, the rows of a dataset. The server tells
tickets that are answered the same whenever they are asked, so what breaks goes on where it was."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from thyme.channel import pauses
from thyme.errors import UnavailableError
from thyme.flights import ERRORS, Flights
from thyme.progress import Progress
from thyme.result import ThymeResult, with_metadata


class Range:
    """An answer that is asked ticket by ticket, `tickets`. Opening it checks the question.

    Raises:
        ThymeError: what the server found, or that it cannot be reached.
    """

    def __init__(self, flights: Flights, command: dict[str, Any], timeout: float, retry_for: float) -> None:
        self._flights = flights
        self._retry_for = retry_for
        self._end = time.monotonic() + timeout
        self._reader: Any = None
        self._is_cancelled = False
        descriptor = flight.FlightDescriptor.for_command(json.dumps(command).encode("utf-8"))
        with flights.calling():
            info = flights.client.get_flight_info(descriptor, self._options())
            self.schema: pa.Schema = info.schema
            self.tickets = [endpoint.ticket for endpoint in info.endpoints]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, in order."""
        for ticket in self.tickets:
            yield from self.part(ticket)

    def read_all(self, progress: Progress) -> pa.Table:
        """All rows at once."""
        found: list[pa.RecordBatch] = []
        for batch in self.batches():
            found.append(batch)
            progress.advance(batch.num_rows)
        return pa.Table.from_batches(found, self.schema)

    def streamed(self) -> ThymeResult:
        """A result whose rows are still coming."""
        result = with_metadata(self.schema.empty_table())
        result.table = None
        result.stream = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return result

    def cancel(self) -> None:
        """Ends the call under way; whoever waits for a batch gets an error. From any thread."""
        self._is_cancelled = True
        if self._reader is not None:
            self._reader.cancel()

    def part(self, ticket: flight.Ticket, timeout: float | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a ticket, in order. `timeout`: seconds for them, instead of what is left for all."""
        if timeout is not None:
            self._end = time.monotonic() + timeout
        taken = 0
        waits = pauses(self._retry_for)
        while True:
            try:
                for batch in self._read(ticket, taken):
                    taken += batch.num_rows
                    waits = pauses(self._retry_for)
                    yield batch
                return
            except UnavailableError as error:
                pause = None if self._is_cancelled else next(waits, None)
                if pause is None:
                    raise error from None
                time.sleep(pause)

    def _read(self, ticket: flight.Ticket, skip: int) -> Iterator[pa.RecordBatch]:
        """The rows of a ticket behind the first so many."""
        with self._flights.calling():
            reader = self._flights.client.do_get(ticket, self._options())
        self._reader = reader
        if self._is_cancelled:
            reader.cancel()
        try:
            while (batch := self._next(reader)) is not None:
                if batch.num_rows > skip:
                    yield pa.RecordBatch.from_arrays(batch.slice(skip).columns, schema=self.schema)
                skip = max(0, skip - batch.num_rows)
        finally:
            with contextlib.suppress(*ERRORS):
                reader.cancel()

    def _next(self, reader: Any) -> pa.RecordBatch | None:
        with self._flights.calling():
            for chunk in reader:
                if chunk.data is not None:
                    return chunk.data
        return None

    def _options(self) -> flight.FlightCallOptions:
        return self._flights.options(max(self._end - time.monotonic(), 0.001))
