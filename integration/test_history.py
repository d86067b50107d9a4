"""`history=`: an answer below the horizon is an error that names it, and another history builds the state anew."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import wait_until
from thyme.errors import OutOfRangeError

FEATURES = """
from datetime import datetime
from thyme import Count, Sum, dataset, feature, featureset, field, inputs, pipeline


@dataset(version=1, max_lateness="1h", history="2d")
class Reading:
    device: str = field(key=True)
    ts: datetime = field(timestamp=True)
    level: int


@dataset(index=True, version=1)
class DeviceStats:
    device: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    total: int

    @pipeline(version=1)
    @inputs(Reading)
    def compute(cls, readings):
        return readings.groupby("device").aggregate(n=Count(window="1d"), total=Sum(of="level", window="12h"))


@featureset
class Device:
    device: str
    n: int = feature(ref=DeviceStats.n)
    total: int = feature(ref=DeviceStats.total)
"""
START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS = 24 * 20
#: The newest reading is of the last hour, the watermark an hour below.
WATERMARK = START + timedelta(hours=HOURS - 2)


def at(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def truth(hour: int) -> dict[str, object]:
    """Both ends of a window belong to it: 25 and 13 readings once it is full."""
    counted = range(max(0, hour - 24), hour + 1)
    return {"device": "a", "n": len(counted), "total": sum(range(max(0, hour - 12), hour + 1))}


def horizon(days: int) -> int:
    return HOURS - 2 - 24 * days


def check(client, days: int) -> None:
    for hour in (horizon(days), horizon(days) + 1, HOURS - 1):
        assert client.query("Device", "a", ts=at(hour)).to_dicts() == [truth(hour)]
    with pytest.raises(OutOfRangeError) as raised:
        client.query("Device", "a", ts=at(horizon(days)) - timedelta(microseconds=1))
    edge = (WATERMARK - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert f"is before the horizon {edge}: 'Reading' has history={days}d below its watermark" in str(raised.value)


def test_answers_end_at_the_horizon(make_server):
    server = make_server().start()
    assert server.commit(FEATURES).returncode == 0
    with server.client() as client:
        rows = [{"device": "a", "ts": at(hour), "level": hour} for hour in range(HOURS)]
        sent = client.log("Reading", rows)
        assert client.query("Device", "a", at_least=sent.position).to_dicts() == [truth(HOURS - 1)]
        check(client, 2)
        with pytest.raises(OutOfRangeError):
            client.lookup("DeviceStats", "a", ts=at(0))
        with pytest.raises(OutOfRangeError):
            client.explain("Device", "a", ts=at(0))
        spine = [{"device": "a", "timestamp": at(hour)} for hour in (0, horizon(2), HOURS - 1)]
        found = client.query_offline("Device", spine, timestamp_column="timestamp", statuses=True).to_dicts()
        assert [row["n__status"] for row in found] == ["ERROR", "OK", "OK"]
        assert [row["n"] for row in found] == [None, 25, 25]
        assert [row["total"] for row in found[1:]] == [truth(horizon(2))["total"], truth(HOURS - 1)["total"]]
    url = f"http://{server.queries}/features?featureset=Device&device=a&ts=2026-03-01T00:00:00Z"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=30)
    assert refused.value.code == 400
    assert json.load(refused.value)["code"] == "out_of_range"
    assert "history 2d" in server.run("inspect", "Reading").stdout

    server.kill()
    server.start()
    with server.client(retry_for=60) as client:
        check(client, 2)
    # A longer one is built from the log, which has everything.
    done = server.commit(FEATURES.replace('history="2d"', 'history="6d"'))
    assert done.returncode == 0, done.stderr
    assert "history changes from 2d to 6d" in done.stdout
    with server.client() as client:
        check(client, 6)


def with_history(history: str | None) -> str:
    return FEATURES.replace(', history="2d"', f', history="{history}"' if history else "")


def readings(hours: range) -> list[dict[str, object]]:
    return [{"device": "a", "ts": at(hour), "level": hour} for hour in hours]


@pytest.mark.parametrize(("before", "after"), [(None, "2d"), ("2d", "6d"), ("6d", "2d"), ("2d", None)])
def test_a_checkpoint_of_another_history_is_no_shorter_state(make_server, before, after):
    """The newest checkpoint is of the time before `history=` was changed, the state is lost: what the definitions say
    now is built from the log, not taken from tables that may have let go of it."""
    server = make_server()
    server.env["THYME_CHECKPOINTS__URL"] = f"file://{server.directory}/store"
    server.env["THYME_CHECKPOINTS__INTERVAL_S"] = "1"
    server.start()
    assert server.commit(with_history(before)).returncode == 0
    older = server.status()["checkpoints"]["number"] or 0
    with server.client() as client:
        sent = client.log("Reading", readings(range(HOURS - 24)))
        client.query("Device", "a", at_least=sent.position)
    wait_until(lambda: (server.status()["checkpoints"]["number"] or 0) > older)
    server.stop()
    # Perhaps one more was taken meanwhile.
    number = max(int(manifest.stem) for manifest in (server.directory / "store" / "manifests").iterdir())
    # No other is taken from now on.
    server.env["THYME_CHECKPOINTS__INTERVAL_S"] = "100000"
    server.start()
    done = server.commit(with_history(after))
    assert done.returncode == 0, done.stderr
    with server.client() as client:
        sent = client.log("Reading", readings(range(HOURS - 24, HOURS)))
    server.kill()
    shutil.rmtree(server.directory / "data" / "state")
    server.start()
    with server.client(retry_for=60) as client:
        assert client.query("Device", "a", at_least=sent.position).to_dicts() == [truth(HOURS - 1)]
        assert server.status()["checkpoints"]["restored"] == number
        if after is None:
            for hour in (0, 30, HOURS - 1):
                assert client.query("Device", "a", ts=at(hour)).to_dicts() == [truth(hour)]
        else:
            check(client, int(after.removesuffix("d")))
    assert server.data("rebuild")["equal"]


def known(hour: int, newest: int) -> tuple[int, int]:
    """What an answer at an hour says while the newest reading is that of hour `newest`."""
    counted = [reading for reading in range(max(0, hour - 24), hour + 1) if reading <= newest]
    return len(counted), sum(reading for reading in counted if reading >= hour - 12)


def test_an_export_answers_as_of_its_beginning_while_blocks_go(make_server):
    """Between the first piece of the spine and the rest ten days pass, and the state lets go of all that the rest asks
    for."""
    server = make_server().start()
    assert server.commit(FEATURES).returncode == 0
    newest, later = HOURS - 1, HOURS + 24 * 10
    hours = [*range(0, HOURS + 40, 7), horizon(2) - 1, horizon(2)]
    schema = pa.schema({"device": pa.string(), "timestamp": pa.timestamp("us", tz="UTC")})
    spine = pa.record_batch([["a"] * len(hours), [at(hour) for hour in hours]], schema=schema)
    command = {"featureset": "Device", "entity_columns": {"device": "device"}, "statuses": True}
    with server.client() as client:
        sent = client.log("Reading", readings(range(HOURS)))
        client.query("Device", "a", at_least=sent.position)
        with flight.connect(f"grpc://{server.queries}") as flights:
            writer, reader = flights.do_exchange(flight.FlightDescriptor.for_command(json.dumps(command)))
            writer.begin(schema)
            writer.write_batch(spine)
            found = [reader.read_chunk().data]
            sent = client.log("Reading", readings(range(HOURS, later)))
            client.query("Device", "a", at_least=sent.position)
            for hour in (horizon(2), newest):
                with pytest.raises(OutOfRangeError):
                    client.query("Device", "a", ts=at(hour))
            writer.write_batch(spine)
            writer.done_writing()
            found += [chunk.data for chunk in reader]
        again = client.query_offline("Device", spine, timestamp_column="timestamp", statuses=True).to_dicts()
    rows = pa.Table.from_batches(found).to_pylist()
    for hour, row in zip(hours * 2, rows, strict=True):
        if hour < horizon(2):
            assert (row["n__status"], row["n"], row["total"]) == ("ERROR", None, None), hour
        else:
            assert (row["n"], row["total"]) == known(hour, newest), hour
    # Asked again, all of it lies below the horizon.
    assert {row["n__status"] for row in again} == {"ERROR"}
