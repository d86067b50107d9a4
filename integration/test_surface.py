"""What users touch, on one real server: keys of every sort, defaults and statuses, listings, gRPC's own services."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from datetime import datetime, timezone

import grpc
import pytest

from thyme.errors import InvalidArgumentError
from thyme.result import EraseResult

SOURCE = """
from datetime import datetime
from typing import Optional

from thyme import (
    Avg, Count, Last, Max, Min, Sum, col, dataset, extractor, extractor_inputs, extractor_outputs, feature, featureset,
    field, inputs, pipeline,
)


@dataset(index=True, version=1, max_lateness="1h", description="One ride.", owner="fleet", tags=["raw"], project="city")
class Trip:
    city: str = field(key=True)
    number: int = field(key=True)
    ts: datetime = field(timestamp=True)
    driver: str
    fare: float
    tip: Optional[float]


@dataset(index=True, version=1)
class DriverStats:
    driver: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n_1h: int
    average: float
    last_tip: Optional[float]
    least: float
    large: int

    @pipeline(version=1)
    @inputs(Trip)
    def compute(cls, trips):
        return (
            trips.filter(col("fare") > 0)
            .groupby("driver")
            .aggregate(
                n_1h=Count(window="1h"),
                average=Avg(of="fare", window="1d"),
                last_tip=Last(of="tip", window="1d"),
                least=Min(of="fare", window="1h", default=-1.0),
                large=Count(window="1d", where=(col("fare") >= 20) & ~col("tip").is_null()),
            )
        )


@dataset(index=True, version=1)
class CityStats:
    city: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int

    @pipeline(version=1)
    @inputs(Trip)
    def compute(cls, trips):
        return trips.groupby("city").aggregate(n=Count(window="1d"))


@dataset(index=True, version=1)
class TripStats:
    city: str = field(key=True)
    number: int = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int

    @pipeline(version=1)
    @inputs(Trip)
    def compute(cls, trips):
        return trips.groupby("city", "number").aggregate(n=Count())


@featureset(description="For dispatch.", owner="fleet")
class Rides:
    driver: str = feature(id=1)
    town: str = feature(id=2)
    basket: float = feature(id=3, request=True)
    n_1h: int = feature(id=4, ref=DriverStats.n_1h, default=99)
    average: float = feature(ref=DriverStats.average)
    average_or: float = feature(ref=DriverStats.average, default=3.5)
    last_tip: Optional[float] = feature(ref=DriverStats.last_tip, default=-5.0)
    least: float = feature(ref=DriverStats.least)
    least_or: float = feature(ref=DriverStats.least, default=-2.0)
    in_town: int = feature(ref=CityStats.n, on={"city": "town"})
    ratio: float

    @extractor
    @extractor_inputs("basket", "average_or")
    @extractor_outputs("ratio")
    def compute_ratio(cls, ts, inputs):
        return {"ratio": inputs["basket"] / inputs["average_or"]}


@featureset
class Trips:
    city: str
    number: int
    n: int = feature(ref=TripStats.n)
    fare: Optional[float] = feature(ref=Trip.fare)
    in_city: int = feature(ref=CityStats.n)


@featureset
class Scaled:
    driver: str
    twice: float
    label: str

    @extractor
    @extractor_inputs(Rides.average_or, "driver")
    @extractor_outputs("twice", "label")
    def compute(cls, ts, average_or, driver):
        return average_or * 2, f"{driver}!"
