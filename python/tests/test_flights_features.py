"""The flights example: its features on a sequence made by hand, by the real engine in memory."""

from __future__ import annotations

import importlib
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from thyme.testing import MockContext

FLIGHTS = Path(__file__).parents[1] / "examples" / "flights"
NOON = datetime(2013, 6, 1, 12, tzinfo=timezone.utc)
MICRO = timedelta(microseconds=1)


@pytest.fixture
def features(monkeypatch):
    monkeypatch.syspath_prepend(str(FLIGHTS))
    monkeypatch.delitem(sys.modules, "features", raising=False)
    yield importlib.import_module("features")
    monkeypatch.delitem(sys.modules, "features")


@pytest.fixture
def context(features):
    with MockContext() as found:
        yield found


def departure(hours, tailnum="N1", carrier="UA", origin="JFK", distance=1000):
    return {
        "tailnum": tailnum, "departed": NOON + timedelta(hours=hours), "carrier": carrier, "origin": origin,
        "flight": 1, "dest": "IAH", "distance": distance,
    }  # fmt: skip


def arrival(hours, delay, tailnum="N1", carrier="UA", origin="JFK"):
    return {
        "tailnum": tailnum, "arrived": NOON + timedelta(hours=hours), "carrier": carrier, "origin": origin,
        "flight": 1, "dest": "IAH", "delay": delay,
    }  # fmt: skip


KEY = {"tailnum": "N1", "carrier": "UA", "origin": "JFK"}


def fill(context, features):
    left = [
        departure(-100, origin="LGA", distance=300),
        departure(-25),
        departure(-24, distance=500),
        departure(-0.5, tailnum="N2"),
        departure(-0.25, tailnum="N3", carrier="AA"),
        departure(-1, distance=700),
    ]
    landed = [
        arrival(-97, 16, origin="LGA"),
        arrival(-23, 15),
        arrival(-22, None),
        arrival(-20, 40),
        arrival(-0.75, -10, tailnum="N2"),
        arrival(-21, 5, tailnum="N3", carrier="AA"),
    ]
    assert context.add_events(features.Departure, left).accepted == len(left)
    assert context.add_events(features.Arrival, landed).accepted == len(landed)


def test_all_features_of_a_flight(context, features):
    fill(context, features)
    answer = context.query(features.FlightFeatures, KEY, ts=NOON)
    assert answer.errors == {}
    assert {name: value for name, value in answer.items() if name not in KEY} == {
        "aircraft_departures_24h": 2,  # the one exactly 24 hours ago counts, the one before it does not
        "aircraft_miles_7d": 2500,
        "aircraft_last_origin": "JFK",
        "aircraft_arrivals_30d": 3,
        "aircraft_late_30d": 2,
        "aircraft_avg_delay_7d": 71 / 3,
        "aircraft_max_delay_24h": 40,
        "aircraft_last_delay": 40,
        "aircraft_p90_delay_30d": 40.0,
        "aircraft_late_share": 3 / 8,
        "aircraft_risk": 3 / 8 * (1 + 40 / 60),
        "carrier_departures_1h": 2,
        "carrier_avg_delay_24h": 15.0,
        "carrier_late_share_7d": 0.5,
        "origin_departures_1h": 3,
        "origin_avg_delay_1h": -10.0,
        "origin_avg_delay_24h": 12.5,
    }


def test_a_flight_does_not_see_itself(context, features):
    fill(context, features)
    at = NOON - timedelta(hours=1)
    own = ["aircraft_departures_24h", "origin_departures_1h"]
    seen = context.query(features.FlightFeatures, KEY, ts=at, features=own)
    unseen = context.query(features.FlightFeatures, KEY, ts=at, features=own, exclusive=True)
    assert [seen[name] - unseen[name] for name in own] == [1, 1]
    assert context.query(features.FlightFeatures, KEY, ts=at - MICRO, features=own)["origin_departures_1h"] == 0


def test_an_aircraft_alone_asks_for_its_features_only(context, features):
    fill(context, features)
    wanted = ["aircraft_departures_24h", "aircraft_risk"]
    answer = context.query(features.FlightFeatures, {"tailnum": "N1"}, ts=NOON, features=wanted)
    assert [answer[name] for name in wanted] == [2, 3 / 8 * (1 + 40 / 60)]
    with pytest.raises(Exception, match="carrier"):
        context.query(features.FlightFeatures, {"tailnum": "N1"}, ts=NOON)


def test_an_unknown_aircraft_has_the_values_of_empty_windows(context, features):
    fill(context, features)
    wanted = ["aircraft_departures_24h", "aircraft_last_delay", "aircraft_late_share", "aircraft_risk"]
    answer = context.query(features.FlightFeatures, {"tailnum": "N0"}, ts=NOON, features=wanted)
    assert [answer[name] for name in wanted] == [0, None, 0.2, 0.2]
    assert answer.statuses["aircraft_last_delay"] == "DEFAULT"


def test_a_late_flight_lands_in_the_window_of_its_own_time(context, features):
    fill(context, features)
    context.add_events(features.Arrival, [arrival(-20.5, 100)])  # before the last one of this aircraft
    answer = context.query(features.FlightFeatures, KEY, ts=NOON)
    assert (answer["aircraft_max_delay_24h"], answer["aircraft_last_delay"]) == (100, 40)
    assert answer["aircraft_arrivals_30d"] == 4
