"""Bulk ingest over Arrow Flight: one `DoPut` per part of the rows."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from thyme.flights import Flights
from thyme.result import LogResult, RejectedRow
from thyme.sending import BYTES_PER_CALL, COLUMN_ROWS_PER_CALL, Part, smaller

ID_COLUMN = "thyme.event_id"  # no field has a dot in its name
TIMEOUT = 60.0


def put(flights: Flights, part: Part, timeout: float | None) -> tuple[LogResult, int]:
    """Sends a part; durable when it returns. Second comes how many rows were rejected: the first 1,000 are told with
    their reasons.

    Raises:
        ThymeError: what the server found, or that it cannot be reached. Sending the part again is safe.
    """
    command = {"dataset": part.dataset, "call_id": part.call_id}
    table = part.table
    if part.ids:
        table = table.append_column(ID_COLUMN, pa.array(part.ids, pa.string()))
        command["event_id_column"] = ID_COLUMN
    descriptor = flight.FlightDescriptor.for_command(json.dumps(command).encode("utf-8"))
    told: dict[str, Any] = {"accepted": 0, "rejected": 0, "reasons": [], "position": ""}
    with flights.calling():
        writer, reader = flights.client.do_put(descriptor, table.schema, flights.options(timeout or TIMEOUT))
        with flights.closing(writer):
            for batch in table.to_batches(max_chunksize=COLUMN_ROWS_PER_CALL):
                for piece in smaller(batch, BYTES_PER_CALL):
                    writer.write_batch(piece)
            writer.done_writing()
            while (message := reader.read()) is not None:  # each says it all so far
                told = json.loads(message.to_pybytes())
    rejected = [RejectedRow(found["index"], found["reason"], found["field"] or "") for found in told["reasons"]]
    return LogResult(told["accepted"], rejected, told["position"]), told["rejected"]
