"""What an export of a spine in parts asks, and what answers say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from thyme.errors import UnimplementedError
from thyme.literals import datetime_micros, format_micros
from thyme.parts.manifest import Manifest

if TYPE_CHECKING:
    from thyme.client import Client
    from thyme.parts.folder import Asks
    from thyme.result import ThymeResult
    from thyme.shapes import Shape

# The same whenever a file is written.
_KEPT = ("thyme.featureset", "thyme.dataset", "thyme.definition", "thyme.pin", "thyme.since", "thyme.until")


@dataclass(frozen=True)
class Question:
    """What is asked, as a manifest has it. `again`: a manifest whose export is asked once more."""

    command: dict[str, Any]
    known_at: str | None
    again: Manifest | None = None

    def ask(self, client: Client, shapes: list[Shape], spine: pa.RecordBatchReader, pin: str | None) -> ThymeResult:
        """The rows of a spine with their features, as they come; under a pin, if there is one."""
        return client.query_offline(
            shapes if len(shapes) > 1 else shapes[0],
            spine,
            entity_columns=self.command["entity_columns"],
            timestamp_column=self.command["timestamp_column"],
            known_at=None if pin else self.known_at,
            exclusive=self.command["exclusive"],
            features=self.command["features"],
            statuses=self.command["statuses"],
            pin=pin,
            stream=True,
        )

    def begun(self, schema: pa.Schema, writer: str) -> Manifest:
        """The manifest of an export whose first answer has this schema.

        Raises:
            UnimplementedError: a server that gives no pins.
        """
        return begun(self, schema, writer)


def begun(question: Asks, schema: pa.Schema, writer: str) -> Manifest:
    """The manifest of an export whose first answer has this schema.

    Raises:
        UnimplementedError: a server that gives no pins.
    """
    told = _told(schema)
    if "thyme.pin" not in told:
        raise UnimplementedError("the server gives no pins, which parts need", hint="name a file as output")
    of = question.again
    runs = [run for run in told.get("thyme.query_run_id", "").split(",") if run]
    now = format_micros(datetime_micros(datetime.now(timezone.utc)))
    return Manifest(
        command=question.command,
        definition=told["thyme.definition"],
        position=told["thyme.position"] if of is None else of.position,
        known_at=question.known_at,
        pin=told["thyme.pin"] if of is None else of.pin,
        watermark=told.get("thyme.watermark") if of is None else of.watermark,
        asked={"created": now, "ts": told.get("thyme.ts"), "runs": runs, "writer": writer},
        stretch=_stretch(told),
    )


def _stretch(told: dict[str, str]) -> dict[str, str | None] | None:
    """Of an answer without a spine."""
    return {"since": told.get("thyme.since"), "until": told["thyme.until"]} if "thyme.until" in told else None


def file_schema(schema: pa.Schema) -> pa.Schema:
    """Without what a file would say otherwise each time it is written."""
    told = _told(schema)
    return schema.with_metadata({name: told[name] for name in _KEPT if name in told})


def counts_of(result: ThymeResult) -> dict[str, dict[str, int]] | None:
    """What the server counted per feature in an export that has ended; None of a server that does not count."""
    summary = result.summary
    if summary is None:
        return None
    kinds = ("nulls", "defaults", "errors")
    return {found["name"]: {kind: found[kind] for kind in kinds} for found in summary["features"]}


def _told(schema: pa.Schema) -> dict[str, str]:
    return {
        name.decode(): value.decode() for name, value in (schema.metadata or {}).items() if name.startswith(b"thyme.")
    }
