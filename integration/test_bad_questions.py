"""Questions that name something unknown or give the wrong type: every way in says what, where and what is valid, and
answers the right question afterwards as before."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest

from surfaces import exchange, http
from thyme import errors

TS = "2025-06-20T00:00:00Z"
NOT_A_TIME = "write ISO-8601 in UTC"

# Path, then body (None: GET); status, code, message, field, hint.
HTTP = [
    (
        "features?featureset=UserFeature&user=a",
        None,
        404,
        "unknown featureset 'UserFeature'",
        "featureset",
        "'UserFeatures'",
    ),
    ("features?featureset=UserFeatures&usr=a", None, 400, "usr", "usr", "'user'"),
    (
        "features?featureset=UserFeatures&user=a&tz=2024-01-01T00:00:00Z",
        None,
        400,
        "unknown parameter 'tz'",
        "tz",
        ", ts,",
    ),
    ("features?featureset=UserFeatures&user=a&ts=yesterday", None, 400, "not a time: 'yesterday'", "ts", NOT_A_TIME),
    (
        f"features?featureset=UserFeatures&user=a&known_at=soon&ts={TS}",
        None,
        400,
        "not a known_at: 'soon'",
        "known_at",
        "position",
    ),
    ("features?featureset=UserFeatures", None, 400, "'user'", "user", ""),
    (
        "features?featureset=UserFeatures&user=a&features=n_1hh",
        None,
        404,
        "unknown feature 'n_1hh'",
        "features",
        "'n_1h'",
    ),
    ("features?entity_type=Ordr&entity_id=1", None, 404, "unknown dataset 'Ordr'", "dataset", "'Order'"),
    ("features?entity_type=Order&entity_id=one", None, 400, "expected int, got 'one'", "order_id", ""),
    (
        "features",
        {"featureset": "UserFeeatures", "entity_id": "a"},
        404,
        "unknown featureset 'UserFeeatures'",
        "featureset",
        "'UserFeatures'",
    ),
    ("features", {"featureset": "UserFeatures", "entity_id": 7}, 400, "expected str, got 7", "user", ""),
    ("features", {"featureset": "UserFeatures", "entity_id": None}, 400, "key 'user' is null", "user", ""),
    (
        "features",
        {"featureset": "UserFeatures", "entity_id": "a", "featurs": ["n_1h"]},
        400,
        "unknown field 'featurs'",
        "featurs",
        "'features'",
    ),
    (
        "features/batch",
        {"featureset": "UserFeatures", "entity_ids": ["a", 7]},
        400,
        "row 1: key 'user': expected str, got 7",
        "user",
        "",
    ),
    (
        "features/batch",
        {"featureset": "UserFeatures", "entity_id": ["a"]},
        400,
        "field 'entity_ids' is missing",
        "entity_ids",
        "",
    ),
    (
        "features/offline",
        {"featureset": "UserFeatures", "queries": [{"entity_id": "a", "timestam": TS}]},
        400,
        "unknown field 'timestam'",
        "queries[0].timestam",
        "'timestamp'",
    ),
    (
        "features/offline",
        {"featureset": "UserFeatures", "queries": [{"entity_id": "a", "timestamp": "x"}]},
        400,
        "not a time: 'x'",
        "queries[0].ts",
        NOT_A_TIME,
    ),
    ("features", b'{"featureset": "UserFeatures", "ent', 400, "not valid JSON: EOF", None, ""),
    ("feature?featureset=UserFeatures&user=a", None, 404, "/feature", None, ""),
]


@pytest.mark.parametrize(("path", "body", "status", "says", "field", "hint"), HTTP)
def test_http(shop, path, body, status, says, field, hint):
    code, problem = http(f"http://{shop.queries}/{path}", body)
    assert code == status, problem
    assert says in problem["error"], problem
    assert problem.get("field") == field, problem
    assert hint in problem.get("hint", ""), problem
    assert problem["code"] == {400: "invalid_argument", 404: "not_found"}[status]
    _still_right(shop)


SDK = [
    (
        lambda client: client.query("UserFeeatures", "a"),
        errors.NotFoundError,
        "unknown featureset 'UserFeeatures'",
        "'UserFeatures'",
    ),
    (
        lambda client: client.query("UserFeatures", "a", features=["n_1hh"]),
        errors.NotFoundError,
        "unknown feature 'n_1hh'",
        "'n_1h'",
    ),
    (
        lambda client: client.query("UserFeatures", {"usr": "a"}),
        errors.InvalidArgumentError,
        "unknown key 'usr'",
        "'user'",
    ),
    (
        lambda client: client.query("UserFeatures", 7),
        errors.InvalidArgumentError,
        "key 'user': expected str, got int",
        "",
    ),
    (lambda client: client.query("UserFeatures", None), errors.InvalidArgumentError, "key 'user' is null", ""),
    (
        lambda client: client.query("UserFeatures", "a", ts="yesterday"),
        errors.InvalidArgumentError,
        "'yesterday'",
        NOT_A_TIME,
    ),
    (
        lambda client: client.query("UserFeatures", "a", ts=TS, known_at="soon"),
        errors.InvalidArgumentError,
        "not a known_at: 'soon'",
        "position",
    ),
    (lambda client: client.query_batch("UserFeatures", ["a", 7]), errors.InvalidArgumentError, "expected str", ""),
    (lambda client: client.lookup("Ordr", 1), errors.NotFoundError, "unknown dataset 'Ordr'", "'Order'"),
    (lambda client: client.lookup("Order", "x"), errors.InvalidArgumentError, "key 'order_id': expected int", ""),
    (lambda client: client.log("Ordr", [{"user": "a"}]), errors.NotFoundError, "unknown dataset 'Ordr'", "'Order'"),
    (
        lambda client: client.log("UserStats", [{"user": "a"}]),
        errors.FailedPreconditionError,
        "takes no rows of its own",
        "Order",
    ),
    (
        lambda client: client.query_offline("UserFeatures", _spine(), entity_column="usr", timestamp_column="ts"),
        errors.InvalidArgumentError,
        "no column 'usr'",
        "'user'",
    ),
]


@pytest.mark.parametrize(("ask", "error", "says", "hint"), SDK)
def test_sdk_over_grpc(shop, ask, error, says, hint):
    with shop.client() as client, pytest.raises(error, match=re.escape(says)) as caught:
        ask(client)
    assert hint in (caught.value.hint or ""), caught.value
    assert error is not errors.InvalidArgumentError or caught.value.field, caught.value
    _still_right(shop)


CLI = [
    (["query", "UserFeeatures", "-e", "a"], 5, "unknown featureset 'UserFeeatures'", "'UserFeatures'"),
    (["query", "UserFeatures", "-e", "usr=a"], 1, "'usr'", "user=usr=a"),
    (["query", "UserFeatures", "-e", "a", "--features", "n_1hh"], 5, "unknown feature 'n_1hh'", "'n_1h'"),
    (["query", "UserFeatures", "-e", "a", "--at", "yesterday"], 2, "not a time: 'yesterday'", NOT_A_TIME),
    (["query", "UserFeatures", "-e", "a", "--att", TS], 2, "No such option '--att'", "'--at'"),
    (["query", "UserFeatures"], 2, "Missing option '-e'", ""),
    (["lookup", "Ordr", "-e", "1"], 5, "unknown dataset 'Ordr'", "'Order'"),
    (["lookup", "Order", "-e", "one"], 1, "order_id: expected int, got 'one'", ""),
    (["explain", "UserFeatures", "-e", "a", "--features", "n_1hh"], 5, "unknown feature 'n_1hh'", "'n_1h'"),
    (["ingest", "Ordr", "-"], 5, "unknown dataset 'Ordr'", "'Order'"),
    (["inspect", "Ordr"], 5, "'Ordr'", "'Order'"),
    (["runs", "show", "none"], 5, "unknown query run 'none'", ""),
    (["qery"], 2, "No such command 'qery'", "'query'"),
    (
        [
            "query-offline",
            "UserFeatures",
            "--input",
            "spine.csv",
            "--entity-column",
            "usr",
            "--timestamp-column",
            "ts",
            "-o",
            "joined.csv",
        ],
        1,
        "no column 'usr'",
        "'user'",
    ),
]


@pytest.mark.parametrize(("command", "code", "says", "hint"), CLI)
def test_command_line(shop, command, code, says, hint):
    (shop.directory / "spine.csv").write_text(f"user,ts\na,{TS}\n")
    done = shop.run(*command, stdin="{}\n")
    assert done.returncode == code, done
    assert says in done.stderr and hint in done.stderr, done.stderr
    assert done.stdout == "", done.stdout
    assert "Traceback" not in done.stderr
    assert not (shop.directory / "joined.csv").exists()
    _still_right(shop)


def _spine(**columns: object) -> pa.Table:
    return pa.table({"user": ["a"], "ts": [TS], **columns})


FLIGHT = [
    (
        _spine(),
        {"featureset": "UserFeeatures"},
        pa.ArrowKeyError,
        "unknown featureset 'UserFeeatures' (hint: did you mean 'UserFeatures'?)",
    ),
    (
        _spine(),
        {"features": ["n_1hh"]},
        pa.ArrowKeyError,
        "unknown feature 'n_1hh' of featureset 'UserFeatures' (hint: did you mean 'n_1h'?)",
    ),
    (
        _spine(),
        {"timestamp_column": "tz"},
        pa.ArrowInvalid,
        "no column 'tz' for the timestamp (hint: allowed: ts, user)",
    ),
    (_spine(), {"timestamp_colum": "ts"}, pa.ArrowInvalid, "unknown field `timestamp_colum`, expected one of"),
    (
        _spine(),
        {"entity_columns": {"usr": "user"}},
        pa.ArrowInvalid,
        "unknown key 'usr' of featureset 'UserFeatures' (hint: did you mean 'user'?)",
    ),
    (
        _spine().rename_columns(["usr", "ts"]),
        {},
        pa.ArrowInvalid,
        "no column 'user' for key 'user' (hint: did you mean 'usr'?)",
    ),
    (_spine(user=[1]), {}, pa.ArrowInvalid, "column 'user' is Int64, expected str"),
    (_spine(ts=[1.5]), {}, pa.ArrowInvalid, "column 'ts' is Float64, expected timestamps"),
    (_spine(ts=["soon"]), {}, pa.ArrowInvalid, "column 'ts', row 0: not a time: 'soon'"),
    (_spine(n_1h=[1]), {}, pa.ArrowInvalid, "'n_1h'"),
]


@pytest.mark.parametrize(("spine", "command", "error", "says"), FLIGHT)
def test_flight_export(shop, spine, command, error, says):
    with pytest.raises(error) as caught:
        exchange(shop, spine, **{"featureset": "UserFeatures", "timestamp_column": "ts", **command})
    assert says in str(caught.value)
    _still_right(shop)


def test_nulls_in_a_spine_cost_their_own_row_only(shop):
    spine = pa.table({"user": ["user_1", "user_1", None], "ts": [TS, None, TS]})
    wanted = {"featureset": "UserFeatures", "timestamp_column": "ts", "features": ["n_all"], "statuses": True}
    joined = exchange(shop, spine, **wanted).to_pylist()
    assert [row["n_all__status"] for row in joined] == ["OK", "ERROR", "DEFAULT"]
    assert [row["n_all"] for row in joined] == [shop.counted["user_1"], None, 0]


def test_before_the_first_commit_nothing_is_found(server):
    """Not 503: waiting does not help, a commit does."""
    found = [
        http(f"http://{server.queries}/features?featureset=UserFeatures&user=a"),
        http(f"http://{server.queries}/features/batch", {"featureset": "UserFeatures", "entity_ids": ["a"]}),
        http(f"http://{server.queries}/features?entity_type=Order&entity_id=1"),
        http(f"http://{server.control}/api/v1/log", {"dataset": "Order", "events": []}),
    ]
    for code, problem in found:
        assert (code, problem["code"]) == (404, "not_found"), problem
        assert "commit" in problem["hint"] or "there are none yet" in problem["hint"], problem
    assert found[0][1]["error"] == "nothing is committed yet"
    with pytest.raises(pa.ArrowKeyError, match="nothing is committed yet .hint: commit definitions first"):
        exchange(server, _spine(), featureset="UserFeatures", timestamp_column="ts")
    with server.client() as client, pytest.raises(errors.NotFoundError, match="UserFeatures"):
        client.query("UserFeatures", "a")
    done = server.run("query", "UserFeatures", "-e", "a")
    assert done.returncode == 5 and "there are none yet" in done.stderr, done
    assert json.loads(server.run("status", "--json").stdout)["state"] == "ready"


def _still_right(shop):
    """The question as it should have been asked."""
    code, answer = http(f"http://{shop.queries}/features?featureset=UserFeatures&user=user_1&features=n_all")
    assert code == 200 and answer["features"] == {"n_all": shop.counted["user_1"]}, answer
