"""Whether a wrong result of a peer would be noticed: the brute force, the comparison, the way of an error to its line.
What needs a peer's environment is proven by `run.py --prove`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import measure
import workload
from bench import Bench, Options, System
from child import Child, Run
from kernel import Windows
from lines import Report, Target, rounded
from reference import CENTS, Reference, WrongAnswerError, check, columns
from workload import HOUR, Random, Rows, Shape

SMALL = Shape(events=2_000, keys=100, spine=400)
NUMPY = System("numpy kernel", "", "numpy_join.py", "kernel", CENTS, floor=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A workload and where it lies."""
    folder = tmp_path_factory.mktemp("peers") / "data"
    events, spines = workload.write(SMALL, folder)
    return folder, events, spines


def rows(*found):
    key, time, *cents = (np.array(column, np.int64) for column in zip(*found, strict=True))
    return Rows(key, time, *cents)


def test_the_numbers_are_those_of_the_generator_in_rust():
    random = Random(1234567)  # SplitMix64's published sequence
    assert random.words(2).tolist() == [6457827717110365317, 3203168211198807973]
    assert random.words(1).tolist() == [9817491932198370423]
    random.go_back(1)
    assert random.words(1).tolist() == [9817491932198370423]
    words = random.words(1000)
    for limit in (3, 600_000, 2**32 - 1):
        assert workload.below(words, limit).tolist() == [(word * limit) >> 64 for word in words.tolist()]


def test_questions_meet_the_edges_of_windows_and_events_come_late(small):
    _, events, spines = small
    behind = np.maximum.accumulate(events.time) - events.time
    assert 0 < behind.max() < workload.DISORDER
    exists = set(zip(events.key.tolist(), events.time.tolist(), strict=True))
    asked = list(zip(spines["sorted"].key.tolist(), spines["sorted"].time.tolist(), strict=True))
    assert asked == sorted(asked)
    assert sum(one in exists for one in asked) > len(asked) // 8
    after = sum(any((key, time - length) in exists for length in workload.LENGTHS) for key, time in asked)
    assert after > len(asked) // 16


def test_both_ends_of_a_window_are_in_it_and_sums_are_rounded_once():
    events = rows((1, 0, 10), (1, HOUR, 20), (1, HOUR + 1, 30), (2, 0, 7), (1, 1, 40))
    asked = rows((1, HOUR), (1, HOUR + 1), (3, 0))
    found = Reference(events).answers(asked)
    assert found["count_1h"].tolist() == [3, 3, 0]
    assert found["sum_cents_1h"].tolist() == [70, 90, 0]
    assert found["max_cents_1h"][:2].tolist() == [40, 40]
    assert np.isnan(found["max_1h"][2])
    assert np.isnan(found["avg_cents_1h"][2])
    assert Reference(events, exclusive=True).answers(asked)["count_1h"].tolist() == [2, 2, 0]
    so_far = Reference(events).answers(asked, seen_until=np.array([2, 5, 0]))
    assert so_far["count_1h"].tolist() == [2, 3, 0]
    tenths = rows(*((1, 0, 10) for _ in range(10)))
    total = Reference(tenths).answers(rows((1, 0)))["sum_7d"][0]
    assert total == 1.0 != sum([0.1] * 10)


@pytest.mark.parametrize(
    "found",
    [
        {"count_1h": [1, 2], "max_1h": [1.5, np.nan]},
        {"count_1h": [1, 3], "max_1h": [np.nan, np.nan]},
        {"count_1h": [1, 3], "max_1h": [1.5, 0.0]},
        {"count_1h": [1, 3], "max_1h": [1.5 + 2**-52, np.nan]},
        {"count_1h": [1, 3, 3], "max_1h": [1.5, np.nan, np.nan]},
        {"count_1h": [1, 3]},
    ],
)
def test_what_is_wrong_is_refused(found):
    expected = {"count_1h": np.array([1.0, 3.0]), "max_1h": np.array([1.5, np.nan])}
    check(expected, {"count_1h": [1, 3], "max_1h": [1.5, np.nan]}, expected)
    with pytest.raises(WrongAnswerError):
        check(expected, {name: np.array(values) for name, values in found.items()}, expected)


