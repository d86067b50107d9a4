"""While something is built for the first time nothing of it answers: who asks is told so, and how far it is."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from harness import Server
from surfaces import exchange, http
from thyme import _proto
from thyme.errors import NotFoundError, UnavailableError
from thyme.values import to_value

RAW = """
from datetime import datetime

from thyme import (
    ApproxPercentile, Count, CountDistinct, LastK, Max, Min, Stddev, Sum, dataset, feature, featureset, field, inputs,
    pipeline,
)


@dataset(index=True, version=1, partitions=1)
class Click:
    user: int = field(key=True)
    ts: datetime = field(timestamp=True)
    page: int
"""
# More than is asked for, so that it takes longer.
STATS = """

@dataset(index=True, version=1)
class PageStats:
    page: int = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    users: int
    least: int
    most: int
    total: int
    spread: float
    middle: float
    newest: list[int]

    @pipeline(version=1)
    @inputs(Click)
    def compute(cls, clicks):
        return clicks.groupby("page").aggregate(
            n=Count(),
            users=CountDistinct(of="user", window="1h"),
            least=Min(of="user", window="1h"),
            most=Max(of="user", window="1h"),
            total=Sum(of="user"),
            spread=Stddev(of="user", window="1h"),
            middle=ApproxPercentile(of="user", window="1h"),
            newest=LastK(of="user", window="1h", k=3),
        )


@dataset(index=True, version=1)
class UserStats:
    user: int = field(key=True)
    ts: datetime = field(timestamp=True)
    n: int
    first: int
    last: int

    @pipeline(version=1)
    @inputs(Click)
    def compute(cls, clicks):
        return clicks.groupby("user").aggregate(
            n=Count(), first=Min(of="page", window="1h"), last=Max(of="page", window="1h")
        )


@featureset
class Page:
    page: int
    n: int = feature(ref=PageStats.n)
