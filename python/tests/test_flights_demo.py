"""The flights example: a broken claim makes the demo fail, and says which one."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

importlib.import_module("pandas")
FLIGHTS = Path(__file__).parents[1] / "examples" / "flights"


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(str(FLIGHTS))
    before = set(sys.modules)
    yield importlib.import_module("demo")
    for name in set(sys.modules) - before:
        if str(FLIGHTS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def run(demo, monkeypatch, tmp_path, holds):
    def job(options, report, *_):
        report.claim(True, "the sun rises")
        report.claim(holds, "0 of 10 differ")
        return {"flights_sent": options.flights}

    monkeypatch.setattr(demo, "_run", job)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--flights", "7", "--folder", str(tmp_path)])
    return demo.main()


@pytest.mark.parametrize(("holds", "status"), [(True, 0), (False, 1)])
def test_a_broken_claim_fails_the_demo(demo, monkeypatch, tmp_path, capsys, holds, status):
    assert run(demo, monkeypatch, tmp_path, holds) == status
    shown = capsys.readouterr()
    assert json.loads(shown.out.splitlines()[-1]) == {"flights_sent": 7}
    assert shown.err == ("" if holds else "error: 0 of 10 differ\n")


def test_two_servers_that_differ_are_told_apart(demo):
    one = {("N1", "now"): "1", ("N2", "now"): "2"}
    assert demo.restart.differences(one, dict(one)) == []
    (found,) = demo.restart.differences(one, {("N1", "now"): "1", ("N2", "now"): "3"})
    assert "N2 at now" in found
    assert len(demo.restart.differences(one, {})) == 2


def test_answers_are_compared_to_the_bit(demo):
    from thyme.result import ResultColumn, ThymeResult

    def answer(value, statuses=()):
        return demo.parity.exact(ThymeResult(columns=[ResultColumn("x", "float", [value])], statuses=dict(statuses)))

    assert answer(0.1 + 0.2) == answer(0.30000000000000004)
    assert answer(0.1 + 0.2) != answer(0.3)
    assert answer(0.0) != answer(-0.0)
    assert answer(None) != answer(None, {"x": ["DEFAULT"]})