def test_the_kernel_is_right_and_the_other_bound_is_noticed(small):
    _, events, _ = small
    state, given = {}, []
    for key, time, cents in zip(events.key.tolist(), events.time.tolist(), events.cents.tolist(), strict=True):
        given.append([value for window in state.setdefault(key, Windows()).add(time, cents) for value in window])
    found = dict(zip(columns(CENTS), np.array(given, np.float64).T, strict=True))
    asked, until = Rows(events.key, events.time), np.arange(1, len(events) + 1)
    check(Reference(events).answers(asked, until), found, found)
    with pytest.raises(WrongAnswerError):
        check(Reference(events, exclusive=True).answers(asked, until), found, found)


@pytest.fixture
def bench(tmp_path):
    with contextlib.ExitStack() as closing:
        yield Bench(Options(tmp_path / "peers", tmp_path, quick=True, prove=False, seed=1), closing)


def test_a_peer_in_its_process_is_checked_and_measured(bench, small):
    folder, events, spines = small
    child = bench.open(NUMPY, folder)
    expected = {exclusive: Reference(events, exclusive).answers(spines["random"]) for exclusive in (False, True)}

    def right(exclusive):
        return bench.checked(
            "name",
            "unit",
            [(NUMPY, child)],
            lambda system: columns(system.columns),
            lambda _, child: child.answers(spine="random"),
            expected[exclusive],
        )

    assert right(exclusive=False) == [(NUMPY, child)]
    runs = bench.in_turns("name", "unit", [(NUMPY, child)], lambda _, child, turn: child.run(spine="random"))
    assert runs[NUMPY][0].peak_mb > 10
    assert bench.report.failed == []
    assert right(exclusive=True) == []
    assert "values are wrong" in bench.report.failed[0]


def test_a_peer_that_cannot_be_had_or_fails_is_a_line(bench, small, capsys):
    folder, *_ = small
    absent = System("absent", "absent", "numpy_join.py", "kernel")
    with bench.opened([absent, NUMPY], folder, "name", "unit") as opened:
        assert [system.name for system, _ in opened] == ["numpy kernel"]
        turns = []

        def run(system: System, child: Child, turn: int) -> Run:
            turns.append(turn)
            return child.run(spine="no such spine")

        assert bench.in_turns("name", "unit", opened, run) == {}
        assert turns == [0]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["peer"], line["value"]) for line in lines] == [("absent", None), ("numpy kernel", None)]
    assert "no environment" in lines[0]["error"]
    assert "no such spine" in lines[1]["error"]
    assert len(bench.report.failed) == 2


def test_processes_are_counted_with_what_they_start():
    burn = "sum(range(3_000_000))"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{burn}']); print(flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", inner], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    ended = measure.cpu_seconds([process.pid])
    assert ended > 0.02  # two interpreters and a sum, one of them over
    assert measure.cpu_seconds([process.pid], without=[process.pid]) == 0
    sleeping = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert {process.pid, sleeping.pid} < set(measure.tree(os.getpid()))
    for one in (process, sleeping):
        one.communicate(b"\n")


def test_lines_say_what_was_to_be_reached(capsys):
    report = Report()
    report.measure("a", 123456.0, "rows", target=Target(200_000), runs=5, note=None)
    report.measure("a", 3.0, "rows", "peer", 0.51239, Target(0.5), floor=True)
    report.measure("a", 3.0, "rows", "peer", None, Target(0.5))
    report.measure("b", 0.7, "ms", target=Target(0.8, is_least=False))
    ours, theirs, alone, least = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert ours == {
        "name": "a", "value": 123456.0, "unit": "rows", "peer": None, "ratio": None, "target": ">= 200,000",
        "reached": False, "runs": 5,
    }  # fmt: skip
    assert (theirs["ratio"], theirs["target"], theirs["reached"], theirs["floor"]) == (0.5124, ">= 0.5", True, True)
    assert "reached" not in alone
    assert (least["target"], least["reached"]) == ("<= 0.8", True)
    assert [rounded(value) for value in (0.0, 1234.5678, 0.00123456, 98765.4, 7)] == [0.0, 1235.0, 0.001235, 98765.0, 7]
