"""What a full run of `make crash` must reach, which itself takes an hour and more."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from crash import FULL, LEAST, LONGEST_S, RECOVERY_S, shortfalls

ENOUGH = {**LEAST, "recovery_p99_s": RECOVERY_S, "seconds": LONGEST_S}


def test_a_run_that_reaches_everything_does_not_fall_short():
    assert LONGEST_S == 100 * 60 and RECOVERY_S == 5.0
    assert shortfalls(ENOUGH) == []
    assert shortfalls({**ENOUGH, "seconds": 2 * LONGEST_S}, 2 * FULL) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, least - 1) for name, least in LEAST.items()),
        # A part that did not come to its end has not told.
        *((name, None) for name in LEAST),
        ("recovery_p99_s", None),
        ("recovery_p99_s", RECOVERY_S + 0.1),
        ("seconds", LONGEST_S + 1),
    ],
)
def test_what_is_not_reached_is_named(name, value):
    (told,) = shortfalls({**ENOUGH, name: value})
    assert told.startswith(f"{name} {value} "), told


def test_how_long_it_takes_is_said_before_it_begins():
    def told(*arguments):
        command = ["make", "-C", Path(__file__).parent.parent, "--no-print-directory", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    helped = {line.split()[0]: line for line in told("help")}
    for target, minutes in [("crash", f"{LONGEST_S // 60} minutes"), ("soak", "25 minutes")]:
        assert minutes in told("--dry-run", target)[0] and minutes in helped[target]
    assert "minutes" not in told("--dry-run", "help")[0]
