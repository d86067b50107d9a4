"""The short form of `mutants.py`, which `make crash` compiles and runs: each mutant still fits the source, and the test
that must notice it is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crash import LEAST
from protections import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent
POINTS = "services/core/src/failpoint.rs"


def source_of(program: str) -> str:
    """Of the test programs of that name: a file, or a folder with its `main.rs`."""
    files = [*ROOT.glob(f"services/*/tests/{program}.rs"), *ROOT.glob(f"services/*/tests/{program}/**/*.rs")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def is_there(program: str, wanted: str) -> bool:
    """Whether the test program has what it is told to run. The crash points go by the name of a point, others by that
    of a test."""
    if program == "crash_points":
        points = (ROOT / POINTS).read_text(encoding="utf-8").partition("\npoints! {")[2]
        return bool(source_of(program)) and bool(re.search(rf"^    {wanted},$", points, re.MULTILINE))
    named = rf"#\[(?:tokio::)?test(?:\(.*\))?\]\n(?: *#\[.*\]\n)* *(?:async )?fn {wanted}\("
    return bool(re.search(named, source_of(program)))


def test_there_are_as_many_as_a_full_run_must_have():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= LEAST["mutants"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_source(mutant: Mutant):
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.new != mutant.old
    program, dashes, wanted = mutant.test
    assert dashes == "--" and is_there(program, wanted), mutant.test


def test_a_test_that_is_not_there_is_noticed():
    program, _, wanted = MUTANTS[0].test
    assert is_there(program, wanted)
    assert not is_there(program, wanted + "_not") and not is_there("no_program", wanted)
    assert not is_there("crash_points", "NoPoint") and not is_there("no_program", "AfterPoll")
