"""The house rules that a command can check: who may know which dependency, and that arrows point down only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent

OWNERS = {
    "rocksdb": {"thyme-state"},
    # The catalog has tables of its own; a source reads those of others, as text.
    "sqlx": {"thyme-catalog", "thyme-sources"},
    "object_store": {"thyme-checkpoint"},
    "rdkafka": {"thyme-log"},
    "pyo3": {"thyme-extract", "thyme-python"},
    "axum": {"thyme-gateway", "thyme-server"},
    "arrow-flight": {"thyme-feature", "thyme-bench"},
    "parquet": {"thyme-sources"},
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


def test_the_domain_knows_no_runtime():
    assert dependencies()["thyme-core"] & {"tokio", "tonic", "prost", "rocksdb", "axum"} == set()
