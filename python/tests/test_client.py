"""What the client asks, how it reads answers, and what becomes of errors."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

import pytest
from fake_server import FakeServer, Refusal

import thyme
from thyme import _proto, errors, positions
from thyme.channel import pauses
from thyme.client import Client
from thyme.values import to_fields, to_value

NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)


@pytest.fixture
def server():
    running = FakeServer()
    yield running
    running.stop()


@pytest.fixture
def client(server):
    with Client(server.url, server.url, retry_for=0.5) as connected:
        yield connected


def answer(request):
    features = [
        _proto.FeatureValue(name="orders_1h", value=to_value(3), status=1),
        _proto.FeatureValue(name="spend_7d", value=to_value(None), status=3, error="it raised"),
    ]
    info = _proto.AnswerInfo(query_run_id="run-1", mode=2, ts=request.ts, position="pAA", final=True, commit_id="c1")
    return _proto.GetFeaturesResponse(featureset="UserFeatures", key=request.key, features=features, info=info)


def listed(_):
    info = _proto.FeaturesetInfo(
        name="UserFeatures",
        keys=["uid"],
        features=[_proto.FeatureInfo(name="uid", type="str"), _proto.FeatureInfo(name="orders_1h", type="int")],
    )
    return _proto.ListFeaturesetsResponse(featuresets=[info])


def test_a_question_carries_everything(server, client):
    server.answers = {"GetFeatures": answer, "ListFeaturesets": listed}
    result = client.query(
        "UserFeatures", "u1", ts=NOON, known_at="pAB", exclusive=True, inputs={"basket": 2.5}, features=["orders_1h"]
    )
    (request,) = server.requests("GetFeatures")
    assert dict(request.key) == {"uid": to_value("u1")}
    assert request.ts.seconds == 1_705_320_000
    assert (request.known_at, request.exclusive, list(request.features)) == ("pAB", True, ["orders_1h"])
    assert request.inputs["basket"].double_value == 2.5
    assert result.to_dicts() == [{"uid": "u1", "orders_1h": 3, "spend_7d": None}]
    assert (result.query_run_id, result.ts, result.final, result.mode) == ("run-1", NOON, True, "point_in_time")
    assert result.statuses == {"spend_7d": ["ERROR"]}
    assert result.errors == {"spend_7d": {0: "it raised"}}
    assert len(result) == 1
    assert result["orders_1h"] == [3]


def test_classes_need_no_listing(server, client, load):
    server.answers = {"GetFeatures": answer}
    module = load("orders")
    result = client.query(module.UserFeatures, "u1", ts="2024-01-15 12:00", features=[module.UserFeatures.orders_1h])
    assert [name for name, _, _ in server.seen] == ["GetFeatures"]
    assert result.ts == NOON
    assert [str(found) for found in result.to_arrow().schema.types] == ["string", "int64", "double"]


def test_a_scalar_for_several_keys_is_refused(client):
    @thyme.featureset
    class Plane:
        tailnum: str
        carrier: str

    with pytest.raises(errors.InvalidArgumentError, match="Plane has 2 keys .tailnum, carrier.*give a dict"):
        client.query(Plane, "N1")


def test_an_unknown_featureset_names_the_nearest(server, client):
    server.answers = {"ListFeaturesets": listed}
    with pytest.raises(
        errors.NotFoundError, match="unknown featureset 'UserFeature' .hint: did you mean 'UserFeatures'"
    ):
        client.query("UserFeature", "u1")


def test_naive_datetimes_are_refused(client):
    with pytest.raises(errors.InvalidArgumentError, match="a datetime without a time zone"):
        client.query("UserFeatures", {"uid": "u1"}, ts=datetime(2024, 1, 15))
    with pytest.raises(errors.InvalidArgumentError, match="row 1, ts: a datetime without a time zone"):
        client.log("Order", [{"ts": NOON}, {"ts": datetime(2024, 1, 15)}])


def test_a_batch_is_columns(server, client):
    def batch(request):
        assert [column.name for column in request.keys] == ["uid"]
        assert list(request.keys[0].strings.values) == ["u1", "u2"]
        column = _proto.Column(name="orders_1h", type="int", ints=_proto.Int64Array(values=[3, 0]), null_rows=[1])
        features = [_proto.FeatureColumn(column=column, statuses=[1, 2], errors={1: "no"})]
        return _proto.BatchGetFeaturesResponse(rows=2, keys=request.keys, features=features)

    server.answers = {"BatchGetFeatures": batch, "ListFeaturesets": listed}
    result = client.query_batch("UserFeatures", ["u1", "u2"])
    assert result.to_dicts() == [{"uid": "u1", "orders_1h": 3}, {"uid": "u2", "orders_1h": None}]
    assert result.statuses == {"orders_1h": ["OK", "DEFAULT"]}
    assert result.errors == {"orders_1h": {1: "no"}}


def test_a_lookup_of_an_unknown_key_has_no_rows(server, client, load):
    server.answers = {"Lookup": lambda request: _proto.LookupResponse(dataset="Order", key=request.key)}
    result = client.lookup(load("orders").Order, "u1")
    assert len(result) == 0
    assert result.to_arrow().num_rows == 0
    assert result.column_names == ["user_id", "ts", "amount", "item_count", "coupon", "labels"]


def take(request):
    return _proto.IngestResponse(accepted=len(request.rows.rows), position=position((1, 0, request.first_row + 5)))


def position(*places):
    import base64

    content = b"".join(positions._varint(number) for place in places for number in place)
    return "p" + base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def untyped(_):
    return _proto.ListDatasetsResponse(datasets=[_proto.DatasetInfo(name="Order")])


def test_rows_are_sent_in_chunks_of_one_call(server, client):
    server.answers = {"Ingest": take, "ListDatasets": untyped}
    rows = [{"user_id": "u", "ts": NOON + timedelta(seconds=second), "amount": 1} for second in range(4_500)]
    result = client.log("Order", rows)
    requests = server.requests("Ingest")
    assert [(len(request.rows.rows), request.first_row) for request in requests] == [
        (2000, 0),
        (2000, 2000),
        (500, 4000),
    ]
    assert len({request.call_id for request in requests}) == 1
    assert result.accepted == 4_500
    assert result.position == position((1, 0, 4005))


def test_large_rows_are_sent_in_smaller_chunks(server, client):
    server.answers = {"Ingest": take}
    client.log("Order", [{"text": "x" * (3 << 20)}] * 5)
    assert [(len(r.rows.rows), r.first_row) for r in server.requests("Ingest")] == [(2, 0), (2, 2), (1, 4)]


def test_positions_of_chunks_are_put_together():
    merged = positions.merge([position((1, 0, 5), (1, 1, 300)), "", position((1, 0, 7), (2, 0, 1))])
    assert merged == position((1, 0, 7), (1, 1, 300), (2, 0, 1))
    assert positions.merge([]) == ""
    assert positions.merge(["x1", "x2"]) == "x2"


def test_rejected_rows_keep_their_number(server, client):
    def reject(request):
        return _proto.IngestResponse(rejected=[_proto.RejectedRow(index=1, reason="null key", field="user_id")])

    server.answers = {"Ingest": reject, "ListDatasets": untyped}
    result = client.log("Order", [{"user_id": "u"}] * 2_002)
    assert [(row.index, row.reason, row.field) for row in result.rejected] == [
        (1, "null key", "user_id"),
        (2_001, "null key", "user_id"),
    ]


def test_a_retry_repeats_the_call_id(server, client):
    failures = [Refusal(14, "restarting"), Refusal(14, "restarting", "unavailable")]

    def flaky(request):
        if failures:
            raise failures.pop()
        return take(request)

    server.answers = {"Ingest": flaky}
    assert client.log("Order", [{"user_id": "u"}], event_ids=["e1"]).accepted == 1
    requests = server.requests("Ingest")
    assert len(requests) == 3
    assert len({request.call_id for request in requests}) == 1
    assert list(requests[0].event_ids) == ["e1"]


def test_event_ids_are_one_per_row(client):
    with pytest.raises(errors.InvalidArgumentError, match="1 event ids for 2 rows"):
        client.log("Order", [{}, {}], event_ids=["e1"])
    with pytest.raises(errors.InvalidArgumentError, match="event id 0 is not a text: 7"):
        client.log("Order", [{}], event_ids=[7])


def test_the_error_of_the_server_arrives_whole(server, client):
    def refuse(_):
        raise Refusal(3, "unknown column 'amuont'", "invalid_definition", "steps", "did you mean 'amount'?", "f.py:12")

    server.answers = {"Commit": refuse}
    with pytest.raises(errors.ThymeDefinitionError) as caught:
        client.commit("{}")
    assert str(caught.value) == "f.py:12: unknown column 'amuont' (hint: did you mean 'amount'?)"
    assert (caught.value.field, caught.value.exit_code) == ("steps", 4)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (5, errors.NotFoundError),
        (7, errors.PermissionDeniedError),
        (8, errors.ResourceExhaustedError),
        (2, errors.InternalError),
    ],
)
def test_statuses_without_details_have_classes_too(server, client, code, expected):
    def refuse(_):
        raise Refusal(code, "no")

    server.answers = {"GetStatus": refuse}
    with pytest.raises(expected, match="no"):
        client.status()


def test_an_unreachable_server_says_what_to_do():
    with (
        Client("http://127.0.0.1:1", "http://127.0.0.1:1", retry_for=0.2) as client,
        pytest.raises(errors.UnavailableError, match="cannot reach http://127.0.0.1:1 .hint: is the server running"),
    ):
        client.status()


def test_a_deadline_is_an_error_of_its_own(server):
    import time

    server.answers = {"GetStatus": lambda _: time.sleep(1)}
    with Client(server.url, server.url, timeout=0.1) as client, pytest.raises(errors.DeadlineExceededError):
        client.status()


def test_a_commit_is_awaited_with_progress(server, client):
    states = [2, 1]

    def poll(_):
        progress = [_proto.BuildProgress(pipeline="UserStats.compute@1", done_records=5, total_records=9)]
        return _proto.GetCommitResponse(commit=_proto.CommitInfo(id="c1", state=states.pop(), builds=progress))

    building = _proto.CommitInfo(id="c1", state=1)
    server.answers = {"Commit": lambda _: _proto.CommitResponse(commit=building), "GetCommit": poll}
    seen = []
    answered = client.commit("{}", on_progress=seen.append)
    assert answered["commit"]["state"] == "active"
    assert seen[1]["builds"] == [{"pipeline": "UserStats.compute@1", "done_records": 5, "total_records": 9}]


def test_the_api_key_travels(server, monkeypatch):
    server.answers = {"GetStatus": lambda _: _proto.GetStatusResponse(version="1")}
    monkeypatch.setenv("THYME_API_KEY", "secret")
    monkeypatch.setenv("THYME_CONTROL_URL", server.url)
    with Client() as client:
        assert client.status()["version"] == "1"
    assert server.seen[0][2]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("url", ["ftp://x:1", "http://", "http://host:port", "http://host"])
def test_addresses_are_checked(url):
    with pytest.raises(errors.InvalidArgumentError, match="not an address"):
        Client(url)


def test_the_asynchronous_client_does_the_same(server):
    server.answers = {"GetFeatures": answer, "ListFeaturesets": listed, "Ingest": take}

    async def work():
        async with thyme.AsyncClient(server.url, server.url) as client:
            results = await asyncio.gather(*(client.query("UserFeatures", f"u{n}") for n in range(5)))
            logged = await client.log("Order", [{"user_id": "u"}])
            return results, logged

    results, logged = asyncio.run(work())
    assert [result["uid"] for result in results] == [["u0"], ["u1"], ["u2"], ["u3"], ["u4"]]
    assert logged.accepted == 1


def test_values_keep_their_types():
    from thyme.values import from_column, from_value, to_column

    for value in (None, True, 2**63 - 1, 0.1 + 0.2, "x", b"\x00\xff", NOON, [1, None], {"a": 1.5, "b": [NOON]}):
        assert from_value(to_value(value)) == value
        assert type(from_value(to_value(value))) is type(value)
        assert from_column(to_column("c", [value, None])) == [value, None]
    assert from_column(to_column("c", [1, 1.5])) == [1, 1.5]
    assert to_fields({"a": 1})["a"].int64_value == 1
    with pytest.raises(errors.InvalidArgumentError, match="integer beyond 64 bits"):
        to_value(2**63)
    with pytest.raises(errors.InvalidArgumentError, match="a object is no value"):
        to_value(object())


def test_the_descriptor_is_current():
    import importlib.util
    from pathlib import Path

    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    path = Path(__file__).parents[1] / "tools" / "generate_proto.py"
    spec = importlib.util.spec_from_file_location("generate_proto", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fresh = FileDescriptorSet.FromString(module.compiled())
    ours = FileDescriptorSet.FromString(module.OUTPUT.read_bytes())

    def own(files):
        return {file.name: file for file in files.file if not file.name.startswith("google/protobuf/")}

    assert own(fresh) == own(ours), "run python python/tools/generate_proto.py"


def test_what_the_tries_take_counts_as_retrying(monkeypatch):
    now = 0.0
    monkeypatch.setattr("thyme.channel.time.monotonic", lambda: now)
    assert list(pauses(0)) == []
    waits = pauses(2)
    assert 0 < next(waits) < 0.1
    now = 1.99
    assert next(waits) == pytest.approx(0.01)
    now = 5.0
    assert next(waits, None) is None
