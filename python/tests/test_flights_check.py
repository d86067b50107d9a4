"""The flights example: the independent reckoning says so when a value is wrong."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pd = importlib.import_module("pandas")
pa = importlib.import_module("pyarrow")
FLIGHTS = Path(__file__).parents[1] / "examples" / "flights"


@pytest.fixture(scope="module")
def check():
    sys.path.insert(0, str(FLIGHTS))
    yield importlib.import_module("check")
    sys.path.remove(str(FLIGHTS))
    del sys.modules["check"]


def flights():
    rows = [
        # departed, arrived, delay, distance
        ("2013-06-01T10:00Z", "2013-06-01T13:00Z", 20, 700),
        ("2013-06-01T14:00Z", None, None, 500),
        ("2013-06-02T10:00Z", "2013-06-02T14:00Z", -5, 700),
        (None, None, None, 700),
    ]
    frame = pd.DataFrame(rows, columns=["departed", "arrived", "arr_delay", "distance"])
    for name in ("departed", "arrived"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame.assign(tailnum="N1", carrier="UA", origin="JFK")


EXPECTED = {
    "aircraft_departures_24h": 2,
    "aircraft_miles_7d": 1200,
    "aircraft_avg_delay_7d": 20.0,
    "aircraft_max_delay_24h": 20,
    "carrier_departures_1h": 0,
    "carrier_avg_delay_24h": 20.0,
    "origin_departures_1h": 0,
    "origin_avg_delay_1h": None,
}


def table(**changed):
    key = {"tailnum": "N1", "carrier": "UA", "origin": "JFK", "departed": pd.Timestamp("2013-06-02T10:00Z")}
    return pa.Table.from_pylist([{**key, **EXPECTED, **changed}])


def test_the_first_departure_counts_at_its_edge_and_the_flight_does_not_see_itself(check):
    assert check.wrong(table(), flights()) == []


@pytest.mark.parametrize("name", EXPECTED)
def test_a_wrong_value_is_found(check, name):
    (found,) = check.wrong(table(**{name: 7}), flights())
    assert name in found
