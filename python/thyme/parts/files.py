"""The files of one part: one, or one for each value of the columns that it is partitioned by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from thyme.errors import InvalidArgumentError
from thyme.grid import Blocks, RowGroups, decoded
from thyme.stores import Place, Unfinished
from thyme.suggest import suggestion
from thyme.times import parse_micros

MOST_VALUES = 1_000
# In the row groups of all values together; the largest goes first, at the end of a block.
WAITING_BYTES = 256 << 20
_NOTHING = "__HIVE_DEFAULT_PARTITION__"
_DATE = "date"


class Split:
    """Into Hive folders (`country=NO`) by columns, which then leave the files; by a time into days (`date=2026-01-15`).

    Raises:
        InvalidArgumentError: a column that is not there, or has no values to name folders after.
    """

    def __init__(self, schema: pa.Schema, names: Sequence[str], timestamp_column: str) -> None:
        self.names = list(names)
        self._times = [name for name in names if _is_time(_field(schema, name), timestamp_column)]
        for name in names:
            _check(_field(schema, name), name in self._times)
        if self._times and (_DATE in schema.names or len(self._times) > 1):
            raise InvalidArgumentError(
                f"a time makes folders named {_DATE}=…, and "
                + (f"there is a column '{_DATE}'" if _DATE in schema.names else "two cannot both be named so"),
                field="--partition-by",
            )
        if len(set(names)) < len(names):
            raise InvalidArgumentError("a column can partition once", field="--partition-by")
        self._kept = [name for name in schema.names if name not in names or name in self._times]
        if not self._kept:
            raise InvalidArgumentError("no column is left for the files", field="--partition-by")
        self.schema = pa.schema([schema.field(name) for name in self._kept], schema.metadata)

    def folders(self, block: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """The rows of each folder, in their order."""
        levels = [self._level(name, block.column(name)) for name in self.names]
        codes = pc.binary_join_element_wise(*levels, "/").dictionary_encode()
        sorted_rows = block.select(self._kept).take(pc.array_sort_indices(codes.indices))
        first = 0
        # Stable, and the codes count up as folders come.
        for found in sorted(pc.value_counts(codes.indices).to_pylist(), key=lambda found: found["values"]):
            yield codes.dictionary[found["values"]].as_py(), sorted_rows.slice(first, found["counts"])
            first += found["counts"]

    def _level(self, name: str, column: pa.Array) -> pa.Array:
        texts = _days(column) if name in self._times else column.cast(pa.string())
        found = texts.dictionary_encode("encode")
        values = found.dictionary.to_pylist()
        if _NOTHING in values:
            raise InvalidArgumentError(f"'{name}' has the value {_NOTHING}, which says that there is none")
        shown = _DATE if name in self._times else name
        names = [f"{shown}={_NOTHING if value is None else quote(value, safe='')}" for value in values]
        return pa.array(names, pa.string()).take(found.indices)


def _field(schema: pa.Schema, name: str) -> pa.Field:
    if name not in schema.names:
        raise InvalidArgumentError(
            f"no column '{name}' to partition by", hint=suggestion(name, schema.names), field="--partition-by"
        )
    return decoded(schema.field(name))


def _is_time(field: pa.Field, timestamp_column: str) -> bool:
    return pa.types.is_timestamp(field.type) or (field.name == timestamp_column and _is_text(field.type))


def _is_text(kind: pa.DataType) -> bool:
    found = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(kind) for is_kind in found)


def _check(field: pa.Field, is_time: bool) -> None:
    kind = field.type
    found = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_date, pa.types.is_null)
    if not is_time and not _is_text(kind) and not any(is_kind(kind) for is_kind in found):
        raise InvalidArgumentError(
            f"'{field.name}' is of type {kind}, which names no folders",
            hint="partition by texts, whole numbers, bools, dates or times",
            field="--partition-by",
        )
    if not is_time and any(sign in field.name for sign in "/="):
        raise InvalidArgumentError(f"'{field.name}' cannot name folders", field="--partition-by")
    if not is_time and field.name.startswith((".", "_")):
        raise InvalidArgumentError(
            f"'{field.name}' cannot name folders: readers pass over names that begin so",
            hint="give the column another name in the spine",
            field="--partition-by",
        )


def _days(column: pa.Array) -> pa.Array:
    """The days of times, in UTC. A text that is no time has no day, as it has no features."""
    if not pa.types.is_timestamp(column.type):
        found = column.cast(pa.string()).dictionary_encode()
        micros = pa.array([_micros(text) for text in found.dictionary.to_pylist()], pa.int64())
        column = micros.take(found.indices).cast(pa.timestamp("us"))
    # Without its zone first: the day of a time with a zone is that of the zone.
    unzoned = column.cast(pa.int64()).cast(pa.timestamp(column.type.unit))
    return pc.floor_temporal(unzoned, unit="day").cast(pa.date32()).cast(pa.string())


def _micros(text: str | None) -> int | None:
    try:
        return None if text is None else parse_micros(text)
    except InvalidArgumentError:
        return None


class PartFiles:
    """Writes the rows of a part into its files, all of which get their names in `finish`."""

    def __init__(self, out: Place, number: int, schema: pa.Schema, split: Split | None) -> None:
        self._out = out
        self._name = f"part-{number:05}.parquet"
        self._split = split
        self._blocks = Blocks(schema)
        self._groups: dict[str, RowGroups] = {}
        self._sinks: dict[str, Unfinished] = {}
        self.rows = 0
        if split is None:
            self._file("", schema)

    def add(self, batch: pa.RecordBatch) -> None:
        """Takes rows."""
        self.rows += batch.num_rows
        for block in self._blocks.add(batch):
            self._add(block)

    def finish(self, before: Callable[[], None]) -> list[dict[str, Any]]:
        """Completes the files and tells them; `before`: called when all is written and nothing has its name yet."""
        for block in self._blocks.rest():
            self._add(block)
        files = []
        for folder, groups in sorted(self._groups.items()):
            groups.close()
            sink = self._sinks[folder]
            sink.complete()
            files.append(
                {
                    "path": folder + self._name,
                    "rows": groups.rows,
                    "bytes": sink.size,
                    "sha256": sink.digest.hexdigest(),
                }
            )
        before()
        for sink in self._sinks.values():
            sink.finish()
        return files

    def discard(self) -> None:
        """Leaves nothing behind of what has no name yet."""
        for sink in self._sinks.values():
            sink.discard()

    def _add(self, block: pa.RecordBatch) -> None:
        if self._split is None:
            self._groups[""].add(block)
            return
        for folder, rows in self._split.folders(block):
            self._file(f"{folder}/", self._split.schema).add(rows)
        while sum(groups.size for groups in self._groups.values()) > WAITING_BYTES:
            max(self._groups.values(), key=lambda groups: groups.size).flush()

    def _file(self, folder: str, schema: pa.Schema) -> RowGroups:
        """A file is opened when it has a row group: of many values few have one before the end."""
        if folder not in self._groups:
            if len(self._groups) == MOST_VALUES:
                raise InvalidArgumentError(
                    f"more than {MOST_VALUES:,} values of {', '.join(self._split.names)} in one part",
                    hint="partition by what has fewer",
                    field="--partition-by",
                )
            self._groups[folder] = RowGroups(lambda: self._open(folder), schema)
        return self._groups[folder]

    def _open(self, folder: str) -> Unfinished:
        self._sinks[folder] = Unfinished(self._out.child(folder + self._name))
        return self._sinks[folder]
