"""An independent reckoning of some features, by pandas and whole numbers, over the prepared flights."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 500


class Reckoning:
    """Features of a flight just before it left, from the definition: everything with T - w <= time < T."""

    def __init__(self, flights: pd.DataFrame) -> None:
        left = flights[flights["departed"].notna()].sort_values("departed", kind="stable")
        landed = flights[flights["arrived"].notna() & flights["arr_delay"].notna()]
        landed = landed.sort_values("arrived", kind="stable")
        self._distances = _by_key(left, "departed", "distance")
        self._delays = _by_key(landed, "arrived", "arr_delay")

    def features(self, tailnum: str, carrier: str, origin: str, at: pd.Timestamp) -> dict[str, Any]:
        day, week, hour = pd.Timedelta("24h"), pd.Timedelta("7D"), pd.Timedelta("1h")
        departures, delays = self._distances, self._delays
        return {
            "aircraft_departures_24h": len(_window(departures, tailnum, at, day)),
            "aircraft_miles_7d": sum(_window(departures, tailnum, at, week)),
            "aircraft_avg_delay_7d": _mean(_window(delays, tailnum, at, week)),
            "aircraft_max_delay_24h": max(_window(delays, tailnum, at, day), default=None),
            "carrier_departures_1h": len(_window(departures, carrier, at, hour)),
            "carrier_avg_delay_24h": _mean(_window(delays, carrier, at, day)),
            "origin_departures_1h": len(_window(departures, origin, at, hour)),
            "origin_avg_delay_1h": _mean(_window(delays, origin, at, hour)),
        }


def wrong(table: pa.Table, flights: pd.DataFrame, sample: int = SAMPLE) -> list[str]:
    """Rows of the training set, spread over it, that do not have exactly the reckoned values."""
    reckoning = Reckoning(flights)
    step = max(len(table) // sample, 1)
    found = []
    for row in table.take(list(range(0, len(table), step))).to_pylist():
        at = pd.Timestamp(row["departed"])
        expected = reckoning.features(row["tailnum"], row["carrier"], row["origin"], at)
        served = {name: row[name] for name in expected}
        if served != expected:
            found.append(f"{row['tailnum']} at {at}\n  served   {served}\n  reckoned {expected}")
    return found


def _by_key(rows: pd.DataFrame, time: str, value: str) -> dict[str, Any]:
    """Times and values of every aircraft, carrier and airport, in order of time."""
    return {
        key: (of_key[time].reset_index(drop=True), of_key[value].astype("int64").to_numpy())
        for name in ("tailnum", "carrier", "origin")
        for key, of_key in rows.groupby(name)
    }


def _window(events: dict[str, Any], key: str, at: pd.Timestamp, window: pd.Timedelta) -> list[int]:
    if key not in events:
        return []
    times, values = events[key]
    return values[times.searchsorted(at - window, "left") : times.searchsorted(at, "left")].tolist()


def _mean(values: list[int]) -> float | None:
    return float(Fraction(sum(values), len(values))) if values else None
