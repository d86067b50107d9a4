"""Rows that are none, by every way in: each is refused or dead-lettered with the reason, the good ones count."""

from __future__ import annotations

import http.client
import json
import time
import zlib
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest

from shop import SOURCE
from surfaces import http as ask
from surfaces import put
from thyme import errors

GOOD = {"order_id": 1, "ts": "2025-06-20T00:00:00Z", "user": "zoe", "amount": 1.0, "city": None}

# What is wrong, the field at fault, and what the reason says.
BAD = [
    ({"order_id": None}, "order_id", "the key field 'order_id' is missing or null"),
    ({"ts": None}, "ts", "the timestamp field 'ts' is missing or null"),
    ({"ts": "yesterday"}, "ts", "'ts': not a time: 'yesterday'"),
    ({"amount": None}, "amount", "declare it Optional[float] to allow null"),
    ({"amount": "much"}, "amount", "'amount': expected float, got the text 'much'"),
    ({"order_id": 1.5}, "order_id", "'order_id': expected int, got"),
    ({"amuont": 1.0}, "amuont", "unknown field 'amuont' of dataset 'Order' (hint: did you mean 'amount'?)"),
    ({"user": ...}, "user", "the field 'user' is missing or null"),
    ({"user": 7}, "user", "'user': expected str, got"),
]
NAN = ({"amount": float("nan")}, "amount", "'amount': NaN is not a value")


def _rows(user, bad):
    """Good rows before, between and after the bad ones, with ids of their own."""
    made = []
    for number, change in enumerate([{}, *bad, {}]):
        row = {**GOOD, "order_id": zlib.crc32(user.encode()) % 10_000 * 100 + number, "user": user, **change}
        made.append({name: value for name, value in row.items() if value is not ...})
    return made


def _check(rejected, bad):
    """Rejections as (index, field, reason)."""
    assert [index for index, _, _ in rejected] == list(range(1, len(bad) + 1))
    for (_, field, reason), (_, at_fault, says) in zip(rejected, bad, strict=True):
        assert field == at_fault, (field, reason)
        assert says in reason, reason


def _counted(shop, user, position):
    with shop.client() as client:
        return client.query("UserFeatures", user, at_least=position).to_dicts()[0]["n_all"]


def test_http(shop):
    # JSON has no NaN: the next test.
    rows = _rows("http", [change for change, _, _ in BAD])
    code, answer = ask(f"http://{shop.control}/api/v1/log", {"dataset": "Order", "events": rows})
    assert code == 200 and answer["accepted"] == 2, answer
    _check([(row["index"], row["field"], row["reason"]) for row in answer["rejected"]], BAD)
    assert _counted(shop, "http", answer["position"]) == 2


def test_http_bodies_that_are_no_json_take_nothing(shop):
    good = json.dumps({**GOOD, "user": "nobody"})
    for number in ("NaN", "1e999"):
        body = f'{{"dataset": "Order", "events": [{good}, {{"order_id": 2, "amount": {number}}}]}}'
        code, problem = ask(f"http://{shop.control}/api/v1/log", body.encode())
        assert (code, problem["code"]) == (400, "invalid_argument")
        assert "the body is not valid JSON" in problem["error"] and "line 1 column" in problem["error"]
    for body, says, field in [
        ({"dataset": "Ordr", "events": []}, "did you mean 'Order'?", "dataset"),
        ({"dataset": "Order", "evnts": []}, "events", "events"),
        ({"dataset": "Order", "events": [GOOD], "event_ids": ["a", "b"]}, "2 event_ids for 1 rows", "event_ids"),
    ]:
        code, problem = ask(f"http://{shop.control}/api/v1/log", body)
        assert code in (400, 404) and says in problem["detail"] and problem["field"] == field, problem
    assert _counted(shop, "nobody", "p") == 0


def test_sdk(shop):
    bad = [*BAD, NAN]
    with shop.client() as client:
        result = client.log("Order", _rows("sdk", [change for change, _, _ in bad]))
    assert result.accepted == 2
    _check([(row.index, row.field, row.reason) for row in result.rejected], bad)
    assert _counted(shop, "sdk", result.position) == 2


def test_command_line(shop):
    bad = [*BAD, NAN]
    rows = _rows("cli", [change for change, _, _ in bad])
    lines = [json.dumps(row) for row in rows]
    lines.insert(-1, '{"order_id": 77, "ts": "2025-06-2')
    (shop.directory / "rows.jsonl").write_text("\n".join(lines) + "\n")
    done = shop.run("ingest", "Order", "rows.jsonl", "--json")
    assert done.returncode == 1, done
    answer = json.loads(done.stdout)
    assert answer["accepted"] == 2
    found = sorted((row["row"], row["field"], row["reason"]) for row in answer["rejected"])
    _check(found[:-1], bad)
    assert found[-1][0] == len(bad) + 1 and "not JSON: " in found[-1][2] and " column 34" in found[-1][2], found
    assert _counted(shop, "cli", answer["position"]) == 2
    shown = shop.run("ingest", "Order", "rows.jsonl")
    assert shown.returncode == 1
    assert "2 rows sent, 11 rejected" in shown.stdout and "row 2: the key field 'order_id'" in shown.stderr, shown
    missing = shop.run("ingest", "Order", "rows.json")
    assert missing.returncode != 0 and "rows.json" in missing.stderr and "Traceback" not in missing.stderr


