"""What a full run of `make crash` must reach, which itself takes an hour and more."""

from __future__ import annotations

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
