"""Exports in parts: `thyme query-offline` into a folder. Each part of the spine is an export of its own, all under the
pin of the first, so what a part holds does not depend on when it was asked for, nor on how often."""

from __future__ import annotations

from thyme.parts.export import Outcome, export_parts
from thyme.parts.manifest import Manifest, read_manifest
from thyme.parts.question import Question

__all__ = ["Manifest", "Outcome", "Question", "export_parts", "is_folder", "read_manifest"]


def is_folder(output: str) -> bool:
    """Whether an output is a folder of parts: a path or URL whose last name has no ending."""
    return output != "-" and "." not in output.rpartition("/")[2].lstrip(".")