def test_flight(shop):
    """Arrow cells have the column's type, so fewer things can be wrong with one row."""
    at = datetime(2025, 6, 20, tzinfo=timezone.utc)
    table = pa.table(
        {
            "order_id": pa.array([900, None, 902, 903, 904, 905], pa.int64()),
            "ts": pa.array([at, at, None, at, at, at]),
            "user": ["arrow", "arrow", "arrow", "arrow", None, "arrow"],
            "amount": [1.0, 1.0, 1.0, float("nan"), 1.0, 1.0],
        }
    )
    answer = put(shop, table, dataset="Order")
    assert (answer["accepted"], answer["rejected"]) == (2, 4)
    told = [(row["index"], row["field"], row["reason"]) for row in answer["reasons"]]
    _check(told, [BAD[0], BAD[1], NAN, BAD[7]])
    assert _counted(shop, "arrow", answer["position"]) == 2


def _table(**columns):
    whole = {"order_id": [1], "ts": [GOOD["ts"]], "user": ["whole"], "amount": [1.0], "city": ["b"], **columns}
    return pa.table({name: values for name, values in whole.items() if values is not None})


STREAMS = [
    (_table(amount=None), {}, "missing column 'amount' (float) of dataset 'Order'"),
    (_table(order_id=["x"]), {}, "column 'order_id' of dataset 'Order': expected int, got Arrow type Utf8"),
    (_table(amuont=[1.0]), {}, "unknown column 'amuont' of dataset 'Order' (hint: did you mean 'amount'?)"),
    (_table(), {"event_id_column": "id"}, "no column 'id' for the event ids"),
    (_table(), {"dataset": "Ordr"}, "unknown dataset 'Ordr' (hint: did you mean 'Order'?)"),
    (_table(), {"event_id_colum": "user"}, "unknown field `event_id_colum`, expected one of"),
]


@pytest.mark.parametrize(("table", "command", "says"), STREAMS)
def test_arrow_streams_that_do_not_fit_are_refused_as_a_whole(shop, table, command, says):
    with pytest.raises(pa.ArrowException) as caught:
        put(shop, table, **{"dataset": "Order", **command})
    assert says in str(caught.value)
    with shop.client() as client:
        if not command:
            with pytest.raises(errors.InvalidArgumentError) as refused:
                client.log("Order", table)
            assert says.partition(" (hint")[0] in str(refused.value) and refused.value.field
        assert client.query("UserFeatures", "whole").to_dicts()[0]["n_all"] == 0


def test_messages_that_are_too_large_are_refused_and_cost_nothing(shop):
    huge = {**GOOD, "user": "huge", "city": "x" * (17 << 20)}
    with shop.client() as client:
        with pytest.raises(errors.ThymeError, match="too large|larger than") as caught:
            client.log("Order", [huge])
        assert "16" in str(caught.value), caught.value
        # Many rows that are too large together are sent apart.
        result = client.log("Order", [{**huge, "order_id": number, "city": "x" * (1 << 20)} for number in range(40)])
        assert (result.accepted, result.rejected) == (40, [])
        assert client.query("UserFeatures", "huge", at_least=result.position).to_dicts()[0]["n_all"] == 40
    table = pa.table({name: [value] for name, value in {**huge, "city": "x" * (65 << 20)}.items()})
    with pytest.raises((pa.ArrowException, OSError), match="(?i)too large|larger than"):
        put(shop, table, dataset="Order")
    # Over HTTP the length is enough: nothing of the body needs to be sent.
    connection = http.client.HTTPConnection(shop.control, timeout=30)
    connection.putrequest("POST", "/api/v1/log")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(65 << 20))
    connection.endheaders()
    response = connection.getresponse()
    problem = json.loads(response.read())
    connection.close()
    assert (response.status, problem["code"]) == (413, "resource_exhausted")
    assert str(64 << 20) in problem["detail"], problem
    assert _counted(shop, "huge", "p") == 40


