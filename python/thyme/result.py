"""`ThymeResult`: rows that came back, with what holds for them as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

_SHOWN_ROWS = 10


@dataclass(frozen=True)
class ResultColumn:
    """A column: name, type as users write it (empty: not known), values."""

    name: str
    type: str
    values: list[Any]


@dataclass
class ThymeResult:
    """Rows of an answer: `to_dicts`, `to_arrow`, `to_polars`, `to_pandas`; Arrow consumers take it as it is.

    Attributes:
        query_run_id: the record of this query, for `thyme runs show`.
        ts: the time that was asked of (None where each row has its own).
        watermark: no accepted event before it can still come; None while unknown.
        position: how far the answering state was; pass it as `known_at` to ask the same again.
        final: no accepted event can change this answer any more (an erase still can).
        mode: `online` or `point_in_time`.
        stream: rows that are still coming, of `query_offline(..., stream=True)`.
        pin: what an export stood on; pass it as `pin` to get exactly that again. An export that was asked with a pin
            says nothing of when it was asked: no `query_run_id`, `ts`, `watermark` and `commit_id`.
        summary: of an export whose rows have all come, what came of it: `rows`, `known` (rows whose key was known),
            `features` (for each, in order: `name`, `nulls`, `defaults`, `errors`, `first_error`) and the `plan`, with
            what was `done` for each of its `reads`. None before that.
        statuses: per feature, one of `OK`, `DEFAULT`, `ERROR` per row; features that are not there are OK throughout.
        errors: per feature, row number to reason.
    """

    columns: list[ResultColumn] | None = None
    table: pyarrow.Table | None = None
    stream: pyarrow.RecordBatchReader | None = None
    query_run_id: str | None = None
    ts: datetime | None = None
    watermark: datetime | None = None
    position: str | None = None
    final: bool = False
    mode: str = ""
    commit_id: str | None = None
    pin: str | None = None
    statuses: dict[str, list[str]] = field(default_factory=dict)
    errors: dict[str, dict[int, str]] = field(default_factory=dict)
    _is_taken: bool = field(default=False, repr=False, compare=False)
    _told: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def summary(self) -> dict[str, Any] | None:
        """What came of an export, once all its rows have come."""
        return self._told.get("summary")

    @property
    def column_names(self) -> list[str]:
        """Names of the columns: keys first, then features."""
        if self.stream is not None:
            return list(self.stream.schema.names)
        return list(self.table.column_names) if self.table is not None else [found.name for found in self.columns or []]

    def __len__(self) -> int:
        if self._held() is not None:
            return self.table.num_rows
        return len(self.columns[0].values) if self.columns else 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_dicts())

    def __getitem__(self, name: str) -> list[Any]:
        """The values of one column."""
        if self._held() is not None:
            from thyme.arrow_types import to_pylist

            return to_pylist(self.table.column(name))
        for found in self.columns or []:
            if found.name == name:
                return found.values
        from thyme.suggest import suggestion

        raise KeyError(f"no column '{name}' ({suggestion(name, self.column_names)})")

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict per row. Datetimes are aware, UTC; a Decimal is a `decimal.Decimal`."""
        if self._held() is not None:
            from thyme.arrow_types import to_pylist

            return to_pylist(self.table)
        names = self.column_names
        return [
            dict(zip(names, row, strict=True))
            for row in zip(*(found.values for found in self.columns or []), strict=True)
        ]

    def to_arrow(self) -> pyarrow.Table:
        """As `pyarrow.Table`, with `thyme.*` schema metadata."""
        if self._held() is not None:
            return self.table
        import pyarrow as pa

        from thyme.arrow_types import arrow_array

        arrays = [arrow_array(found.values, found.type) for found in self.columns or []]
        table = pa.Table.from_arrays(arrays, names=self.column_names)
        return table.replace_schema_metadata(self._metadata())

    def to_polars(self) -> polars.DataFrame:
        """As `polars.DataFrame`."""
        polars = _needed("polars")
        return polars.from_arrow(self.to_arrow())

    def to_pandas(self) -> pandas.DataFrame:
        """As `pandas.DataFrame`; columns with missing values keep their type (nullable dtypes stay with Arrow)."""
        _needed("pandas")
        return self.to_arrow().to_pandas()

    def to_reader(self) -> pyarrow.RecordBatchReader:
        """As `pyarrow.RecordBatchReader`. Rows that are still coming are not kept: they can be taken once."""
        if self.stream is None:
            return self.to_arrow().to_reader()
        self._refuse_taken()
        self._is_taken = True
        return self.stream

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_reader().__arrow_c_stream__(requested_schema)

    def _held(self) -> pyarrow.Table | None:
        """The table; waits for the rows that are still coming."""
        if self.stream is not None:
            self._refuse_taken()
            self.table, self.stream = self.stream.read_all(), None
        return self.table

    def _refuse_taken(self) -> None:
        if self._is_taken:
            from thyme.errors import FailedPreconditionError

            raise FailedPreconditionError("the rows were taken already", hint="ask without stream=True to keep them")

    def _metadata(self) -> dict[str, str]:
        found = {
            "thyme.query_run_id": self.query_run_id,
            "thyme.ts": _iso(self.ts),
            "thyme.watermark": _iso(self.watermark),
            "thyme.position": self.position,
            "thyme.final": "true" if self.final else "false",
        }
        return {name: value for name, value in found.items() if value}

    def __repr__(self) -> str:
        if self.stream is not None:
            return f"({', '.join(self.column_names)}: {'taken' if self._is_taken else 'still coming'})"
        rows = self._head()
        names = self.column_names
        widths = [max([len(name), *(len(row[index]) for row in rows)]) for index, name in enumerate(names)]
        lines = ["  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)).rstrip()]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join([*lines, self._footer()])

    def _repr_html_(self) -> str:
        import html

        if self.stream is not None:
            return f"<p>{html.escape(repr(self))}</p>"
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.column_names)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in self._head())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(self._footer())}</p>"

    def _head(self) -> list[list[str]]:
        if self.table is not None:
            from thyme.arrow_types import to_pylist

            shown = to_pylist(self.table.slice(0, _SHOWN_ROWS))
            return [[_cell(value) for value in row.values()] for row in shown]
        columns = [found.values[:_SHOWN_ROWS] for found in self.columns or []]
        return [[_cell(value) for value in row] for row in zip(*columns, strict=True)]

    def _footer(self) -> str:
        count = len(self)
        parts = [f"{count} row{'' if count == 1 else 's'}"]
        if count > _SHOWN_ROWS:
            parts[0] = f"{_SHOWN_ROWS} of {count} rows"
        if self.ts is not None:
            parts.append(f"at {_iso(self.ts)}")
        if self.final:
            parts.append("final")
        if self.query_run_id:
            parts.append(f"run {self.query_run_id}")
        return f"({', '.join(parts)})"


