"""The caller's own deadline: the server says in time that it passed, and what was asked for does not go on."""

from __future__ import annotations

import base64
import itertools
import re
import time

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import Server, wait_until
from surfaces import exchange
from thyme import _proto
from thyme.client import Client
from thyme.errors import DeadlineExceededError
from thyme.values import to_value

SOURCE = """
import os
import time
from datetime import datetime

from thyme import dataset, extractor, extractor_inputs, extractor_outputs, featureset, field


@dataset(index=True, version=1)
class Order:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)


def note(what, key):
    with open(os.path.join(FOLDER, what), "a") as file:
        file.write(key + "\\n")


@featureset
class Slow:
    key: str
    size: int

    @extractor(deadline=120)
    @extractor_inputs("key")
    @extractor_outputs("size")
    def measure(cls, ts, key):
        note("begun", key)
        try:
            while key.startswith("slow"):
                time.sleep(0.01)
        finally:
            note("ended", key)
        return len(key)
"""
DEADLINE_MS = 800
# A library may count off what it took itself.
NOT_ANSWERED = re.compile(r"not answered within ([67]\d\d|800) ms")
# Far less than the extractor's own deadline and the server's.
PATIENCE = 15
WORKERS = 2
NAMES = itertools.count()
SERVICE = "/thyme.v1.FeatureService"


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """Questions for keys that begin with "slow" take two minutes; `never` is a position that does not come."""
    server = Server(tmp_path_factory.mktemp("slow")).start()
    done = server.commit(SOURCE.replace("FOLDER", repr(str(server.directory))))
    assert done.returncode == 0, done.stderr
    with server.client() as client:
        position = client.log("Order", [{"user": "ann", "ts": "2026-01-15T12:00:00Z"}]).position
    log, partition, _ = base64.urlsafe_b64decode(position[1:])
    server.never = "p" + base64.urlsafe_b64encode(bytes([log, partition, 100])).decode()
    yield server
    server.stop()


def noted(server: Server, what: str) -> list[str]:
    file = server.directory / what
    return file.read_text().split() if file.exists() else []


def get(key: str) -> object:
    return _proto.GetFeaturesRequest(featureset="Slow", key={"key": to_value(key)})


def batch(key: str) -> object:
    keys = [_proto.Column(name="key", type="str", strings=_proto.StringArray(values=[key, "quick", key]))]
    return _proto.BatchGetFeaturesRequest(featureset="Slow", keys=keys)


def explain(key: str) -> object:
    return _proto.ExplainRequest(name="Slow", key={"key": to_value(key)})


EXTRACTING = [("GetFeatures", get), ("BatchGetFeatures", batch), ("Explain", explain)]


def refusal(server: Server, method: str, request: object, **deadline: object) -> grpc.RpcError:
    """How a question ended that is not answered in time; it has ended soon."""
    begun = time.monotonic()
    with grpc.insecure_channel(server.queries) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(f"{SERVICE}/{method}")(request.SerializeToString(), **deadline)
    assert time.monotonic() - begun < PATIENCE
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED, caught.value
    return caught.value


# As a client's library sends it. This one does not know of it, so that nobody but the server can end the call.
TO_THE_SERVER_ONLY = {"metadata": (("grpc-timeout", f"{DEADLINE_MS}m"),)}


def check_ended(server: Server, *keys: str) -> None:
    """No call for them runs on, and others are answered as before."""
    assert set(keys) <= set(noted(server, "begun")), "the call did not come to the extractor"
    wait_until(lambda: set(keys) <= set(noted(server, "ended")), PATIENCE)
    check_serves(server)


def check_serves(server: Server) -> None:
    with server.client() as client:
        assert client.query("Slow", "quick").to_dicts() == [{"key": "quick", "size": 5}]
        assert client.lookup("Order", "ann").to_dicts()[0]["user"] == "ann"


