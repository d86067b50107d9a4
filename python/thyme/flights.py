"""The Arrow Flight connection of a client: only made when it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from thyme.channel import Settings, channel_options
from thyme.errors import ThymeError
from thyme.rpc_errors import from_flight_error

ERRORS = (flight.FlightError, pa.ArrowException, OSError)


class Flights:
    """Calls of one client; may be used from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        scheme = "grpc+tls" if settings.queries.secure else "grpc"
        self.client = flight.FlightClient(f"{scheme}://{settings.queries.target}", generic_options=channel_options())

    def options(self, timeout: float) -> flight.FlightCallOptions:
        """Deadline and headers of a call."""
        headers = [(name.encode(), value.encode()) for name, value in self._settings.metadata]
        return flight.FlightCallOptions(timeout=timeout, headers=headers)

    def error(self, error: Exception) -> ThymeError:
        """What a failure means."""
        return error if isinstance(error, ThymeError) else from_flight_error(error, self._settings.queries.url)

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Raises a failure as what it means."""
        try:
            yield
        except ERRORS as error:
            raise self.error(error) from None

    @contextlib.contextmanager
    def closing(self, writer: Any) -> Iterator[None]:
        """Closes a writer; after a failure that only says the same again."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(*ERRORS):
                writer.close()
            raise
        writer.close()

    def close(self) -> None:
        """Closes the connection."""
        self.client.close()
