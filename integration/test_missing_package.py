"""A package that a committed module needs is gone when the server starts again: the rest answers, and it is told."""

from __future__ import annotations

import pytest

from shop import SOURCE, rows
from surfaces import http

SCORES = """
import scorepkg
from features import UserStats

from thyme import extractor, extractor_inputs, extractor_outputs, feature, featureset


@featureset
class Scores:
    user: str
    n: int = feature(ref=UserStats.n_all)
    score: int

    @extractor
    @extractor_inputs("n")
    @extractor_outputs("score")
    def judge(cls, ts, n):
        return scorepkg.score(n)
"""


@pytest.fixture
def server(make_server, tmp_path):
    """With a package that lies elsewhere, so that it does not travel with a commit."""
    package = tmp_path / "site" / "scorepkg"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def score(n):\n    return 100 + n\n", encoding="utf-8")
    return make_server(env={"PYTHONPATH": str(package.parent)}).start()


def ask(server, featureset, user):
    code, answer = http(f"http://{server.queries}/features?featureset={featureset}&user={user}")
    assert code == 200, answer
    return answer


def unavailable(server):
    with server.client() as client:
        found = client.events(severity="error")["events"]
    return [event["message"] for event in found if event["event_type"] == "extractor.unavailable"]


def test_a_server_that_cannot_load_a_module_serves_the_rest(server):
    for source, name in ((SOURCE, "features.py"), (SCORES, "scores.py")):
        done = server.commit(source, name)
        assert done.returncode == 0, done.stderr
    orders = rows(50, 1)
    user = orders[0]["user"]
    count = sum(order["user"] == user for order in orders)
    with server.client() as client:
        position = client.log("Order", orders).position
        answer = client.query("Scores", user, at_least=position)
    assert answer.to_dicts() == [{"user": user, "n": count, "score": 100 + count}]
    before = ask(server, "UserFeatures", user)
    assert unavailable(server) == []

    server.stop()
    packages = server.env.pop("PYTHONPATH")
    server.start()
    scores = ask(server, "Scores", user)
    assert scores["features"] == {"n": count, "score": None}
    assert scores["statuses"] == {"n": "OK", "score": "ERROR"}
    reason = "module 'scores' needs the package 'scorepkg', which is not installed for Python 3."
    assert reason in scores["errors"]["score"]
    with server.client() as client:
        assert client.query("Scores", user).statuses["score"] == ["ERROR"]
    now = ask(server, "UserFeatures", user)
    assert (now["features"], now["statuses"]) == (before["features"], before["statuses"])
    assert now["statuses"]["share"] == "OK"
    (told,) = unavailable(server)
    assert reason in told
    assert reason in server.run("logs", "--severity", "error").stdout

    # Nothing was lost: with the package it is as before.
    server.stop()
    server.env["PYTHONPATH"] = packages
    server.start()
    assert ask(server, "Scores", user)["features"] == {"n": count, "score": 100 + count}
    assert len(unavailable(server)) == 1
