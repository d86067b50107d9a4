"""Request features: their values come with the question, over HTTP in every form that it takes, as from the SDK."""

from __future__ import annotations

import json
import urllib.parse
from datetime import datetime, timezone

import pytest

from surfaces import http
from thyme.errors import InvalidArgumentError

SOURCE = """
from datetime import datetime
from typing import Optional

from thyme import (
    Sum, dataset, extractor, extractor_inputs, extractor_outputs, feature, featureset, field, inputs, pipeline,
)


@dataset(index=True, version=1)
class Bill:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: float


@dataset(index=True, version=1)
class Bills:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    spent: float

    @pipeline(version=1)
    @inputs(Bill)
    def compute(cls, bills):
        return bills.groupby("user").aggregate(spent=Sum(of="amount", window="1d"))


@featureset
class Basket:
    user: str
    basket: float = feature(request=True)
    pieces: int = feature(request=True)
    gift: bool = feature(request=True)
    until: datetime = feature(request=True)
    coupon: Optional[str] = feature(request=True)
    spent: float = feature(ref=Bills.spent)
    each: float
    share: float
    told: str

    @extractor
    @extractor_inputs("basket", "pieces")
    @extractor_outputs("each")
    def divide(cls, ts, basket, pieces):
        return basket / pieces

    @extractor
    @extractor_inputs("basket", "spent")
    @extractor_outputs("share")
    def compare(cls, ts, basket, spent):
        return basket / (basket + spent)

    @extractor
    @extractor_inputs("gift", "until", "coupon")
    @extractor_outputs("told")
    def tell(cls, ts, gift, until, coupon):
        return " ".join([repr(gift), until.isoformat(), repr(coupon)])
"""
TS = "2026-01-15T13:00:00Z"
# As JSON has them, and as Python does.
ANN = {"basket": 10.1, "pieces": 3, "gift": True, "until": "2026-02-01T10:00:00.000001Z", "coupon": "WINTER, 10%"}
BOB = {"basket": 0.3, "pieces": 7, "gift": False, "until": "2026-03-01T00:00:00Z", "coupon": None}


def typed(given):
    return {**given, "until": datetime.fromisoformat(given["until"].replace("Z", "+00:00")).astimezone(timezone.utc)}


@pytest.fixture(scope="module")
def baskets(tmp_path_factory):
    from harness import Server

    running = Server(tmp_path_factory.mktemp("baskets")).start()
    done = running.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    with running.client() as client:
        rows = [{"user": user, "ts": "2026-01-15T12:00:00Z", "amount": 7.7} for user in ("ann", "bob", "bob")]
        sent = client.log("Bill", rows)
        for user, given in (("ann", ANN), ("bob", BOB)):
            client.query("Basket", user, inputs=typed(given), at_least=sent.position)
    yield running
    running.stop()


def asked_by_sdk(baskets, user, given):
    with baskets.client() as client:
        row = client.query("Basket", user, ts=TS, inputs=typed(given)).to_dicts()[0]
    assert row.pop("user") == user
    return row


@pytest.fixture
def by_sdk(baskets):
    """The SDK's answers, which are what they should be."""
    found = {user: asked_by_sdk(baskets, user, given) for user, given in (("ann", ANN), ("bob", BOB))}
    assert found["ann"] == {
        "spent": 7.7, "each": 10.1 / 3, "share": 10.1 / (10.1 + 7.7),
        "told": "True 2026-02-01T10:00:00.000001+00:00 'WINTER, 10%'",
    }  # fmt: skip
    assert found["bob"]["told"] == "False 2026-03-01T00:00:00+00:00 None"
    return found


def post(baskets, path, **body):
    return http(f"http://{baskets.queries}/{path}", {"featureset": "Basket", **body})


def get(baskets, **parameters):
    parameters = {"featureset": "Basket", "user": "ann", "ts": TS, **parameters}
    return http(f"http://{baskets.queries}/features?{urllib.parse.urlencode(parameters)}")


def test_one_entity_is_given_them_in_a_body_and_in_a_url(baskets, by_sdk):
    for user, given in (("ann", ANN), ("bob", BOB)):
        code, answer = post(baskets, "features", entity_id=user, ts=TS, inputs=given)
        assert (code, answer["features"]) == (200, by_sdk[user])
        assert set(answer["statuses"].values()) == {"OK"}
    in_url = {**ANN, "gift": "true"}
    assert get(baskets, **in_url)[1]["features"] == by_sdk["ann"]
    # All as one JSON object, or some of them.
    assert get(baskets, inputs=json.dumps(ANN))[1]["features"] == by_sdk["ann"]
    some = {name: in_url[name] for name in ("basket", "pieces")}
    rest = {name: ANN[name] for name in ANN if name not in some}
    assert get(baskets, **some, inputs=json.dumps(rest))[1]["features"] == by_sdk["ann"]


def test_only_those_that_are_needed_are_asked_for(baskets, by_sdk):
    answer = get(baskets, features="each", basket=10.1, pieces=3)[1]
    assert answer["features"] == {"each": by_sdk["ann"]["each"]}
    assert get(baskets, features="spent")[1]["features"] == {"spent": 7.7}


