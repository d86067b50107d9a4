"""Lengths of time as text: one or more `<integer><unit>` with units s m h d w, as the server reads them."""

from __future__ import annotations

import re
from datetime import timedelta

from thyme.errors import Location, ThymeDefinitionError
from thyme.location import caller_location

_UNITS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
_SYNTAX = re.compile(r"(?:[0-9]+[smhdw])+")
_FORMS = "write one or more <integer><unit> with units s m h d w, such as 90s, 1d12h or 2w"


def micros(text: str) -> int | None:
    """Microseconds of a length such as `1d12h`; None when the text is not one, or is zero or beyond 64 bits."""
    if not _SYNTAX.fullmatch(text):
        return None
    total = sum(int(part[:-1]) * _UNITS[part[-1]] for part in re.findall(r"[0-9]+[smhdw]", text))
    return total if 0 < total < 2**63 else None


def checked_duration(value: object, what: str, location: Location | None = None) -> str:
    """The text of a length of time greater than zero, whole seconds.

    Raises:
        ThymeDefinitionError: not a length of time; names the value and the accepted forms.
    """
    if isinstance(value, timedelta):
        seconds = value // timedelta(seconds=1)
        value = f"{seconds}s" if timedelta(seconds=seconds) == value else str(value)
    if isinstance(value, str) and micros(value) is not None:
        return value
    raise ThymeDefinitionError(
        f"not a length of time for {what}: {value!r}", hint=_FORMS, field=what, location=location or caller_location()
    )


def checked_window(value: object, location: Location | None = None) -> str:
    """The text of a window: a length of time, or `forever` (also None).

    Raises:
        ThymeDefinitionError: not a window; names the value and the accepted forms.
    """
    if value is None or value == "forever":
        return "forever"
    if isinstance(value, timedelta) or (isinstance(value, str) and micros(value) is not None):
        return checked_duration(value, "window", location)
    raise ThymeDefinitionError(
        f"not a window: {value!r}", hint=f"{_FORMS}, or forever", field="window", location=location or caller_location()
    )