SOURCED = SOURCE.replace("from thyme import (", "from thyme import (\n    FileSource, source,").replace(
    '@dataset(index=True, version=1, max_lateness="6h")',
    '@source(FileSource("PATH"), every="1s", cdc="append")\n@dataset(index=True, version=1, max_lateness="6h")',
)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_file_source(make_server, form):
    """Bad lines go to the dead letters with place and reason, once, and a line cut in the middle waits for its end."""
    server = make_server().start()
    path = server.directory / f"orders.{form}"
    good = [{**GOOD, "order_id": number, "city": "Oslo"} for number in range(4)]
    if form == "jsonl":
        lines = [json.dumps(row) for row in good]
        bad = [
            ('{"order_id": 50, "user": "zoe', "not valid JSON"),
            (json.dumps({**good[0], "amount": "much"}), "'amount'"),
        ]
        bad += [(json.dumps({**good[0], "order_id": None}), "'order_id' is null"), ('{"order_id": 9}', "no field 'ts'")]
        head = []
    else:
        lines = [",".join(str(value) for value in row.values()) for row in good]
        bad = [("50,2025", "2 columns where the header has 5"), (lines[0].replace("1.0", "much"), "'amount'")]
        bad += [(lines[0].replace("1.0", "nan"), "'amount'"), (lines[0].removeprefix("0"), "'order_id' is null")]
        head = [",".join(GOOD)]
    written = [*head, lines[0], *(line for line, _ in bad), lines[1], lines[2]]
    path.write_text("\n".join([*written, lines[3][:20]]))
    done = server.commit(SOURCED.replace("PATH", str(path)))
    assert done.returncode == 0, done.stderr
    _check_source(server, bad, 3, first_line=len(head) + 2)
    with server.client() as client:
        (source,) = client.list("sources")
        assert f"line {len(written) + 1} is incomplete" in json.dumps(source, default=str), source
    with path.open("a") as file:
        file.write(lines[3][20:] + "\n")
    _check_source(server, bad, 4, first_line=len(head) + 2)
    server.kill()
    server.start()
    _check_source(server, bad, 4, first_line=len(head) + 2)


def _check_source(server, bad, good, first_line):
    deadline = time.monotonic() + 60
    while True:
        _, status = ask(f"http://{server.control}/api/v1/status")
        (counts,) = [found["counts"] for found in status["datasets"] if found["name"] == "Order"]
        if counts["accepted"] >= good and counts["dead_letters"] >= len(bad):
            break
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)
    assert (counts["accepted"], counts["dead_letters"], counts["duplicates"]) == (good, len(bad), 0)
    code, found = ask(f"http://{server.control}/api/v1/rejected?dataset=Order")
    assert code == 200
    reasons = sorted(row["reason"] for row in found["rows"])
    assert len(reasons) == len(bad)
    for number, (reason, (_, says)) in enumerate(zip(reasons, bad, strict=True)):
        assert reason.startswith(f"line {first_line + number}: ") and says in reason, reason
    deadline = time.monotonic() + 60
    while (counted := _counted(server, "zoe", "p")) != good:
        assert time.monotonic() < deadline, counted
    with server.client() as client:
        (event,) = [event for event in client.events()["events"] if event["event_type"] == "source.row_rejected"]
        assert f"line {first_line}: " in event["message"] and "3 more rows" in event["message"]
        assert "zoe" not in json.dumps(event, default=str), "an erase does not reach the feed"


def test_an_event_of_the_far_future_is_a_dead_letter_and_moves_nothing(make_server):
    """On the wall clock it would push the watermark past honest rows."""
    server = make_server(clock="wall").start()
    assert server.commit(SOURCE).returncode == 0
    now = datetime.now(timezone.utc)
    early, late = now - timedelta(hours=1), now + timedelta(days=2)
    with server.client() as client:
        rows = [{**GOOD, "order_id": number, "ts": ts} for number, ts in enumerate([early, late, early])]
        result = client.log("Order", rows)
        assert (result.accepted, result.rejected) == (3, [])
        answer = client.query("UserFeatures", "zoe", at_least=result.position).to_dicts()[0]
        assert (answer["n_all"], answer["n_1h"] <= 2) == (2, True)
        # An honest row after it is not late.
        result = client.log("Order", [{**GOOD, "order_id": 1, "ts": now - timedelta(hours=2)}])
        assert client.query("UserFeatures", "zoe", at_least=result.position).to_dicts()[0]["n_all"] == 3
    (order,) = [
        found for found in json.loads(server.run("status", "--json").stdout)["datasets"] if found["name"] == "Order"
    ]
    assert {name: order["counts"][name] for name in ("accepted", "dead_letters", "late_dropped")} == {
        "accepted": 3, "dead_letters": 1, "late_dropped": 0,
    }  # fmt: skip
    _, found = ask(f"http://{server.control}/api/v1/rejected?dataset=Order")
    (letter,) = found["rows"]
    assert letter["kind"] == "dead_letter"
    assert "is more than 1d ahead of its arrival at" in letter["reason"]
    assert letter["row"]["order_id"] == 1 and letter["row"]["user"] == "zoe"
