"""The nearest valid name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate nearest to `name`, if it is near enough to be a plausible typo."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def suggestion(name: str, candidates: Iterable[str]) -> str:
    """`did you mean 'x'?`, else the list of allowed names (at most ten)."""
    names = list(candidates)
    found = nearest(name, names)
    if found is not None:
        return f"did you mean '{found}'?"
    if not names:
        return "there are none yet"
    more = ", …" if len(names) > 10 else ""
    return f"allowed: {', '.join(sorted(names)[:10])}{more}"
