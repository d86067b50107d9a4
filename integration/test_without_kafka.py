"""`make test KAFKA=off`: every test that starts a Kafka broker is left out, and no other; and who needs a broker where
there can be none is told of it."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KAFKA = ROOT / "tools" / "kafka.sh"
# What `tools/kafka.sh` needs before it needs Java or Maven.
TOOLS = ["bash", "cut", "dirname", "mkdir", "mktemp", "rm", "sha256sum", "tail", "touch"]


def made_of(kafka: str) -> str:
    """The commands of `make test`, which are not run."""
    told = ["make", "-C", ROOT, "--no-print-directory", "--dry-run", f"KAFKA={kafka}", "test"]
    # Called by make, as the tests are, it would take over the options of that one.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    done = subprocess.run(told, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def planned(kafka: str) -> dict[str, set[str]]:
    """The tests of Python that `make test` runs, with their fixtures."""
    (command,) = re.findall(r"-m pytest (.*)", made_of(kafka))
    told = [sys.executable, "-m", "pytest", *shlex.split(command), "-n", "0", "--setup-plan"]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = re.findall(r"^ +(\S+::.+?)(?: \(fixtures used: (.*)\))?$", done.stdout, re.MULTILINE)
    return {test: set(fixtures.split(", ")) for test, fixtures in found}


def test_all_that_starts_a_broker_is_left_out_and_nothing_else():
    everything, rest = planned("on"), planned("off")
    on_a_broker = {test for test, fixtures in everything.items() if "start_broker" in fixtures}
    assert set(rest) == set(everything) - on_a_broker
    # Also in files that have other tests.
    files = {Path(test.partition("::")[0]).stem for test in on_a_broker}
    assert {"test_chain", "test_emit", "test_compose", "test_kafka", "test_kafka_storm"} <= files, files
    assert {"test_chain", "test_kafka_nodes"} <= {Path(test.partition("::")[0]).stem for test in rest}


def test_it_says_at_its_end_what_it_left_out():
    *_, last = made_of("off").strip().splitlines()
    assert "left out with KAFKA=off: every test that starts a Kafka broker" in last, last
    assert "on_kafka" in last and "start_broker" in last, last
    assert "--skip on_kafka" in made_of("off")
    for with_kafka in ("left out", "--skip", "--without-kafka"):
        assert with_kafka not in made_of("on")


def test_there_is_no_other_way_to_a_broker():
    """What says which tests start one is a fixture in Python, and the name of a module in Rust."""
    for file in ROOT.glob("integration/*.py"):
        imported = [node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        assert "kafka_broker" not in imported or file.name in ("conftest.py", "storm.py"), file
    tests = [file for file in ROOT.glob("services/**/*.rs") if re.search(r"\bBroker::start", file.read_text())]
    assert len(tests) > 5
    for file in tests:
        assert "on_kafka" in (file.stem, file.parent.name), file


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        ([], "java is not installed"),
        (["java"], "mvn is not installed"),
        (["java", "mvn"], "Maven could not fetch the Kafka broker's jars"),
    ],
)
def test_where_a_broker_cannot_be_fetched_the_way_without_is_named(tmp_path, there, reason):
    tools, cache = tmp_path / "bin", tmp_path / "cache"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name))
    for name in there:
        # Maven says so where no repository answers; Java is not called.
        (tools / name).write_text(f"#!{shutil.which('bash')}\necho '{name}: network is unreachable'\nexit 1\n")
        (tools / name).chmod(0o755)
    environment = {"PATH": os.fspath(tools), "THYME_CACHE": os.fspath(cache), "HOME": os.fspath(tmp_path)}
    for command in ("fetch", "serve"):
        done = subprocess.run(
            [KAFKA, command], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1, done
        assert f"error: {reason}" in done.stderr and "hint: 'make test KAFKA=off' leaves out" in done.stderr, (
            done.stderr
        )
        # A test's broker tells of it what it reads here.
        assert done.stdout.startswith(f"failed: {reason}") == (command == "serve"), done.stdout
    assert "mvn" not in there or "network is unreachable" in done.stderr
    assert not list(cache.glob("kafka/*")), "nothing half fetched is left"