def test_a_batch_is_given_one_object_for_all_or_one_each(baskets, by_sdk):
    code, answer = post(baskets, "features/batch", entity_ids=["ann", "bob"], ts=TS, inputs=[ANN, BOB])
    assert code == 200, answer
    rows = [dict(zip(answer["features"], row, strict=True)) for row in answer["values"]]
    assert rows == [{"entity_id": user, **by_sdk[user]} for user in ("ann", "bob")]

    code, answer = post(baskets, "features/batch", entity_ids=["ann", "bob"], ts=TS, inputs=ANN)
    assert code == 200, answer
    rows = [dict(zip(answer["features"], row, strict=True)) for row in answer["values"]]
    assert rows == [{"entity_id": user, **asked_by_sdk(baskets, user, ANN)} for user in ("ann", "bob")]
    assert rows[1]["share"] != by_sdk["bob"]["share"], "bob's own basket is another"

    with baskets.client() as client:
        batch = client.query_batch("Basket", ["ann", "bob"], ts=TS, inputs=[typed(ANN), typed(BOB)]).to_dicts()
    assert [row.pop("user") for row in batch] == ["ann", "bob"]
    assert batch == [by_sdk["ann"], by_sdk["bob"]]


def test_each_row_of_a_spine_is_given_its_own(baskets, by_sdk):
    early = "2026-01-15T11:00:00Z"
    queries = [
        {"entity_id": "bob", "timestamp": TS, "inputs": BOB},
        {"user": "ann", "timestamp": TS, "inputs": ANN},
        {"entity_id": "ann", "timestamp": early, "inputs": ANN},
    ]
    code, answer = post(baskets, "features/offline", queries=queries)
    assert code == 200, answer
    rows = [row["features"] for row in answer["results"]]
    assert rows[:2] == [by_sdk["bob"], by_sdk["ann"]]
    # Before the first bill a basket is all there is.
    assert (rows[2]["spent"], rows[2]["share"], rows[2]["each"]) == (0.0, 1.0, by_sdk["ann"]["each"])


LESS = {name: ANN[name] for name in ANN if name != "pieces"}
SINGLE = [
    ({**ANN, "pieces": "3"}, "pieces", "input 'pieces': expected int, got the text '3'", ""),
    ({**ANN, "pieces": 3.5}, "pieces", "input 'pieces': expected int, got 3.5", ""),
    ({**ANN, "gift": 1}, "gift", "input 'gift': expected bool, got 1", ""),
    ({**ANN, "until": "soon"}, "until", "input 'until'", ""),
    ({**ANN, "basket": None}, "basket", "the input 'basket' is null but not Optional", ""),
    ({**ANN, "baskt": 1.0}, "baskt", "unknown input 'baskt' of featureset 'Basket'", "'basket'"),
    ({**ANN, "spent": 1.0}, "spent", "unknown input 'spent' of featureset 'Basket'", "basket"),
    (LESS, "pieces", "missing input 'pieces'", "a request feature is given with each query"),
    ([ANN], "inputs", "expected a JSON object", ""),
]


@pytest.mark.parametrize("given, field, message, hint", SINGLE, ids=[message for _, _, message, _ in SINGLE])
def test_what_is_wrong_with_them_is_said_of_every_form(baskets, by_sdk, given, field, message, hint):
    def refused(answered, where=""):
        code, problem = answered
        assert code == 400, problem
        assert message in problem["error"] and where in problem["error"], problem
        assert problem["field"].endswith(field) and hint in problem.get("hint", ""), problem

    refused(post(baskets, "features", entity_id="ann", ts=TS, inputs=given))
    refused(get(baskets, inputs=json.dumps(given)))
    queries = [{"entity_id": "ann", "timestamp": TS, "inputs": one} for one in (ANN, given)]
    at_fault = post(baskets, "features/offline", queries=queries)
    refused(at_fault)
    assert "row 1" in at_fault[1]["error"] or "queries[1]" in at_fault[1]["field"]
    if isinstance(given, dict):
        refused(post(baskets, "features/batch", entity_ids=["ann", "bob"], ts=TS, inputs=given))
        refused(post(baskets, "features/batch", entity_ids=["bob", "ann"], ts=TS, inputs=[BOB, given]), "row 1")
        # The SDK is told the same of what Python can say.
        if not isinstance(given.get("until"), str) or given["until"] != "soon":
            with baskets.client() as client, pytest.raises(InvalidArgumentError) as sdk:
                client.query("Basket", "ann", ts=TS, inputs=typed(given))
            assert sdk.value.field == field
    # And the next question is answered.
    assert post(baskets, "features", entity_id="ann", ts=TS, inputs=ANN)[1]["features"] == by_sdk["ann"]


def test_what_is_wrong_in_a_url_or_a_batch_is_said(baskets):
    in_url = {**ANN, "gift": "true"}
    code, problem = get(baskets, **{**in_url, "pieces": "three"})
    assert (code, problem["field"]) == (400, "pieces") and "expected int, got 'three'" in problem["error"]
    code, problem = get(baskets, **in_url, baskt=1)
    assert (code, problem["field"]) == (400, "baskt")
    assert "unknown parameter 'baskt'" in problem["error"] and "'basket'" in problem["hint"]
    code, problem = get(baskets, **in_url, inputs=json.dumps({"basket": 10}))
    assert (code, problem["field"]) == (400, "basket"), problem
    assert problem["error"] == "request feature 'basket' is given by its name and in 'inputs'"
    code, problem = get(baskets, inputs="10.1")
    assert (code, problem["field"]) == (400, "inputs") and "expected a JSON object, got 10.1" in problem["error"]

    body = {"entity_ids": ["ann", "bob", "eve"], "ts": TS}
    code, problem = post(baskets, "features/batch", **body, inputs=[ANN, BOB])
    assert (code, problem["field"]) == (400, "inputs")
    assert "2 maps of inputs for 3 keys" in problem["error"] and "one map for all rows" in problem["hint"]
    code, problem = post(baskets, "features/batch", **body, inputs=[ANN, 7, BOB])
    assert (code, problem["field"]) == (400, "inputs") and "expected a JSON object, got 7" in problem["error"]
