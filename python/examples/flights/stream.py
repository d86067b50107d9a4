"""Streaming: every flight in the order in which it was to leave, departure and arrival at their actual times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd

    from thyme.client import Client

FLIGHTS_PER_BATCH = 2_000

_COMMON = [("carrier", pa.string()), ("flight", pa.int64()), ("origin", pa.string()), ("dest", pa.string())]
_TIME = pa.timestamp("us", tz="UTC")
DEPARTURE = pa.schema([("tailnum", pa.string()), ("departed", _TIME), *_COMMON, ("distance", pa.int64())])
ARRIVAL = pa.schema([("tailnum", pa.string()), ("arrived", _TIME), *_COMMON, ("delay", pa.int64())])


@dataclass
class Sent:
    """What the server took."""

    flights: int = 0
    events: int = 0
    accepted: int = 0
    rejected: int = 0
    positions: list[str] = field(default_factory=list)  # of the last batch: whoever has them has everything


def departures(flights: pd.DataFrame) -> pa.Table:
    """The flights that left, as rows of `Departure`."""
    left = flights[flights["departed"].notna()]
    return pa.Table.from_pandas(left[DEPARTURE.names], schema=DEPARTURE, preserve_index=False)


def arrivals(flights: pd.DataFrame) -> pa.Table:
    """The flights that landed, as rows of `Arrival`."""
    landed = flights[flights["arrived"].notna()].rename(columns={"arr_delay": "delay"})
    return pa.Table.from_pandas(landed[ARRIVAL.names], schema=ARRIVAL, preserve_index=False)


def batches(flights: pd.DataFrame, size: int = FLIGHTS_PER_BATCH) -> Iterator[pd.DataFrame]:
    for first in range(0, len(flights), size):
        yield flights.iloc[first : first + size]


def send(client: Client, flights: pd.DataFrame, after: Callable[[int, int], None] = lambda seen, events: None) -> Sent:
    """Sends all flights. `after(flights so far, events)` is called when a batch is durable.

    A flight that never left sends nothing. A call that meets a killed server is repeated by the client until the next
    one answers; the server counts its rows once.
    """
    sent = Sent()
    seen = 0
    for batch in batches(flights):
        seen += len(batch)
        left, landed = departures(batch), arrivals(batch)
        results = [client.log("Departure", left, progress=False), client.log("Arrival", landed, progress=False)]
        sent.flights += left.num_rows
        sent.events += left.num_rows + landed.num_rows
        sent.accepted += sum(result.accepted for result in results)
        sent.rejected += sum(len(result.rejected) for result in results)
        sent.positions = [result.position for result in results if result.position] or sent.positions
        after(seen, left.num_rows + landed.num_rows)
    return sent


def counts(client: Client) -> dict[str, tuple[int, int]]:
    """Accepted and late-dropped events per dataset, as the server counts them."""
    found = {dataset["name"]: dataset["counts"] or {} for dataset in client.status()["datasets"]}
    return {
        name: (found[name].get("accepted", 0), found[name].get("late_dropped", 0)) for name in ("Departure", "Arrival")
    }
