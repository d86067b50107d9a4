"""Every call of the client as a value: method, request, and how its response is read. No I/O.

`Client` and `AsyncClient` only send them, so that both mean the same.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from thyme import _proto
from thyme.errors import InvalidArgumentError
from thyme.literals import micros_datetime
from thyme.plans import plan_of_message
from thyme.result import EraseResult, LogResult, RejectedRow, ResultColumn, ThymeResult
from thyme.rows import as_dicts, as_table, is_columnar
from thyme.shapes import Shape, key_of
from thyme.times import as_micros
from thyme.values import from_column, from_fields, from_value, to_column, to_fields

_STATUS = {0: "OK", 1: "OK", 2: "DEFAULT", 3: "ERROR"}
_MODES = {0: "", 1: "online", 2: "point_in_time"}


@dataclass(frozen=True)
class Call:
    """One call: `control` says which of the two addresses, `timeout` is in seconds. With `stream` the server answers
    with several responses and `read` gets an iterator of them (in the synchronous client only)."""

    method: str
    request: Any
    read: Callable[[Any], Any]
    control: bool = False
    timeout: float = 30.0
    stream: bool = False


@dataclass(frozen=True)
class When:
    """The time side of a question."""

    ts: Any = None
    known_at: Any = None
    exclusive: bool = False
    at_least: str | None = None

    def fields(self) -> dict[str, Any]:
        """As request fields."""
        found: dict[str, Any] = {"exclusive": self.exclusive}
        if self.ts is not None:
            found["ts"] = timestamp(as_micros(self.ts))
        if self.known_at is not None:
            found["known_at"] = known_at_text(self.known_at)
        if self.at_least is not None:
            found["at_least"] = self.at_least
        return found


@dataclass(frozen=True)
class Asked:
    """What is asked of a spine (the arguments of `query_offline`)."""

    entity_column: str | None
    entity_columns: Mapping[str, str] | None
    timestamp_column: str
    features: Sequence[Any] | None
    statuses: bool
    when: When
    pin: str | None = None


@dataclass(frozen=True)
class Stretch:
    """From when to when, the end excluded, and what an earlier answer stood on (arguments of `changes` and `rows`)."""

    since: Any
    until: Any
    pin: str | None

    def fields(self) -> dict[str, str]:
        """As fields of a command."""
        from thyme.literals import format_micros

        times = {"since": self.since, "until": self.until}
        found = {name: format_micros(as_micros(time, name)) for name, time in times.items() if time is not None}
        return found if self.pin is None else {**found, "pin": self.pin}


@dataclass(frozen=True)
class Changes:
    """What else is asked of changes."""

    features: Sequence[Any] | None
    statuses: bool
    when: When

    def fields(self) -> dict[str, Any]:
        """As fields of a command."""
        return {"features": feature_names(self.features), "statuses": self.statuses, **self.when.fields()}


def timestamp(micros: int) -> Any:
    """Microseconds since 1970 as a `google.protobuf.Timestamp`."""
    return _proto.message("google.protobuf.Timestamp")(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def moment(holder: Any, name: str) -> datetime | None:
    """A timestamp field as an aware datetime; None where it is unset."""
    if not holder.HasField(name):
        return None
    found = getattr(holder, name)
    return micros_datetime(found.seconds * 1_000_000 + found.nanos // 1000)


def known_at_text(value: Any) -> str:
    """A wall time or the position of an earlier answer, as text."""
    from thyme.literals import format_micros

    return format_micros(as_micros(value, "known_at")) if isinstance(value, datetime) else str(value)


def query(shape: Shape, key: Any, when: When, inputs: Mapping[str, Any] | None, features: Sequence[str] | None) -> Call:
    """Features of one key."""
    request = _proto.GetFeaturesRequest(
        featureset=shape.name,
        key=to_fields(key_of(shape, key)),
        inputs=to_fields(inputs or {}),
        features=feature_names(features),
        **when.fields(),
    )

    def read(response: Any) -> ThymeResult:
        return _one_row(shape, response.key, response.features, response.info)

    return Call("GetFeatures", request, read)


def query_batch(
    shape: Shape, keys: list[dict[str, Any]], when: When, inputs: list[Mapping[str, Any]] | None, features: Any
) -> Call:
    """Features of many keys, each as of one moment, in the order of the keys."""
    request = _proto.BatchGetFeaturesRequest(
        featureset=shape.name,
        keys=_columns(keys),
        inputs=_columns(inputs or []),
        features=feature_names(features),
        **when.fields(),
    )

    def read(response: Any) -> ThymeResult:
        columns = [_column(found) for found in response.keys]
        result = _result(columns, response.info)
        for found in response.features:
            columns.append(_column(found.column))
            if found.statuses:
                result.statuses[found.column.name] = [_STATUS[status] for status in found.statuses]
            if found.errors:
                result.errors[found.column.name] = dict(found.errors)
        return result

    return Call("BatchGetFeatures", request, read)


def query_many(shape: Shape, keys: Any, when: When, inputs: Any, features: Any) -> tuple[Any, Callable[[Any], Call]]:
    """Keys to be taken one by one, and what asks for the features of one; inputs are taken along with the keys."""
    if isinstance(keys, (str, bytes)) or not (hasattr(keys, "__iter__") or hasattr(keys, "__aiter__")):
        raise InvalidArgumentError(f"keys takes keys one by one; got {keys!r}", field="keys")
    keys = key_rows(shape, keys) if is_columnar(keys) else keys
    if inputs is None or isinstance(inputs, Mapping):
        return keys, lambda key: query(shape, key, when, inputs, features)
    rows = iter(input_rows(inputs) or [] if is_columnar(inputs) else inputs)

    def ask(key: Any) -> Call:
        given = next(rows, None)
        if given is None:
            raise InvalidArgumentError("there are more keys than inputs", field="inputs")
        return query(shape, key, when, given, features)

    return keys, ask


def lookup(shape: Shape, key: Any, when: When) -> Call:
    """The row of a key in a dataset; no row where there is none."""
    request = _proto.LookupRequest(dataset=shape.name, key=to_fields(key_of(shape, key)), **when.fields())

    def read(response: Any) -> ThymeResult:
        if response.found:
            return _one_row(shape, {}, response.fields, response.info)
        empty = [ResultColumn(name, type_text, []) for name, type_text in shape.types.items()]
        return _result(empty, response.info)

    return Call("Lookup", request, read)


def explain(shape: Shape, key: Any, when: When, inputs: Any, features: Any, max_events: int) -> Call:
    """How values came about; without a key how an export gets at them."""
    fields = when.fields()
    fields.pop("at_least", None)
    request = _proto.ExplainRequest(
        name=shape.name,
        key={} if key is None else to_fields(key_of(shape, key)),
        inputs=to_fields(inputs or {}),
        features=feature_names(features),
        max_events=max_events,
        plan=key is None,
        **fields,
    )

    def read(response: Any) -> dict[str, Any]:
        if key is None:
            return {"name": response.name, "plan": plan_of_message(response.plan)}
        return {
            "name": response.name,
            "key": from_fields(response.key),
            "ts": moment(response.info, "ts"),
            "watermark": moment(response.info, "watermark"),
            "position": response.info.position,
            "final": response.info.final,
            "query_run_id": response.info.query_run_id,
            "explanations": [_explanation(found) for found in response.explanations],
        }

    return Call("Explain", request, read)


def ingest(dataset: str, payload: Mapping[str, Any], event_ids: list[str], call_id: str, first_row: int) -> Call:
    """One chunk of rows. Safe to repeat: rows are known by their event id, or by call and row number."""
    request = _proto.IngestRequest(
        dataset=dataset, event_ids=event_ids, call_id=call_id, first_row=first_row, **payload
    )

    def read(response: Any) -> LogResult:
        rejected = [RejectedRow(first_row + found.index, found.reason, found.field) for found in response.rejected]
        return LogResult(response.accepted, rejected, response.position)

    return Call("Ingest", request, read, control=True, timeout=60.0)


def erase(shape: Shape, keys: list[Any]) -> Call:
    """Erases keys of a dataset."""
    rows = [_proto.Row(fields=to_fields(key_of(shape, key))) for key in keys]
    request = _proto.EraseRequest(dataset=shape.name, keys=rows)

    def read(response: Any) -> EraseResult:
        return EraseResult(response.erased, response.position, response.pending)

    return Call("Erase", request, read, control=True)


def new_call_id() -> str:
    """A UUID that all retries of one logical call share."""
    return str(uuid.uuid4())


def key_rows(shape: Shape, keys: Any) -> list[dict[str, Any]]:
    """Keys as dicts: from scalars, dicts, a DataFrame or Arrow data."""
    if is_columnar(keys) and hasattr(keys, "columns"):
        return as_table(keys, shape.integers(), "keys").to_pylist()
    return [key_of(shape, key) for key in keys]


def input_rows(inputs: Any) -> list[Mapping[str, Any]] | None:
    """Values of request features, one row per key."""
    if inputs is None:
        return None
    if not is_columnar(inputs):
        return as_dicts(inputs, "inputs")
    # Imports pyarrow: only where columns are read.
    from thyme.arrow_types import to_pylist

    return to_pylist(as_table(inputs, (), "inputs"))


def feature_names(features: Any) -> list[str]:
    """Names of features given as names or as `Featureset.feature`."""
    listed = [features] if isinstance(features, str) else list(features or [])
    return [getattr(given, "feature", given) for given in listed]


def qualified_names(features: Any) -> list[str]:
    """The same of several featuresets, where a name has its featureset before it."""
    return [str(given) for given in ([features] if isinstance(features, str) else features or [])]


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [to_column(name, [row.get(name) for row in rows]) for name in names]


def _column(column: Any) -> ResultColumn:
    return ResultColumn(column.name, column.type, from_column(column))


def _one_row(shape: Shape, key: Mapping[str, Any], values: Any, info: Any) -> ThymeResult:
    order = [name for name in shape.keys if name in key] + [name for name in key if name not in shape.keys]
    columns = [ResultColumn(name, shape.types.get(name, ""), [from_value(key[name])]) for name in order]
    columns = [column for column in columns if column.name not in {found.name for found in values}]
    result = _result(columns, info)
    for found in values:
        columns.append(ResultColumn(found.name, shape.types.get(found.name, ""), [from_value(found.value)]))
        if found.status > 1:
            result.statuses[found.name] = [_STATUS[found.status]]
        if found.error:
            result.errors[found.name] = {0: found.error}
    return result


def _result(columns: list[ResultColumn], info: Any) -> ThymeResult:
    return ThymeResult(
        columns=columns,
        query_run_id=info.query_run_id or None,
        ts=moment(info, "ts"),
        watermark=moment(info, "watermark"),
        position=info.position or None,
        final=info.final,
        mode=_MODES.get(info.mode, ""),
        commit_id=info.commit_id or None,
    )


def _explanation(found: Any) -> dict[str, Any]:
    return {
        "name": found.value.name,
        "value": from_value(found.value.value),
        "status": _STATUS[found.value.status],
        "error": found.value.error,
        "definition": found.definition,
        "window_start": moment(found, "window_start"),
        "window_end": moment(found, "window_end"),
        "event_count": found.event_count,
        "truncated": found.truncated,
        "inputs": list(found.inputs),
        "events": [
            {
                "event_time": moment(event, "event_time"),
                "append_time": moment(event, "append_time"),
                "partition": event.partition,
                "offset": event.offset,
                # A map has no order of its own.
                "values": dict(sorted(from_fields(event.values).items())),
            }
            for event in found.events
        ],
    }
