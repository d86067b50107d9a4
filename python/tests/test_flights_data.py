"""The flights example: what its data holds, checked against the figures that are known of it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pd = importlib.import_module("pandas")
FLIGHTS = Path(__file__).parents[1] / "examples" / "flights"


@pytest.fixture(scope="module")
def data():
    sys.path.insert(0, str(FLIGHTS))
    yield importlib.import_module("data")
    sys.path.remove(str(FLIGHTS))
    del sys.modules["data"]


@pytest.fixture(scope="module")
def flights(data):
    return data.load()


def farthest_behind(times):
    """How far a time is behind the greatest one before it, at most."""
    happened = times.dropna()
    return (happened.cummax() - happened).max()


def test_every_flight_is_there_in_the_order_of_its_schedule(flights):
    assert len(flights) == 336_776
    assert flights["scheduled"].is_monotonic_increasing
    assert not flights.duplicated(["scheduled", "carrier", "flight", "origin", "dest"]).any()
    assert str(flights["scheduled"].iloc[0]) == "2013-01-01 10:15:00+00:00"


def test_flights_without_departure_tail_number_or_delay(flights):
    left = flights["departed"].notna()
    assert (~left).sum() == 8_255
    assert flights["tailnum"].isna().sum() == 2_512
    assert flights.loc[left, "tailnum"].notna().all()
    assert (left & flights["arr_delay"].isna()).sum() == 1_175
    assert flights["arrived"].notna().sum() == 328_063
    assert (flights["arrived"].isna() | left).all()


def test_how_far_real_times_are_behind(flights):
    assert farthest_behind(flights["departed"]) == pd.Timedelta(hours=21, minutes=48)
    assert farthest_behind(flights["arrived"]) == pd.Timedelta(hours=31, minutes=41)


def test_a_flight_lands_within_a_day_after_it_left(flights):
    flown = (flights["arrived"] - flights["departed"]).dropna()
    assert flown.min() > pd.Timedelta(0)
    assert flown.max() < pd.Timedelta(days=1)


AIRPORTS = [("IAH", "America/Chicago"), ("LAX", "America/Los_Angeles"), ("JFK", "America/New_York")]
PREPARED = [
    # time_hour, minute, dep_delay, arr_time, dest -> departed, arrived
    ("2013-01-01T10:00:00Z", 15, 2, 830, "IAH", "2013-01-01T10:17Z", "2013-01-01T14:30Z"),
    ("2013-01-01T11:00:00Z", 0, -6, 812, "BQN", "2013-01-01T10:54Z", "2013-01-01T12:12Z"),
    ("2013-07-01T23:00:00Z", 30, 0, 2400, "IAH", "2013-07-01T23:30Z", "2013-07-02T05:00Z"),
    ("2013-07-02T02:00:00Z", 0, 0, 30, "JFK", "2013-07-02T02:00Z", "2013-07-02T04:30Z"),
    # The night when clocks go forward: 3:10 in Los Angeles is 10:10 UTC, not 11:10.
    ("2013-03-10T05:00:00Z", 0, 30, 310, "LAX", "2013-03-10T05:30Z", "2013-03-10T10:10Z"),
    # The night when they go back: 1:30 comes twice; the first is before departure in the second case.
    ("2013-11-03T03:00:00Z", 0, 0, 130, "JFK", "2013-11-03T03:00Z", "2013-11-03T05:30Z"),
    ("2013-11-03T05:00:00Z", 40, 0, 130, "JFK", "2013-11-03T05:40Z", "2013-11-03T06:30Z"),
    ("2013-11-03T05:00:00Z", 40, None, None, "JFK", None, None),
]


def test_actual_times_from_local_clocks(data):
    given = pd.DataFrame(PREPARED, columns=["time_hour", "minute", "dep_delay", "arr_time", "dest", "left", "landed"])
    given = given.assign(
        arr_delay=0.0, tailnum="N1", carrier="UA", flight=range(len(given)), origin="JFK", distance=100
    )
    prepared = data.prepare(given, pd.DataFrame(AIRPORTS, columns=["faa", "tzone"])).set_index("flight").sort_index()
    for name, expected in (("departed", "left"), ("arrived", "landed")):
        assert prepared[name].isna().tolist() == given[expected].isna().tolist()
        happened = given[expected].notna()
        assert prepared[name][happened].tolist() == pd.to_datetime(given[expected][happened], utc=True).tolist()