@dataclass(frozen=True)
class RejectedRow:
    """A row that was not taken: its index in what was given, why, and the field at fault."""

    index: int
    reason: str
    field: str = ""


@dataclass(frozen=True)
class LogResult:
    """What became of rows that were sent. `position` as `at_least=` reads your writes."""

    accepted: int
    rejected: list[RejectedRow]
    position: str


@dataclass(frozen=True)
class EraseResult:
    """Keys erased; a query with `at_least=position` no longer knows them where state has the dataset's own key.

    Attributes:
        erased: how many keys.
        position: where the erases stand in the log.
        pending: state grouped by another key still holds their events; it is rebuilt and takes over.
            `erase(dataset, [])` erases nothing and tells whether that is still so.
    """

    erased: int
    position: str
    pending: bool = False


def with_metadata(table: pyarrow.Table, statuses: Mapping[str, list[str]] | None = None) -> ThymeResult:
    """A result over an Arrow table; what holds as a whole is read from its `thyme.*` schema metadata."""
    from thyme.literals import micros_datetime
    from thyme.times import parse_micros

    metadata = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}

    def held(name: str) -> str | None:
        return metadata.get(f"thyme.{name}") or metadata.get(name)

    def moment(name: str) -> datetime | None:
        text = held(name)
        return micros_datetime(parse_micros(text)) if text else None

    return ThymeResult(
        table=table,
        query_run_id=held("query_run_id"),
        ts=moment("ts"),
        watermark=moment("watermark"),
        position=held("position"),
        final=held("final") == "true",
        mode=held("mode") or "point_in_time",
        commit_id=held("commit_id"),
        pin=held("pin"),
        statuses=dict(statuses or {}),
    )


def _needed(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        from thyme.errors import FailedPreconditionError

        raise FailedPreconditionError(f"{name} is not installed", hint=f"pip install {name}") from None


def _iso(moment: datetime | None) -> str:
    from thyme.literals import datetime_micros, format_micros

    return "" if moment is None else format_micros(datetime_micros(moment))


def _cell(value: Any) -> str:
    text = _iso(value) if isinstance(value, datetime) and value.tzinfo else "null" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
