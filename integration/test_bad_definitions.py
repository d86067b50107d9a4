"""Definitions that do not hold together, at commit: by the command line (the SDK finds most), as a document by HTTP
(the server finds all). Nothing of such a commit is published, and the definitions before it serve on."""

from __future__ import annotations

import json

import pytest

from shop import SOURCE
from surfaces import http

# What replaces what; what the message says; what it points at.
SDK = [
    ("import no_such_package_anywhere\n" + SOURCE, "no_such_package_anywhere", "changed.py"),
    (SOURCE.replace("Avg, Count,", "Avg, Coun, Count,"), "Coun", "changed.py"),
    (SOURCE.replace('window="1h"', 'window="1month"'), "1month", "units s m h d w"),
    (SOURCE.replace('Sum(of="amount", window="forever")', 'Sum(of="amuont", window="forever")'), "amuont", "'amount'"),
    (SOURCE.replace('Sum(of="amount", window="forever")', 'Sum(of="city", window="forever")'), "city", "changed.py"),
    (SOURCE.replace('Count(window="1h")', 'Count(windw="1h")'), "windw", "window"),
    (SOURCE.replace("@dataset(index=True, version=1)", "@dataset(indx=True, version=1)"), "indx", "index"),
    (SOURCE.replace('orders.groupby("user")', 'orders.groupby("usr")'), "usr", "'user'"),
    (SOURCE.replace('col("amount") > 50', 'col("amuont") > 50'), "amuont", "'amount'"),
    (SOURCE.replace('col("amount") > 50', 'col("amount").grater(50)'), "grater", "changed.py"),
    (
        SOURCE.replace("def compute(cls, orders):\n", "def compute(cls, orders):\n        1 / 0\n"),
        "division by zero",
        "changed.py:41",
    ),
    (SOURCE.replace("ref=UserStats.n_1h", "ref=UserStats.n_1hour"), "n_1hour", "n_1h"),
    (
        SOURCE.replace("feature(ref=UserStats.n_1h)", "feature(id=4, ref=UserStats.n_1h)").replace(
            "feature(ref=UserStats.n_all)", "feature(id=4, ref=UserStats.n_all)"
        ),
        "4",
        "n_all",
    ),
    (SOURCE.replace('"total_1d", "total_all")', '"share", "total_all")'), "share -> share", "need each other"),
    (SOURCE.replace('@extractor_inputs("total_1d",', '@extractor_inputs("total_2d",'), "total_2d", "'total_1d'"),
    (SOURCE.replace('@extractor_outputs("share")', '@extractor_outputs("shares")'), "shares", "'share'"),
    (SOURCE.replace("amount: float", "amount: complex"), "complex", "float"),
    (SOURCE.replace("n_1h: int\n", "n_1h: str\n"), "n_1h", "int"),
]


@pytest.mark.parametrize(("source", "says", "points"), SDK)
def test_the_command_line(shop, source, says, points):
    before = http(f"http://{shop.control}/api/v1/commits")
    assert source != SOURCE
    done = shop.commit(source, "changed.py")
    assert done.returncode == 4, done.stderr
    assert says in done.stderr and points in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    _serves_on(shop, before)


@pytest.fixture(scope="module")
def document(shop):
    done = shop.run("commit", "features.py", "--output", "shop.json")
    assert done.returncode == 0, done.stderr
    return (shop.directory / "shop.json").read_text()


def _dataset(document, name):
    return next(found for found in document["datasets"] if found["name"] == name)


def _aggregate(document, name="n_1h"):
    return next(found for found in document["pipelines"][0]["aggregates"] if found["name"] == name)


def _feature(document, name):
    return next(found for found in document["featuresets"][0]["features"] if found["name"] == name)


