"""An export in parts under way: what is there already, one part after the other, the manifest after each."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from thyme.channel import pauses
from thyme.errors import DataLossError, FailedPreconditionError, OutOfRangeError, ThymeError, UnavailableError
from thyme.parts.files import PartFiles, Split
from thyme.parts.manifest import EXPORTING, NAME, WHOLE, Manifest
from thyme.parts.question import Question, counts_of, file_schema
from thyme.parts.spine import Cut, SpineHash
from thyme.progress import Progress
from thyme.stores import Place, is_unfinished, place_of

if TYPE_CHECKING:
    from thyme.client import Client
    from thyme.result import ThymeResult
    from thyme.shapes import Shape

PART_ROWS = 1_048_576

ReadSpine = Callable[[], tuple[pa.RecordBatchReader, "int | None"]]


@dataclass(frozen=True)
class Outcome:
    """What lies in the folder now, and how many parts of it did before."""

    manifest: Manifest
    parts_before: int


def export_parts(
    client: Client, shapes: list[Shape], question: Question, read_spine: ReadSpine, output: str, retry_for: float
) -> Outcome:
    """Exports into a folder, from where an earlier call with the same question was interrupted.

    Args:
        read_spine: the spine's batches, from the beginning, and their number of rows where it is known.
        retry_for: seconds for which a part is tried again; 0 where the spine cannot be read a second time.

    Raises:
        FailedPreconditionError: the folder holds something else, or what it was begun with can no longer be had.
        ThymeError: what the server found, or that it or the place cannot be reached.
    """
    return _Export(client, shapes, question, place_of(output)).run(read_spine, retry_for)


class _Export:
    """`manifest`: what is stored, None before the first part's rows begin to come."""

    def __init__(self, client: Client, shapes: list[Shape], question: Question, out: Place) -> None:
        self._client = client
        self._shapes = shapes
        self._question = question
        self._out = out
        self._writer = uuid.uuid4().hex
        self._manifest: Manifest | None = None
        self._left_behind: list[str] = []  # by who was killed

    def run(self, read_spine: ReadSpine, retry_for: float) -> Outcome:
        found = self._found()
        reader, total = read_spine()
        if found is not None:
            self._refuse_other(found, reader.schema)
            if found.state != WHOLE:
                found.asked["writer"] = self._writer  # whoever wrote here before stops
                self._put(found)
            self._manifest = found
        for name in self._left_behind:
            self._out.remove(name)
        before = done = self._done()
        waits = pauses(retry_for)
        while True:
            try:
                return Outcome(self._attempt(reader, total), before)
            except UnavailableError as error:
                if self._done() > done:
                    waits, done = pauses(retry_for), self._done()
                pause = next(waits, None)
                if pause is None:
                    raise error from None
            time.sleep(pause)
            reader, total = read_spine()

    def _done(self) -> int:
        return 0 if self._manifest is None else len(self._manifest.parts)

    def _attempt(self, reader: pa.RecordBatchReader, total: int | None) -> Manifest:
        cut = Cut(reader)
        with Progress("exporting", total, None) as shown:
            for number in range(self._done()):
                self._compare(cut, number)
                shown.advance(self._manifest.parts[number]["rows"])
            while self._manifest is None or self._manifest.state != WHOLE:
                self._next_part(cut, shown)
        if cut.has_more():
            raise self._other_spine(f"has more rows than the {self._manifest.rows:,} that were exported")
        return self._manifest

    # What is there.

    def _found(self) -> Manifest | None:
        """What was begun here, with those of its parts whose files are here."""
        if self._out.is_file():
            raise FailedPreconditionError(f"{self._out.shown} is a file", hint="name a folder for the parts")
        sizes = self._out.sizes()
        self._left_behind = [name for name in sizes if is_unfinished(name)]
        found = self._stored()
        if found is None:
            if visible := sorted(name for name in sizes if not name.startswith(".")):
                raise FailedPreconditionError(
                    f"{self._out.shown} is not empty, and no export was begun there: it has {visible[0]}",
                    hint="name a new folder, or an empty one",
                )
            return None
        for number, part in enumerate(found.parts):
            if any(sizes.get(file["path"]) != file["bytes"] for file in part["files"]):
                found.parts, found.state = found.parts[:number], EXPORTING
                break
        return found

    def _refuse_other(self, found: Manifest, schema: pa.Schema) -> None:
        """Before anything is touched: whether it is the same command, then whether that means the same."""
        question, out = self._question, self._out.shown
        pin = found.pin if question.again is None else question.again.pin
        asked = Manifest(question.command, found.definition, "", question.known_at, pin, None, {})
        found.refuse_other(asked, out)
        nothing = pa.RecordBatchReader.from_batches(schema, [])
        now = question.ask(self._client, self._shapes, nothing, None).to_arrow().schema
        definition = question.begun(now, self._writer).definition
        found.refuse_other(dataclasses.replace(asked, definition=definition), out)

    def _compare(self, cut: Cut, number: int) -> None:
        part = self._manifest.parts[number]
        found = cut.skip(part["rows"])
        if (found.rows, found.hexdigest()) != (part["rows"], part["spine_sha256"]):
            raise self._other_spine(f"has other rows than those that part {number} was made of")

    def _other_spine(self, how: str) -> ThymeError:
        out = self._out.shown
        return FailedPreconditionError(
            f"{out} was begun with another spine: this one {how}",
            hint=f"write to another place, or remove {out} to begin anew",
            field="--input",
        )

    # A part.

    def _next_part(self, cut: Cut, shown: Progress) -> None:
        if self._done() and not cut.has_more():
            self._put_checked(dataclasses.replace(self._manifest, state=WHOLE))
            return
        number = self._done()
        spine, counted = cut.part(PART_ROWS)
        result = self._ask(spine)
        joined = result.to_reader()
        schema = file_schema(joined.schema)
        by = self._question.command["partition_by"]
        split = Split(schema, by, self._question.command["timestamp_column"]) if by else None
        if self._manifest is None:
            self._begin(joined.schema)
        files = PartFiles(self._out, number, schema, split)
        try:
            for batch in self._batches(joined):
                files.add(batch)
                shown.advance(batch.num_rows)
            if files.rows != counted.rows:  # while nothing has its name
                raise DataLossError(f"{counted.rows} rows were sent, and {files.rows} came back")
            whole = files.finish(self._refuse_another)
        except BaseException:
            files.discard()
            shown.advance(-files.rows)  # a further try begins again
            raise
        self._append(whole, counted, result, cut.has_more())

    def _append(self, files: list[Any], spine: SpineHash, result: ThymeResult, has_more: bool) -> None:
        part = {"files": files, "rows": spine.rows, "spine_sha256": spine.hexdigest(), "features": counts_of(result)}
        state = EXPORTING if has_more else WHOLE
        self._put_checked(dataclasses.replace(self._manifest, parts=[*self._manifest.parts, part], state=state))

    def _ask(self, spine: pa.RecordBatchReader) -> ThymeResult:
        of = self._manifest or self._question.again
        try:
            return self._question.ask(self._client, self._shapes, spine, None if of is None else of.pin)
        except (FailedPreconditionError, OutOfRangeError) as error:
            raise self._changed(error) from None

    def _batches(self, joined: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            yield from joined
        except (FailedPreconditionError, OutOfRangeError) as error:
            raise self._changed(error) from None

    def _changed(self, error: ThymeError) -> ThymeError:
        """An export under a pin tells what has changed since."""
        if self._manifest is None:
            return error
        out = self._out.shown
        text = f"the export cannot be completed as it began: {error.message}"
        return type(error)(text, hint=f"remove {out} to begin anew", field=error.field)

    # The manifest.

    def _begin(self, schema: pa.Schema) -> None:
        """Stored before the first part is: whoever goes on asks under the pin of that."""
        if self._stored() is not None:
            raise self._another()
        manifest = self._question.begun(schema, self._writer)
        self._put(manifest)
        self._manifest = manifest

    def _put_checked(self, manifest: Manifest) -> None:
        self._refuse_another()
        self._put(manifest)
        self._manifest = manifest

    def _put(self, manifest: Manifest) -> None:
        self._out.child(NAME).put(manifest.to_json())

    def _stored(self) -> Manifest | None:
        place = self._out.child(NAME)
        data = place.read()
        return None if data is None else Manifest.of_json(data, place.shown)

    def _refuse_another(self) -> None:
        """Of two commands in one folder the one that began first stops: who begins cannot know that it is not dead."""
        stored = self._stored()
        if stored is None or stored.asked.get("writer") != self._writer:
            raise self._another()

    def _another(self) -> ThymeError:
        return FailedPreconditionError(
            f"another command writes to {self._out.shown}, so this one stops", hint="run one at a time"
        )
