"""A folder of parts as one command writes it: what is there already, the files of the next part, the manifest."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from thyme.channel import pauses
from thyme.errors import FailedPreconditionError, OutOfRangeError, ThymeError, UnavailableError
from thyme.parts.files import PartFiles, Split
from thyme.parts.manifest import EXPORTING, NAME, WHOLE, Manifest
from thyme.progress import Progress
from thyme.stores import is_unfinished, place_of


@dataclass(frozen=True)
class Outcome:
    """What lies in the folder now, and how many parts of it did before."""

    manifest: Manifest
    parts_before: int


class Asks(Protocol):
    """What an export in parts asks, with a spine or without. `again`: a manifest whose export is asked once more."""

    command: dict[str, Any]
    known_at: str | None
    again: Manifest | None

    def begun(self, schema: pa.Schema, writer: str) -> Manifest:
        """The manifest of an export whose first answer has this schema."""


class Folder:
    """`manifest`: what is stored, None before the first part's rows begin to come. `of`: what parts stand on."""

    def __init__(self, output: str, question: Asks) -> None:
        self._out = place_of(output)
        self._question = question
        self._writer = uuid.uuid4().hex
        self._left_behind: list[str] = []  # by who was killed
        self.shown = self._out.shown
        self.manifest: Manifest | None = None

    @property
    def done(self) -> int:
        """Parts that are whole."""
        return 0 if self.manifest is None else len(self.manifest.parts)

    @property
    def is_whole(self) -> bool:
        """Whether all parts are."""
        return self.manifest is not None and self.manifest.state == WHOLE

    @property
    def of(self) -> Manifest | None:
        """What the next part is asked under."""
        return self.manifest or self._question.again

    # What is there.

    def take_over(self, schema_now: Callable[[], pa.Schema]) -> None:
        """Goes on with what was begun here, if it is what is asked. `schema_now`: of an answer of now, with what is
        told in it.

        Raises:
            FailedPreconditionError: the folder holds something else.
        """
        found = self._found()
        if found is not None:
            self._refuse_other(found, schema_now)
            if found.state != WHOLE:
                found.asked["writer"] = self._writer  # whoever wrote here before stops
                self._put(found)
            self.manifest = found
        for name in self._left_behind:
            self._out.remove(name)

    def _found(self) -> Manifest | None:
        """What was begun here, with those of its parts whose files are here."""
        if self._out.is_file():
            raise FailedPreconditionError(f"{self.shown} is a file", hint="name a folder for the parts")
        sizes = self._out.sizes()
        self._left_behind = [name for name in sizes if is_unfinished(name)]
        found = self._stored()
        if found is None:
            if visible := sorted(name for name in sizes if not name.startswith(".")):
                raise FailedPreconditionError(
                    f"{self.shown} is not empty, and no export was begun there: it has {visible[0]}",
                    hint="name a new folder, or an empty one",
                )
            return None
        for number, part in enumerate(found.parts):
            if any(sizes.get(file["path"]) != file["bytes"] for file in part["files"]):
                found.parts, found.state = found.parts[:number], EXPORTING
                break
        return found

    def _refuse_other(self, found: Manifest, schema_now: Callable[[], pa.Schema]) -> None:
        """Before anything is touched: whether it is the same command, then whether that means the same."""
        question, of = self._question, self._question.again or found
        standing = {"pin": of.pin, "watermark": None, "stretch": of.stretch}
        asked = Manifest(question.command, found.definition, "", question.known_at, asked={}, **standing)
        found.refuse_other(asked, self.shown)
        definition = question.begun(schema_now(), self._writer).definition
        found.refuse_other(dataclasses.replace(asked, definition=definition), self.shown)

    # Parts.

    def until_whole(self, attempt: Callable[[], None], retry_for: float) -> Outcome:
        """Makes the parts that are missing. `attempt` goes on behind those that are whole; it is tried again for so
        many seconds while the server or the store is away, and anew with each part that it gets done."""
        before = done = self.done
        waits = pauses(retry_for)
        while True:
            try:
                attempt()
                return Outcome(self.manifest, before)
            except UnavailableError as error:
                if self.done > done:
                    waits, done = pauses(retry_for), self.done
                pause = next(waits, None)
                if pause is None:
                    raise error from None
            time.sleep(pause)

    def begin(self, schema: pa.Schema) -> None:
        """Stored before the first part is: whoever goes on asks under the pin of that."""
        if self._stored() is not None:
            raise self._another()
        self._put(self._question.begun(schema, self._writer))

    def write(
        self, schema: pa.Schema, split: Split | None, batches: Iterable[pa.RecordBatch], shown: Progress
    ) -> tuple[list[dict[str, Any]], int]:
        """Writes the files of the next part, and returns them and how many rows they have."""
        files = PartFiles(self._out, self.done, schema, split)
        try:
            for batch in batches:
                files.add(batch)
                shown.advance(batch.num_rows)
            return files.finish(self._refuse_another), files.rows
        except BaseException:
            files.discard()
            shown.advance(-files.rows)  # a further try begins again
            raise

    def append(self, part: dict[str, Any], is_last: bool) -> None:
        """The files of a part are written."""
        parts, state = [*self.manifest.parts, part], WHOLE if is_last else EXPORTING
        self._put_checked(dataclasses.replace(self.manifest, parts=parts, state=state))

    def end(self) -> None:
        """There is no further part."""
        self._put_checked(dataclasses.replace(self.manifest, state=WHOLE))

    @contextlib.contextmanager
    def under_pin(self) -> Iterator[None]:
        """An answer under a pin tells what has changed since."""
        try:
            yield
        except (FailedPreconditionError, OutOfRangeError) as error:
            if self.manifest is None:
                raise
            text = f"the export cannot be completed as it began: {error.message}"
            raise type(error)(text, hint=self.anew, field=error.field) from None

    @property
    def anew(self) -> str:
        """What to do where this cannot be gone on with."""
        return f"remove {self.shown} to begin anew"

    # The manifest.

    def _put_checked(self, manifest: Manifest) -> None:
        self._refuse_another()
        self._put(manifest)

    def _put(self, manifest: Manifest) -> None:
        self._out.child(NAME).put(manifest.to_json())
        self.manifest = manifest

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
            f"another command writes to {self.shown}, so this one stops", hint="run one at a time"
        )