@pytest.mark.parametrize(("method", "ask"), EXTRACTING)
def test_a_call_of_an_extractor_ends_with_its_question(slow, method, ask):
    key = f"slow-{next(NAMES)}"
    refused = refusal(slow, method, ask(key), **TO_THE_SERVER_ONLY)
    assert NOT_ANSWERED.fullmatch(refused.details()), refused
    check_ended(slow, key)
    assert noted(slow, "begun").count(key) == 1, "the other rows of a question are not tried"


@pytest.mark.parametrize(("method", "ask"), EXTRACTING)
def test_more_callers_than_workers_may_give_up(slow, method, ask):
    """With the deadline of a real client, which cancels the call as well."""
    keys = [f"slow-{next(NAMES)}" for _ in range(WORKERS + 1)]
    for key in keys:
        refusal(slow, method, ask(key), timeout=DEADLINE_MS / 1000)
    check_ended(slow, *keys)


def test_questions_of_a_stream_end_one_by_one(slow):
    """The deadline of each ends its own call; a client that leaves ends those under way."""
    late, left = f"slow-{next(NAMES)}", f"slow-{next(NAMES)}"
    with Client(f"http://{slow.queries}", f"http://{slow.control}", timeout=5) as client:
        answers = client.query_many("Slow", ["quick", late, "quicker"])
        assert next(answers)["size"] == [5]
        with pytest.raises(DeadlineExceededError, match="not answered within 5000 ms"):
            next(answers)
        assert next(answers)["size"] == [7]
        check_ended(slow, late)
    with slow.client() as client:
        answers = client.query_many("Slow", ["quick", left])
        assert next(answers)["size"] == [5]
        wait_until(lambda: left in noted(slow, "begun"), PATIENCE)
        answers.close()
        check_ended(slow, left)


NOT_APPLIED = "the events asked for with at_least were not applied in time"
WAITING = [
    ("GetFeatures", _proto.GetFeaturesRequest(featureset="Slow", key={"key": to_value("quick")})),
    ("BatchGetFeatures", batch("quick")),
    ("Lookup", _proto.LookupRequest(dataset="Order", key={"user": to_value("ann")})),
]


@pytest.mark.parametrize(("method", "question"), WAITING)
def test_a_wait_for_a_position_ends_too(slow, method, question):
    question.at_least = slow.never
    refused = refusal(slow, method, question, **TO_THE_SERVER_ONLY)
    # The wait and the whole question end at one instant.
    assert refused.details() == NOT_APPLIED or NOT_ANSWERED.fullmatch(refused.details()), refused
    refusal(slow, method, question, timeout=DEADLINE_MS / 1000)
    check_serves(slow)


def export(server: Server, keys: list[str], options: flight.FlightCallOptions, **command: object) -> str:
    """The error of an export that is not done in time."""
    times = pa.array([1_800_000_000_000_000] * len(keys), pa.timestamp("us", "UTC"))
    spine = pa.table({"key": keys, "ts": times})
    begun = time.monotonic()
    with pytest.raises(flight.FlightTimedOutError) as caught:
        exchange(server, spine, options, featureset="Slow", timestamp_column="ts", **command)
    assert time.monotonic() - begun < PATIENCE
    return str(caught.value)


BY_HEADER = flight.FlightCallOptions(headers=[(b"grpc-timeout", f"{DEADLINE_MS}m".encode())])
BY_CLIENT = flight.FlightCallOptions(timeout=DEADLINE_MS / 1000)


def test_an_export_ends(slow):
    keys = [f"slow-{next(NAMES)}" for _ in range(WORKERS + 1)]
    told = export(slow, keys[:1], BY_HEADER)
    assert re.search(r"the export was not done within ([67]\d\d|800) ms", told), told
    for key in keys[1:]:
        export(slow, [key], BY_CLIENT)
    check_ended(slow, *keys)


def test_an_export_that_waits_for_a_position_ends(slow):
    told = export(slow, ["quick"], BY_HEADER, at_least=slow.never)
    assert NOT_APPLIED in told, told
    export(slow, ["quick"], BY_CLIENT, at_least=slow.never)
    check_serves(slow)