"""
NOON = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
TRIPS = [
    ("oslo", 1, "12:00:00", "ann", 10.0, 1.0),
    ("oslo", 2, "12:30:00", "ann", 20.0, None),
    ("rome", 1, "12:45:00", "eve", 5.0, None),
    ("rome", 2, "12:50:00", "bob", -1.0, None),
]


@pytest.fixture(scope="module")
def rides(tmp_path_factory):
    from harness import Server

    running = Server(tmp_path_factory.mktemp("rides")).start()
    done = running.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    with running.client() as client:
        names = ("city", "number", "ts", "driver", "fare", "tip")
        rows = [dict(zip(names, (c, n, f"2026-01-15T{t}Z", *rest), strict=True)) for c, n, t, *rest in TRIPS]
        sent = client.log("Trip", rows)
        client.query("Scaled", "ann", at_least=sent.position)
        client.query("Trips", {"city": "oslo", "number": 1}, at_least=sent.position)
    yield running
    running.stop()


def get(rides, path, **parameters):
    with urllib.request.urlopen(f"http://{rides.queries}/{path}?{urllib.parse.urlencode(parameters)}") as answer:
        return json.load(answer)


def test_defaults_and_statuses_of_known_half_known_and_unknown_keys(rides):
    with rides.client() as client:

        def ask(driver, **more):
            key = {"driver": driver, "town": "oslo"}
            answer = client.query("Rides", key, inputs={"basket": 7.0}, **more)
            row = answer.to_dicts()[0]
            assert (row.pop("driver"), row.pop("town")) == (driver, "oslo")
            return row, {name: found[0] for name, found in answer.statuses.items()}

        row, statuses = ask("ann")
        # A null that an event carried is a value; an empty window is not.
        assert row == {
            "n_1h": 2, "average": 15.0, "average_or": 15.0, "last_tip": None, "least": 10.0, "least_or": 10.0,
            "in_town": 2, "ratio": 7.0 / 15.0,
        }  # fmt: skip
        assert statuses == {}
        row, statuses = ask("ann", ts="2026-01-15T13:30:00.000001Z")
        assert (row["n_1h"], row["average"], row["least"], row["least_or"]) == (99, 15.0, -1.0, -2.0)
        assert statuses == {"n_1h": "DEFAULT", "least": "DEFAULT", "least_or": "DEFAULT"}
        # Bob's only trip does not pass the filter: he is as unknown as nobody.
        assert ask("bob") == ask("nobody")
        row, statuses = ask("nobody")
        assert row == {
            "n_1h": 99, "average": None, "average_or": 3.5, "last_tip": -5.0, "least": -1.0, "least_or": -2.0,
            "in_town": 2, "ratio": 2.0,
        }  # fmt: skip
        assert set(statuses) == set(row) - {"in_town", "ratio"}
        # At the instant of the first event it is known; exclusive of it, it is not.
        assert ask("ann", ts=NOON)[0]["average"] == 10.0
        assert ask("ann", ts=NOON, exclusive=True)[0]["average"] is None


def test_only_the_keys_and_inputs_that_are_needed_are_asked_for(rides):
    with rides.client() as client:
        assert client.query("Rides", {"driver": "ann"}, features=["n_1h"]).to_dicts() == [{"driver": "ann", "n_1h": 2}]
        assert client.query("Rides", {"town": "rome"}, features=["in_town"]).to_dicts()[0]["in_town"] == 2
        with pytest.raises(InvalidArgumentError, match="missing key 'town'"):
            client.query("Rides", {"driver": "ann"}, inputs={"basket": 1.0})
        with pytest.raises(InvalidArgumentError, match="missing input 'basket'"):
            client.query("Rides", {"driver": "ann"}, features=["ratio"])
        # Through another featureset, one key does.
        assert client.query("Scaled", "ann").to_dicts() == [{"driver": "ann", "twice": 30.0, "label": "ann!"}]


def test_composite_keys_are_typed_in_every_spelling(rides):
    wanted = {"n": 1, "fare": 20.0, "in_city": 2}
    with rides.client() as client:
        row = client.query("Trips", {"city": "oslo", "number": 2}).to_dicts()[0]
        assert row == {"city": "oslo", "number": 2, **wanted}
        with pytest.raises(InvalidArgumentError, match="key 'number': expected int, got str"):
            client.query("Trips", {"city": "oslo", "number": "2"})
        assert client.lookup("Trip", {"city": "oslo", "number": 3}).to_dicts() == []
        spine = [{"plane": 2, "city": "oslo", "timestamp": "2026-01-15T12:30:00Z", "label": True}]
        joined = client.query_offline("Trips", spine, entity_columns={"number": "plane"}).to_dicts()[0]
        assert {name: joined[name] for name in wanted} == wanted
        assert joined["label"] is True

    by_name = get(rides, "features", featureset="Trips", city="oslo", number=2)
    as_object = get(rides, "features", featureset="Trips", entity_id='{"city": "oslo", "number": 2}')
    assert by_name["features"] == as_object["features"] == wanted
    assert by_name["entity_id"] == {"city": "oslo", "number": 2}
    raw = get(rides, "features", entity_type="Trip", city="oslo", number=3)
    assert raw["features"] is None
    # Text is read by the key's type, and answered typed.
    told = json.loads(rides.run("query", "Trips", "-e", "city=oslo,number=2", "--json").stdout)
    assert (told["key"], told["features"]) == ({"city": "oslo", "number": 2}, wanted)
    assert rides.run("query", "Trips", "-e", "city=oslo").returncode == 1
    assert rides.run("query", "Trips", "-e", "oslo").returncode == 2


def test_listings_show_what_was_declared(rides):
    with rides.client() as client:
        trip = next(found for found in client.list("datasets") if found["name"] == "Trip")
        assert trip["metadata"] == {
            "description": "One ride.", "owner": "fleet", "tags": ["raw"], "project": "city", "deprecated": False,
            "replacement": "",
        }  # fmt: skip
        assert [field["name"] for field in trip["fields"] if field["key"]] == ["city", "number"]
    shown = rides.run("inspect", "Rides").stdout
    assert "description: For dispatch." in shown
    assert "DriverStats.n_1h" in shown


def test_inspect_tells_which_extractors_do_without_python(rides):
    assert "extractor, native" in rides.run("inspect", "Rides").stdout
    assert "native" not in rides.run("inspect", "Scaled").stdout
    listed = {found["name"]: found["features"] for found in rides.data("inspect")["featuresets"]}
    assert [found["name"] for found in listed["Rides"] if found["native"]] == ["ratio"]
    assert [found["native"] for found in listed["Scaled"] if found["kind"] == "extractor"] == [False, False]


def test_an_aggregate_is_shown_as_it_was_written(rides):
    with rides.client() as client:
        pipeline = next(found for found in client.list("pipelines") if found["name"] == "DriverStats.compute")
        texts = {aggregate["name"]: aggregate["definition"] for aggregate in pipeline["aggregates"]}
        assert texts["large"] == "Count(window=1d, where=(fare >= 20) & (~is_null(tip)))"
        assert texts["least"] == "Min(of=fare, window=1h, default=-1.0)"
        explained = client.explain("DriverStats", "ann", features=["large"])["explanations"][0]
        assert (explained["value"], explained["event_count"]) == (0, 0)
        assert explained["definition"] == "count() over 1d of DriverStats.large where (fare >= 20) & (~is_null(tip))"


def test_runs_carry_their_keys_as_values(rides):
    with rides.client() as client:
        asked = client.query("Trips", {"city": "rome", "number": 2}, ts=NOON)
        run = None
        while run is None:
            found = [run for run in client.runs(limit=5)["runs"] if run["id"] == asked.query_run_id]
            run = found[0] if found else None
        assert run == client.run(asked.query_run_id)
    assert run["entity_ids"] == [{"city": "rome", "number": 2}]
    assert (run["kind"], run["row_count"], run["requested_timestamp"]) == ("online", 1, NOON)
    assert run["latency_ms"] == run["latency_us"] / 1000
    over_http = get(rides, f"query-runs/{run['id']}")
    assert over_http["entity_ids"] == run["entity_ids"]


def test_reflection_and_health_on_both_ports(rides):
    for address, services in (
        (rides.queries, ["thyme.v1.FeatureService"]),
        (rides.control, ["thyme.v1.ControlService", "thyme.v1.IngestService"]),
    ):
        with grpc.insecure_channel(address) as channel:
            for version in ("v1", "v1alpha"):
                method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
                reflect = channel.stream_stream(method, None, None)
                # The request's seventh field, list_services, empty.
                told = b"".join(reflect(iter([b"\x3a\x00"]), timeout=30))
                mine = [b"thyme.v1." + name for name in (b"FeatureService", b"ControlService", b"IngestService")]
                assert [name for name in mine if name in told] == sorted(s.encode() for s in services)
            check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
            for service in services:
                name = service.encode()
                assert check(b"\x0a" + bytes([len(name)]) + name, timeout=30) == b"\x08\x01"  # SERVING
            with pytest.raises(grpc.RpcError) as caught:
                check(b"\x0a\x04nope", timeout=30)
            assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_renamed_feature_is_listed_under_both_names_and_ids_are_not_taken_over(make_server):
    server = make_server().start()
    assert server.commit(SOURCE).returncode == 0
    renamed = SOURCE.replace("n_1h: int = feature(id=4", "recent: int = feature(id=4")
    done = server.commit(renamed)
    assert "> feature Rides.recent  was n_1h, id 4" in done.stdout, done.stderr
    with server.client() as client:
        row = client.query("Rides", {"driver": "ann"}, features=["n_1h", "recent"]).to_dicts()[0]
        assert row == {"driver": "ann", "n_1h": 99, "recent": 99}
        features = next(found["features"] for found in client.list("featuresets") if found["name"] == "Rides")
        assert [(f["name"], f["id"]) for f in features if f["deprecated"]] == [("n_1h", 4)]
    # Another published feature cannot take the id, and with it the meaning of both names.
    taken = renamed.replace("    recent: int = feature(id=4, ref=DriverStats.n_1h, default=99)\n", "").replace(
        "average: float = feature(ref", "average: float = feature(id=4, ref"
    )
    done = server.commit(taken)
    assert done.returncode == 1
    assert "feature 'Rides.average' takes the id 4 of 'recent', but is a published feature itself" in done.stderr
    done = server.run("commit", "--remove", "Rides.n_1h")
    assert done.returncode == 0, done.stderr
    assert server.run("query", "Rides", "-e", "driver=ann", "--features", "n_1h").returncode == 5


def test_an_erase_leaves_what_is_grouped_by_another_key(rides):
    ride = {"ts": "2026-01-15T12:55:00Z", "driver": "zoe", "fare": 10.0, "tip": None}
    with rides.client() as client:
        sent = client.log("Trip", [{"city": "riga", "number": number, **ride} for number in (1, 2)])
        asked = {"ts": "2026-01-15T12:55:00Z", "at_least": sent.position}
        assert client.lookup("DriverStats", "zoe", **asked).to_dicts()[0]["n_1h"] == 2
        erased = client.erase("Trip", [{"city": "riga", "number": 1}])
        assert (erased.erased, erased.pending) == (1, True)
        while client.erase("Trip", []).pending:
            time.sleep(0.02)
        assert client.lookup("DriverStats", "zoe", **asked).to_dicts()[0]["n_1h"] == 1
        assert client.lookup("CityStats", "riga", **asked).to_dicts()[0]["n"] == 1
        assert client.erase("Trip", []) == EraseResult(0, client.erase("Trip", []).position, False)
