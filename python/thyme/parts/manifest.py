"""`_manifest.json`: what an export was asked, what it stood on, and which of its parts are whole."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from thyme.errors import FailedPreconditionError, InvalidArgumentError
from thyme.stores import place_of
from thyme.version import __version__

# Readers of folders (pyarrow, Spark, Hive) pass over names that begin so.
NAME = "_manifest.json"
EXPORTING, WHOLE = "exporting", "whole"

# What is read of a stored one, with its types.
_TYPES: dict[str, Any] = {"command": dict, "definition": str, "position": str, "pin": str, "asked": dict, "parts": list}
# With a spine, and without one: `stretch` tells which.
_OF_COMMANDS: tuple[dict[str, Any], dict[str, Any]] = (
    {
        "featuresets": list,
        "entity_columns": dict,
        "timestamp_column": str,
        "exclusive": bool,
        "features": (list, type(None)),
        "statuses": bool,
        "partition_by": list,
    },
    {"since": (str, type(None)), "until": (str, type(None)), "partition_by": list},
)
_OF_A_PART: dict[str, Any] = {"files": list, "rows": int, "features": (dict, type(None))}
_OF_PARTS: tuple[dict[str, Any], dict[str, Any]] = ({"spine_sha256": str}, {"ticket_sha256": str})
_OF_A_FILE: dict[str, Any] = {"path": str, "bytes": int}


@dataclass
class Manifest:
    """See the guide for what each entry means. `asked` holds what differs when the same is asked once more. `stretch`:
    from when to when, of what is exported without a spine."""

    command: dict[str, Any]
    definition: str
    position: str
    known_at: str | None
    pin: str
    watermark: str | None
    asked: dict[str, Any]
    state: str = EXPORTING
    thyme: str = __version__
    pyarrow: str = pa.__version__
    parts: list[dict[str, Any]] = field(default_factory=list)
    stretch: dict[str, str | None] | None = None

    @property
    def rows(self) -> int:
        """Of all whole parts."""
        return sum(part["rows"] for part in self.parts)

    @property
    def features(self) -> dict[str, dict[str, int]] | None:
        """Counts per feature over all whole parts; None where a part has none, as of an older server."""
        total: dict[str, dict[str, int]] = {}
        for part in self.parts:
            if part["features"] is None:
                return None
            for name, counts in part["features"].items():
                held = total.setdefault(name, dict.fromkeys(counts, 0))
                for kind, count in counts.items():
                    held[kind] += count
        return total

    def to_json(self) -> bytes:
        """As it is stored."""
        names = ["thyme", "pyarrow", "state", "command", "definition", "position", "known_at", "pin", "watermark"]
        names += [] if self.stretch is None else ["stretch"]
        held = {name: getattr(self, name) for name in [*names, "rows", "features", "parts", "asked"]}
        return (json.dumps(held, ensure_ascii=False, indent=2) + "\n").encode("utf-8")

    @staticmethod
    def of_json(data: bytes, shown: str) -> Manifest:
        """What was stored.

        Raises:
            InvalidArgumentError: it is something else.
        """
        try:
            held = {"stretch": None, **json.loads(data)}
            _check(held, _TYPES)
            of_this_kind = _OF_PARTS[held["stretch"] is not None]
            for part in held["parts"]:
                _check(part, _OF_A_PART | of_this_kind)
                for file in part["files"]:
                    _check(file, _OF_A_FILE)
            return Manifest(**{found.name: held[found.name] for found in dataclasses.fields(Manifest)})
        except (ValueError, KeyError, TypeError):
            raise _no_manifest(shown) from None

    def refuse_other(self, other: Manifest, out: str) -> None:
        """Raises where `other`, about to be asked, is not what this one was."""
        beside = ["known_at", "definition", "pin", "stretch"]
        if self.state != WHOLE:
            beside += ["thyme", "pyarrow"]  # which may write other bytes
        here, there = ({**one.command, **{name: getattr(one, name) for name in beside}} for one in (self, other))
        for name in [*here, *(name for name in there if name not in here)]:
            if here.get(name) != there.get(name):
                raise FailedPreconditionError(
                    f"{out} was begun with {name} {_shown(here.get(name))}, and is now asked with "
                    f"{_shown(there.get(name))}",
                    hint=f"write to another place, or remove {out} to begin anew",
                )


def _no_manifest(shown: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{shown} is no manifest of an export")


def _check(held: Any, types: dict[str, Any]) -> None:
    for name, kind in types.items():
        if not isinstance(held[name], kind):
            raise TypeError(name)


def _shown(value: Any) -> str:
    return "none" if value in (None, [], {}) else value if isinstance(value, str) else json.dumps(value)


def read_manifest(path: str) -> Manifest:
    """A manifest by its path or URL, whose command can be asked again.

    Raises:
        NotFoundError: there is none.
        InvalidArgumentError: it is something else.
    """
    from thyme.errors import NotFoundError

    data = place_of(path).read()
    if data is None:
        raise NotFoundError(f"no such file: {path}")
    found = Manifest.of_json(data, path)
    try:
        _check(found.command, _OF_COMMANDS[found.stretch is not None])
    except (KeyError, TypeError):
        raise _no_manifest(path) from None
    return found
