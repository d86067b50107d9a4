"""Exports in parts: `thyme query-offline` into a folder. Each part of the spine is an export of its own, and without a
spine each ticket; all are under the pin of the first, so what a part holds does not depend on when it was asked for,
nor on how often."""

from __future__ import annotations

from thyme.parts.export import export_parts
from thyme.parts.folder import Outcome
from thyme.parts.manifest import Manifest, read_manifest
from thyme.parts.question import Question
from thyme.parts.ranges import RangeQuestion, export_range_parts

__all__ = [
    "Manifest",
    "Outcome",
    "Question",
    "RangeQuestion",
    "export_parts",
    "export_range_parts",
    "is_folder",
    "read_manifest",
]


def is_folder(output: str) -> bool:
    """Whether an output is a folder of parts: a path or URL whose last name has no ending."""
    return output != "-" and "." not in output.rpartition("/")[2].lstrip(".")
