"""An export without a spine in parts: the changes of a featureset, or the rows of a dataset. A part is what the server
answers to one ticket, and all tickets are under one pin."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from thyme.channel import retried
from thyme.errors import FailedPreconditionError
from thyme.flights import Flights
from thyme.parts.files import Split
from thyme.parts.folder import Folder, Outcome
from thyme.parts.manifest import Manifest
from thyme.parts.question import begun, file_schema
from thyme.progress import Progress
from thyme.ranges import Range

if TYPE_CHECKING:
    from thyme.client import Client
    from thyme.result import ThymeResult

# For one part.
PART_SECONDS = 3600.0
_TIMESTAMP = "timestamp"
_STATUS = "__status"


@dataclass(frozen=True)
class RangeQuestion:
    """What is asked, as a manifest has it: of a `featureset` or of a `dataset`. `again`: a manifest whose export is
    asked once more."""

    command: dict[str, Any]
    known_at: str | None
    again: Manifest | None = None

    def ask(self, client: Client) -> ThymeResult:
        """All rows, as they come."""
        of, command = self.again, self.command
        stretch = {"since": command["since"], "until": command["until"], "known_at": self.known_at}
        if of is not None:
            stretch |= {"until": of.stretch["until"], "known_at": None, "pin": of.pin}
        if "dataset" in command:
            return client.rows(command["dataset"], **stretch, stream=True)
        asked = {name: command[name] for name in ("features", "exclusive", "statuses")}
        return client.changes(command["featureset"], **stretch, **asked, stream=True)

    def sent(self, of: Manifest | None) -> dict[str, Any]:
        """As the server takes it: exactly what a manifest stands on, if there is one. Statuses are asked for in any
        case, as they are what is counted."""
        given = {name: value for name, value in self.command.items() if value is not None and name != "partition_by"}
        if "featureset" in given:
            given["statuses"] = True
        if of is not None:
            return {**given, "until": of.stretch["until"], "pin": of.pin}
        return given if self.known_at is None else {**given, "known_at": self.known_at}

    def sent_now(self) -> dict[str, Any]:
        """The same of all times, as a beginning that is given may lie before what is kept by now."""
        return {name: value for name, value in self.sent(None).items() if name not in ("since", "until", "known_at")}

    def begun(self, schema: pa.Schema, writer: str) -> Manifest:
        """The manifest of an export whose first answer has this schema."""
        return begun(self, schema, writer)


def export_range_parts(client: Client, question: RangeQuestion, output: str) -> Outcome:
    """Exports into a folder, from where an earlier call with the same question was interrupted.

    Raises:
        FailedPreconditionError: the folder holds something else, or what it was begun with can no longer be had.
        ThymeError: what the server found, or that it or the place cannot be reached.
    """
    with contextlib.closing(Flights(client.settings)) as flights:
        return _Export(flights, question, Folder(output, question), client.settings.retry_for).run()


class _Export:
    def __init__(self, flights: Flights, question: RangeQuestion, folder: Folder, retry_for: float) -> None:
        self._flights = flights
        self._question = question
        self._folder = folder
        self._retry_for = retry_for

    def run(self) -> Outcome:
        sent = self._question.sent_now()
        self._folder.take_over(lambda: retried(lambda: self._opened(sent), self._retry_for).schema)
        return self._folder.until_whole(self._attempt, self._retry_for)

    def _opened(self, command: dict[str, Any]) -> Range:
        return Range(self._flights, command, PART_SECONDS, self._retry_for)

    def _attempt(self) -> None:
        folder = self._folder
        if folder.is_whole:  # also where what it stands on can no longer be had
            return
        with folder.under_pin():
            answer = self._opened(self._question.sent(folder.of))
        digests = [hashlib.sha256(ticket.ticket).hexdigest() for ticket in answer.tickets]
        self._compare(digests)
        columns = _Columns(answer.schema, self._question.command)
        by = self._question.command["partition_by"]
        split = Split(columns.schema, by, _TIMESTAMP) if by else None
        if folder.manifest is None:
            folder.begin(answer.schema)
        with Progress("exporting", None, None) as shown:
            for number in range(folder.done, len(digests)):
                columns.begin()
                with contextlib.closing(answer.part(answer.tickets[number], PART_SECONDS)) as coming:
                    files, rows = folder.write(columns.schema, split, self._batches(coming, columns.taken), shown)
                part = {"files": files, "rows": rows, "ticket_sha256": digests[number], "features": columns.counts}
                folder.append(part, number + 1 == len(digests))

    def _compare(self, digests: list[str]) -> None:
        """A ticket tells which rows are in its part: another server may share them out otherwise."""
        for of in filter(None, [self._folder.manifest, self._question.again]):
            for number, part in enumerate(of.parts):
                if digests[number : number + 1] != [part.get("ticket_sha256")]:
                    raise FailedPreconditionError(
                        f"the server now has other rows in part {number}",
                        hint=f"write to another place without --manifest, or {self._folder.anew}",
                    )

    def _batches(
        self, coming: Iterator[pa.RecordBatch], taken: Callable[[pa.RecordBatch], pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        with self._folder.under_pin():
            for batch in coming:
                yield taken(batch)


class _Columns:
    """Those of an answer that are written, and counts of what is in them. `counts`: of one part."""

    def __init__(self, schema: pa.Schema, command: dict[str, Any]) -> None:
        names = list(schema.names)
        self._features: list[str] = []
        if "featureset" in command:
            told = names[names.index(_TIMESTAMP) + 1 :]  # features, then their statuses
            self._features = told[: len(told) // 2]
            if not command["statuses"]:
                names = names[: len(names) - len(self._features)]
        self._names = names
        self.schema = file_schema(pa.schema([schema.field(name) for name in names], schema.metadata))
        self.begin()

    def begin(self) -> None:
        """Counts anew."""
        self.counts = {name: {"nulls": 0, "defaults": 0, "errors": 0} for name in self._features}

    def taken(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """What of a batch is written."""
        for name, held in self.counts.items():
            held["nulls"] += batch.column(name).null_count
            statuses = batch.column(name + _STATUS)
            for kind, status in (("defaults", "DEFAULT"), ("errors", "ERROR")):
                held[kind] += pc.sum(pc.equal(statuses, status)).as_py() or 0
        return batch.select(self._names)
