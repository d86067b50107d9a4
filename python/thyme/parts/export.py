"""An export of a spine in parts: one exchange for each, one after the other, all under the pin of the first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from thyme.errors import DataLossError, FailedPreconditionError, ThymeError
from thyme.parts.files import Split
from thyme.parts.folder import Folder, Outcome
from thyme.parts.question import Question, counts_of, file_schema
from thyme.parts.spine import Cut, SpineHash
from thyme.progress import Progress

if TYPE_CHECKING:
    from thyme.client import Client
    from thyme.result import ThymeResult
    from thyme.shapes import Shape

PART_ROWS = 1_048_576

ReadSpine = Callable[[], tuple[pa.RecordBatchReader, "int | None"]]


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
    return _Export(client, shapes, question, Folder(output, question)).run(read_spine, retry_for)


class _Export:
    def __init__(self, client: Client, shapes: list[Shape], question: Question, folder: Folder) -> None:
        self._client = client
        self._shapes = shapes
        self._question = question
        self._folder = folder

    def run(self, read_spine: ReadSpine, retry_for: float) -> Outcome:
        first = read_spine()
        self._folder.take_over(lambda: self._schema_now(first[0].schema))
        spines = itertools.chain([first], iter(read_spine, None))  # each try reads it from the beginning
        return self._folder.until_whole(lambda: self._attempt(*next(spines)), retry_for)

    def _schema_now(self, schema: pa.Schema) -> pa.Schema:
        """Of an export of no rows, without the pin: an erase breaks a pin, and not what is written."""
        nothing = pa.RecordBatchReader.from_batches(schema, [])
        return self._question.ask(self._client, self._shapes, nothing, None).to_arrow().schema

    def _attempt(self, reader: pa.RecordBatchReader, total: int | None) -> None:
        cut, folder = Cut(reader), self._folder
        with Progress("exporting", total, None) as shown:
            for number in range(folder.done):
                self._compare(cut, number)
                shown.advance(folder.manifest.parts[number]["rows"])
            while not folder.is_whole:
                self._next_part(cut, shown)
        if cut.has_more():
            raise self._other_spine(f"has more rows than the {folder.manifest.rows:,} that were exported")

    def _compare(self, cut: Cut, number: int) -> None:
        part = self._folder.manifest.parts[number]
        found = cut.skip(part["rows"])
        if (found.rows, found.hexdigest()) != (part["rows"], part["spine_sha256"]):
            raise self._other_spine(f"has other rows than those that part {number} was made of")

    def _other_spine(self, how: str) -> ThymeError:
        out = self._folder.shown
        return FailedPreconditionError(
            f"{out} was begun with another spine: this one {how}",
            hint=f"write to another place, or {self._folder.anew}",
            field="--input",
        )

    def _next_part(self, cut: Cut, shown: Progress) -> None:
        folder = self._folder
        if folder.done and not cut.has_more():
            folder.end()
            return
        spine, counted = cut.part(PART_ROWS)
        result = self._ask(spine)
        joined = result.to_reader()
        schema = file_schema(joined.schema)
        by = self._question.command["partition_by"]
        split = Split(schema, by, self._question.command["timestamp_column"]) if by else None
        if folder.manifest is None:
            folder.begin(joined.schema)
        files, rows = folder.write(schema, split, self._all_batches(joined, counted), shown)
        part = {"files": files, "rows": rows, "spine_sha256": counted.hexdigest(), "features": counts_of(result)}
        folder.append(part, not cut.has_more())

    def _ask(self, spine: pa.RecordBatchReader) -> ThymeResult:
        of = self._folder.of
        with self._folder.under_pin():
            return self._question.ask(self._client, self._shapes, spine, None if of is None else of.pin)

    def _all_batches(self, joined: pa.RecordBatchReader, sent: SpineHash) -> Iterator[pa.RecordBatch]:
        """As many rows as were sent, or an error behind them: the files have no names yet then."""
        rows = 0
        with self._folder.under_pin():
            for batch in joined:
                rows += batch.num_rows
                yield batch
        if rows != sent.rows:
            raise DataLossError(f"{sent.rows} rows were sent, and {rows} came back")
