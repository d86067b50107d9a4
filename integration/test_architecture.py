"""The house rules that a command can check: who may know which dependency, and that arrows point down only."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

OWNERS = {
    "rocksdb": {"thyme-state"},
    # The catalog has tables of its own; a source reads those of others, as text.
    "sqlx": {"thyme-catalog", "thyme-sources"},
    "object_store": {"thyme-checkpoint"},
    # The log has topics of its own; a source reads those of others.
    "rdkafka": {"thyme-log", "thyme-sources"},
    "pyo3": {"thyme-extract", "thyme-python"},
    "axum": {"thyme-gateway", "thyme-server"},
    "arrow-flight": {"thyme-feature", "thyme-bench"},
    "parquet": {"thyme-sources"},
    # The server's own interface is compiled before it is built; a source compiles schemas of others while it runs.
    "protox": {"thyme-sources"},
    # For the schema registry of a source; object_store has one of its own.
    "reqwest": {"thyme-sources"},
    # How much of the disk is free, for uploaded spines.
    "rustix": {"thyme-feature"},
    "prost": {"thyme-proto", "thyme-feature", "thyme-bench"},
}

LEVELS = {
    "thyme-broker": 0, "thyme-core": 0, "thyme-proto": 1, "thyme-log": 1, "thyme-state": 1, "thyme-catalog": 1,
    "thyme-checkpoint": 1, "thyme-sources": 1,
    "thyme-engine": 2, "thyme-query": 2, "thyme-extract": 3, "thyme-ingest": 3, "thyme-control": 4, "thyme-feature": 4,
    "thyme-gateway": 5, "thyme-server": 6, "thyme-python": 7, "thyme-bench": 7,
}  # fmt: skip


def packages():
    done = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, capture_output=True, check=True
    )
    return json.loads(done.stdout)["packages"]


def dependencies():
    """Package to the names of what it is built on (not what only its tests use)."""
    return {
        package["name"]: {found["name"] for found in package["dependencies"] if found["kind"] is None}
        for package in packages()
    }


def test_a_heavy_dependency_has_one_owner():
    known = dependencies()
    assert {heavy: {name for name, used in known.items() if heavy in used} for heavy in OWNERS} == OWNERS


def test_arrows_point_down():
    known = dependencies()
    assert known.keys() == LEVELS.keys()
    arrows = [(above, below) for above, used in known.items() for below in used & LEVELS.keys()]
    assert len(arrows) > len(LEVELS)
    assert [arrow for arrow in arrows if LEVELS[arrow[0]] <= LEVELS[arrow[1]]] == []


def features(*selection):
    """Each crate of a build with the features it gets there, as `cargo tree` prints them."""
    done = subprocess.run(
        ["cargo", "tree", *selection, "--prefix", "none", "--format", "{p} {f}", "--no-dedupe"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {line.strip() for line in done.stdout.splitlines() if line.strip()}


def test_the_wheel_compiles_nothing_twice():
    """A crate that the tests and the wheel both use has the same features in both, so `make test` compiles it once."""
    tests = features("--workspace", "--exclude=thyme-python", "--exclude=thyme-extract", "--edges=normal,dev")
    wheel = features("--package=thyme-python", "--edges=normal")
    in_tests = {line.split()[0] for line in tests}
    assert len(wheel & tests) > 200
    assert {line for line in wheel - tests if line.split()[0] in in_tests} == set()


def test_failpoints_are_for_tests():
    """Nothing that is built into the product can make a crash point do anything."""
    callers = subprocess.run(
        ["git", "grep", "-l", "-E", r"failpoint::(\{.*)?install"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert callers and all("/tests/" in caller for caller in callers), callers


def test_the_domain_knows_no_runtime():
    assert dependencies()["thyme-core"] & {"tokio", "tonic", "prost", "rocksdb", "axum"} == set()


@pytest.mark.parametrize(
    ("target", "servers"),
    [
        *((target, set()) for target in ("install", "serve", "demo", "lint", "check")),
        *((target, {target}) for target in ("kafka", "postgres")),
        *((target, {"kafka", "postgres"}) for target in ("test", "bench", "soak", "crash")),
    ],
)
def test_only_tests_and_benches_install_servers(target, servers):
    """Who wants to use it needs no Java, no Maven and no PostgreSQL."""
    # What the make above these tests was told is not for this one.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "KAFKA")}
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True, env=env)
    calls = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("tools/bootstrap.sh ")]
    assert calls
    assert {word for call in calls for word in call[1:]} == servers