def _edits():
    """Name, change of the document, what the problem says, its hint or field."""
    return {
        "unknown operator": (lambda all_: _aggregate(all_)["op"].update(kind="coutn"), "coutn", "count"),
        "window text": (lambda all_: _aggregate(all_).update(window="1month"), "1month", "units s m h d w"),
        "unknown column": (lambda all_: _aggregate(all_, "total_1d").update(of="amuont"), "amuont", "amount"),
        "unknown group": (lambda all_: all_["pipelines"][0].update(group_by=["usr"]), "usr", "user"),
        "unknown input": (lambda all_: all_["pipelines"][0].update(input="Ordr"), "Ordr", "Order"),
        "unknown type": (lambda all_: _dataset(all_, "Order")["fields"][0].update(type="integer"), "integer", "int"),
        "unknown ref": (lambda all_: _feature(all_, "n_1h")["ref"].update(field="n_1hour"), "n_1hour", "n_1h"),
        "unknown member": (lambda all_: all_.update(datasts=[]), "datasts", "datasets"),
        "unknown version": (lambda all_: all_.update(format=99), "99", ""),
        "two ids": (lambda all_: [_feature(all_, name).update(id=4) for name in ("n_all", "n_1h")], "4", "n_all"),
        "cycle": (
            lambda all_: all_["featuresets"][0]["extractors"][0]["inputs"][0].update(feature="share"),
            "share -> share",
            "need each other",
        ),
        "missing package": (
            lambda all_: all_["modules"][0].update(source="import no_such_package\n" + all_["modules"][0]["source"]),
            "needs the package 'no_such_package', which is not installed for Python",
            "features",
        ),
        "module that raises": (
            lambda all_: all_["modules"][0].update(
                source=all_["modules"][0]["source"] + "\nraise OSError('no disk')\n"
            ),
            "OSError: no disk",
            "features.py:",
        ),
        "module without the function": (
            lambda all_: all_["modules"][0].update(source="x = 1\n"),
            "UserFeatures",
            "features",
        ),
    }


@pytest.mark.parametrize("name", _edits())
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_document_over_http(shop, document, name, dry_run):
    before = http(f"http://{shop.control}/api/v1/commits")
    change, says, points = _edits()[name]
    changed = json.loads(document)
    change(changed)
    body = {"definitions": changed, "dry_run": dry_run}
    code, problem = http(f"http://{shop.control}/api/v1/commit", body)
    assert (code, problem["code"]) == (422, "invalid_definition"), problem
    assert says in problem["detail"] and points in json.dumps(problem), problem
    _serves_on(shop, before)


def test_a_document_that_is_no_json(shop):
    code, problem = http(f"http://{shop.control}/api/v1/commit", {"definitions": '{"format": 1, "datas'})
    assert code in (400, 422) and "EOF" in problem["detail"], problem


def _serves_on(shop, commits):
    assert http(f"http://{shop.control}/api/v1/commits") == commits, "a refused commit left something behind"
    code, answer = http(f"http://{shop.queries}/features?featureset=UserFeatures&user=user_1&features=n_all,share")
    assert code == 200 and answer["features"]["n_all"] == shop.counted["user_1"], answer
    assert answer["statuses"]["share"] == "OK", answer


def test_a_feature_id_is_never_used_again(make_server):
    """Removed or renamed, an id that was published stays what it was."""
    server = make_server().start()
    with_id = SOURCE.replace("feature(ref=UserStats.n_1h)", "feature(id=4, ref=UserStats.n_1h)")
    assert server.commit(with_id).returncode == 0
    without = SOURCE.replace("    n_1h: int = feature(ref=UserStats.n_1h)\n", "")
    (server.directory / "features.py").write_text(without)
    done = server.run("commit", "features.py", "--remove", "UserFeatures.n_1h")
    assert done.returncode == 0, done.stderr
    again = without.replace("feature(ref=UserStats.big_1d)", "feature(id=4, ref=UserStats.big_1d)")
    done = server.commit(again)
    assert done.returncode == 1, done
    assert "4" in done.stderr and "n_1h" in done.stderr and "big_1d" in done.stderr, done.stderr
    code, answer = http(f"http://{server.queries}/features?featureset=UserFeatures&user=user_1&features=big_1d")
    assert code == 200 and answer["features"] == {"big_1d": 0}
