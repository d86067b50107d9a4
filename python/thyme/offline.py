"""Point-in-time export over Arrow Flight: the spine's batches go up, joined batches come down."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from thyme.calls import Asked, feature_names
from thyme.channel import Settings
from thyme.errors import InvalidArgumentError, ThymeError
from thyme.progress import Progress
from thyme.result import ThymeResult, with_metadata
from thyme.rows import as_table
from thyme.rpc_errors import from_flight_error
from thyme.shapes import Shape
from thyme.suggest import suggestion

BATCH_ROWS = 8_192
_FLIGHT_ERRORS = (flight.FlightError, pa.ArrowException, OSError)


@dataclass(frozen=True)
class Spine:
    """A spine with the command that asks for its features."""

    table: pa.Table
    command: bytes

    @staticmethod
    def of(shape: Shape, rows: Any, asked: Asked) -> Spine:
        """Reads the spine and checks that it has the named columns.

        Raises:
            InvalidArgumentError: a column that is not there, or `entity_column` for a featureset with several keys.
        """
        columns = dict(asked.entity_columns or {})
        if asked.entity_column is not None:
            if len(shape.keys) != 1:
                key = shape.keys[0] if shape.keys else "key"
                raise InvalidArgumentError(
                    f"{shape.name} has {len(shape.keys)} keys: {', '.join(shape.keys)}",
                    hint=f'give entity_columns={{"{key}": "{asked.entity_column}", ...}}',
                    field="entity_column",
                )
            columns[shape.keys[0]] = asked.entity_column
        table = as_table(rows, [name for name in shape.integers() if name in shape.keys], "spine")
        for name in [*columns.values(), asked.timestamp_column]:
            if name not in table.column_names:
                raise InvalidArgumentError(
                    f"the spine has no column '{name}'", hint=suggestion(name, table.column_names), field=name
                )
        command = {
            "featureset": shape.name,
            "entity_columns": columns,
            "timestamp_column": asked.timestamp_column,
            "features": feature_names(asked.features),
            "statuses": asked.statuses,
            **asked.when.fields(),
        }
        return Spine(table, json.dumps(command).encode("utf-8"))


def export(settings: Settings, spine: Spine, timeout: float, progress: Progress) -> ThymeResult:
    """Runs one export; all rows, in the order of the spine.

    Raises:
        ThymeError: what the server found, or that it cannot be reached.
    """
    place = settings.queries
    scheme = "grpc+tls" if place.secure else "grpc"
    headers = [(name.encode(), value.encode()) for name, value in settings.metadata]
    options = flight.FlightCallOptions(timeout=timeout, headers=headers)
    try:
        with flight.FlightClient(f"{scheme}://{place.target}") as client:
            descriptor = flight.FlightDescriptor.for_command(spine.command)
            writer, reader = client.do_exchange(descriptor, options)
            failures: list[BaseException] = []
            sender = threading.Thread(target=_send, args=(writer, spine.table, failures), daemon=True)
            sender.start()
            try:
                table = _receive(reader, progress)
            finally:
                sender.join(timeout=5)
            writer.close()
            if failures:
                raise failures[0]
    except ThymeError:
        raise
    except _FLIGHT_ERRORS as error:
        raise from_flight_error(error, place.url) from None
    return with_metadata(table)


def _send(writer: Any, table: pa.Table, failures: list[BaseException]) -> None:
    try:
        writer.begin(table.schema)
        for batch in table.to_batches(max_chunksize=BATCH_ROWS):
            writer.write_batch(batch)
        writer.done_writing()
    except _FLIGHT_ERRORS as error:  # the reader sees the server's reason; this one only says that the stream ended
        failures.append(error)


def _receive(reader: Any, progress: Progress) -> pa.Table:
    batches, schema = [], reader.schema
    for chunk in reader:
        if chunk.data is not None:
            batches.append(chunk.data)
            progress.advance(chunk.data.num_rows)
    return pa.Table.from_batches(batches, schema)
