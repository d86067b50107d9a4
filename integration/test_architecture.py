"""The house rules that a command can check: who may know which dependency, and that arrows point down only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent

OWNERS = {
    "rocksdb": {"thyme-state"},
    "sqlx": {"thyme-catalog"},
    "pyo3": {"thyme-extract", "thyme-python"},
    "axum": {"thyme-gateway", "thyme-server"},
    "arrow-flight": {"thyme-feature", "thyme-bench"},
    "parquet": {"thyme-sources", "thyme-bench"},
    "prost": {"thyme-proto", "thyme-feature", "thyme-bench"},
}

LEVELS = {
    "thyme-core": 0, "thyme-proto": 1, "thyme-log": 1, "thyme-state": 1, "thyme-catalog": 1, "thyme-sources": 1,
    "thyme-engine": 2, "thyme-query": 2, "thyme-extract": 3, "thyme-ingest": 3, "thyme-control": 4, "thyme-feature": 4,
    "thyme-gateway": 5, "thyme-server": 6, "thyme-python": 7, "thyme-bench": 7,
}  # fmt: skip


def packages():
    done = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"], cwd=ROOT, capture_output=True, check=True
    )
    return json.loads(done.stdout)["packages"]


def test_a_heavy_dependency_has_one_owner():
    for package in packages():
        for dependency in package["dependencies"]:
            owners = OWNERS.get(dependency["name"])
            if owners is not None and dependency["kind"] is None:
                assert package["name"] in owners, f"{package['name']} must not know {dependency['name']}"


def test_arrows_point_down():
    for package in packages():
        for dependency in package["dependencies"]:
            if dependency["name"] in LEVELS and dependency["kind"] is None:
                above, below = LEVELS[package["name"]], LEVELS[dependency["name"]]
                assert above > below, f"{package['name']} -> {dependency['name']}"


def test_the_domain_knows_no_runtime():
    for package in packages():
        if package["name"] == "thyme-core":
            names = {dependency["name"] for dependency in package["dependencies"]}
            assert not names & {"tokio", "tonic", "prost", "rocksdb", "axum"}