"""
# To build from this many takes seconds, to be refused milliseconds.
CLICKS = 400_000
PAGES = 4
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
SAYS = re.compile(r"(featureset 'Page'|dataset 'PageStats') is still being built: (\d+) of (\d+) records read")
HINT = "ask again when `thyme status` shows it as serving"
NOT_YET = "not committed"


@pytest.fixture(scope="module")
def clicked(tmp_path_factory):
    """A server that has all clicks in its log and nothing that counts them."""
    server = Server(tmp_path_factory.mktemp("clicked")).start()
    assert server.commit(RAW).returncode == 0
    numbers = range(CLICKS)
    times = pa.array([START + timedelta(milliseconds=number) for number in numbers], pa.timestamp("us", "UTC"))
    table = pa.table({"user": list(numbers), "ts": times, "page": [number % PAGES for number in numbers]})
    with server.client() as client:
        sent = client.log("Click", table)
        client.lookup("Click", 1, at_least=sent.position)
    yield server
    server.stop()


def over_http(server: Server) -> str | None:
    """What it is told instead of the answer; `None` if it is answered, and then right. So do the others."""
    try:
        with urllib.request.urlopen(f"http://{server.queries}/features?featureset=Page&page=1", timeout=60) as answer:
            assert json.load(answer)["features"] == {"n": CLICKS // PAGES}
            return None
    except urllib.error.HTTPError as refused:
        problem = json.load(refused)
        if refused.code == 404:
            return NOT_YET
        assert (refused.code, refused.headers["content-type"]) == (503, "application/problem+json"), problem
        assert (problem["status"], problem["code"], problem["field"]) == (503, "unavailable", "featureset"), problem
        assert (problem["hint"], refused.headers["retry-after"]) == (HINT, "1"), problem
        return problem["error"]


def over_grpc(server: Server) -> str | None:
    """Without the SDK, which would ask again by itself."""
    request = _proto.GetFeaturesRequest(featureset="Page", key={"page": to_value(1)})
    with grpc.insecure_channel(server.queries) as channel:
        ask = channel.unary_unary("/thyme.v1.FeatureService/GetFeatures")
        try:
            answer = _proto.GetFeaturesResponse.FromString(ask(request.SerializeToString(), timeout=60))
        except grpc.RpcError as refused:
            if refused.code() == grpc.StatusCode.NOT_FOUND:
                return NOT_YET
            assert refused.code() == grpc.StatusCode.UNAVAILABLE, refused
            details = dict(refused.trailing_metadata())["grpc-status-details-bin"]
            assert HINT.encode() in details and b"google.rpc.RetryInfo" in details, details
            return refused.details()
    assert answer.features[0].value == to_value(CLICKS // PAGES), answer
    return None


def with_the_sdk(server: Server) -> str | None:
    with server.client(retry_for=0) as client:
        try:
            assert client.query_batch("Page", [1, 2]).to_dicts() == [{"page": n, "n": CLICKS // PAGES} for n in (1, 2)]
        except NotFoundError:
            return NOT_YET
        except UnavailableError as refused:
            assert (refused.hint, refused.exit_code) == (HINT, 7), refused
            return refused.message
    return None


def as_export(server: Server) -> str | None:
    spine = pa.table({"page": [1], "ts": [START + timedelta(days=1)]})
    try:
        joined = exchange(server, spine, featureset="Page", timestamp_column="ts")
    except pa.ArrowKeyError:
        return NOT_YET
    except flight.FlightUnavailableError as refused:
        assert f"(hint: {HINT})" in str(refused)
        return str(refused)
    assert joined["n"].to_pylist() == [CLICKS // PAGES]
    return None


def as_lookup(server: Server) -> str | None:
    status, told = http(f"http://{server.queries}/features?entity_type=PageStats&entity_id=1")
    if status == 200:
        assert told["features"]["n"] == CLICKS // PAGES, told
        return None
    assert (status, told["code"]) in {(404, "not_found"), (503, "unavailable")}, told
    return NOT_YET if status == 404 else told["error"]


WAYS = (over_http, over_grpc, with_the_sdk, as_export, as_lookup)


def refusals_until_built(server: Server, also: Callable[[], None] = lambda: None) -> dict[str, list[str]]:
    """Asks in every way in turn until each is answered: what each was told before."""
    told: dict[str, list[str]] = {way.__name__: [] for way in WAYS}
    deadline = time.monotonic() + 180
    answered = False
    while not answered:
        assert time.monotonic() < deadline, told
        texts = {way.__name__: way(server) for way in WAYS}
        also()
        answered = not any(texts.values())
        for way, text in texts.items():
            if text not in (None, NOT_YET):
                told[way].append(text)
    return told


def check_refusals(told: dict[str, list[str]]) -> None:
    for way, texts in told.items():
        assert texts, f"{way} was never refused: the build was too short"
        shown = [SAYS.search(text) for text in texts]
        assert all(shown), texts
        done = [int(found[2]) for found in shown]
        assert done == sorted(done), texts
        assert all(int(found[2]) <= int(found[3]) >= CLICKS for found in shown), texts


def test_a_featureset_without_predecessor(clicked):
    def still_answers() -> None:
        """What was there before serves on."""
        with clicked.client() as client:
            assert client.lookup("Click", 1).to_dicts()[0]["page"] == 1

    done = []
    committing = threading.Thread(target=lambda: done.append(clicked.commit(RAW + STATS)))
    committing.start()
    told = refusals_until_built(clicked, still_answers)
    committing.join()
    assert done[0].returncode == 0, done
    check_refusals(told)


def test_a_state_that_was_lost(clicked):
    """The commit is live, yet what it serves has to be read from the log again: by rows too, of all of it."""
    assert clicked.commit(RAW + STATS).returncode == 0
    clicked.stop()
    clicked.lose_state()
    clicked.launch()
    while (reason := clicked.not_ready()) and "being built" not in reason:
        assert clicked.process.poll() is None
        time.sleep(0.02)
    assert reason and "the state is being built from the log" in reason, "the build was too short"
    status, problem = http(f"http://{clicked.queries}/features?entity_type=Click&entity_id=1")
    assert (status, problem["code"]) == (503, "unavailable"), problem
    assert problem["error"].startswith("dataset 'Click' is still being built: "), problem
    check_refusals(refusals_until_built(clicked))
    assert clicked.not_ready() is None
