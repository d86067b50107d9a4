"""`MockContext`: log, engine, state and queries of a server, in memory and at once. Nothing is re-implemented here."""

from __future__ import annotations

import types
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from thyme import registry
from thyme.calls import feature_names, qualified_names
from thyme.errors import FailedPreconditionError
from thyme.literals import micros_datetime
from thyme.registry import Registry
from thyme.result import LogResult, RejectedRow, ThymeResult, with_metadata
from thyme.rows import as_dicts, as_table, is_columnar, refuse_naive
from thyme.shapes import Shape, find, key_of, of_class
from thyme.times import as_micros

if TYPE_CHECKING:
    from thyme._native import MockEngine


class MockAnswer(dict[str, Any]):
    """Values by name, with what holds for them: `statuses`, `errors` (name to reason), `ts`, `watermark`, `position`,
    `final`, `mode`, `key`."""

    def __init__(self, values: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.key: dict[str, Any] = dict(answer["key"])
        self.statuses: dict[str, str] = dict(answer["statuses"])
        self.errors: dict[str, str] = dict(answer["errors"])
        self.mode: str = answer["mode"]
        self.ts: datetime | None = answer["ts"]
        self.watermark: datetime | None = answer["watermark"]
        self.position: str = answer["position"]
        self.final: bool = answer["final"]


class MockContext:
    """The real engine in memory, over the definitions that importing has registered; no commit, no server.

    Events are applied when `add_events` returns. Without `set_now`, "now" is the greatest event time so far (1970
    before the first event).

    Args:
        definitions: what to read instead of what is registered in this process.
        clock: `"event"`, or `"wall"` for the real time.
        lazy: read the definitions at the first call instead of now.

    Raises:
        ThymeDefinitionError: the definitions do not hold together.
    """

    def __init__(self, definitions: Registry | None = None, *, clock: str = "event", lazy: bool = False) -> None:
        self._definitions = definitions
        self._clock = clock
        self._engine: MockEngine | None = None
        # Its threads must end before the interpreter does, also when nobody closes the context.
        self._free: weakref.finalize[..., MockContext] | None = None
        self._closed = False
        self._shapes: list[Shape] = []
        if not lazy:
            self._started()

    def add_events(self, dataset: Any, rows: Any, event_ids: Sequence[str] | None = None) -> LogResult:
        """Adds rows: a list of dicts, a DataFrame, Arrow data. Bad rows come back with their reasons."""
        shape = self._shape(dataset)
        if is_columnar(rows):
            given = as_table(rows, shape.integers())
        else:
            given = [dict(row) for row in as_dicts(rows)]
            refuse_naive(given)
        done = self._started().add_events(shape.name, given, event_ids)
        return LogResult(done["accepted"], [_rejected(found) for found in done["rejected"]], done["position"])

    def get_aggregates(
        self, dataset: Any, key: Any, ts: Any = None, *, known_at: Any = None, exclusive: bool = False
    ) -> dict[str, Any] | None:
        """The row of a key, now or as of `ts`: the aggregates of an aggregated dataset (for an unknown key those of
        empty windows), of a raw one the newest row or None."""
        shape = self._shape(dataset)
        answer = self._started().lookup(
            shape.name, key_of(shape, key), ts=_moment(ts), known_at=known_at, exclusive=exclusive
        )
        return None if answer["row"] is None else MockAnswer(answer["row"], answer)

    def lookup(
        self, dataset: Any, key: Any, ts: Any = None, *, known_at: Any = None, exclusive: bool = False
    ) -> dict[str, Any] | None:
        """The same as `get_aggregates`, under the name that clients use."""
        return self.get_aggregates(dataset, key, ts, known_at=known_at, exclusive=exclusive)

    def query(
        self,
        featureset: Any,
        key: Any,
        ts: Any = None,
        *,
        known_at: Any = None,
        exclusive: bool = False,
        inputs: Mapping[str, Any] | None = None,
        features: Sequence[Any] | None = None,
    ) -> MockAnswer:
        """Features by name, now or as of `ts`; `statuses` and `errors` stand beside the values."""
        shape = self._shape(featureset)
        answer = self._started().query(
            shape.name,
            key_of(shape, key),
            ts=_moment(ts),
            known_at=known_at,
            exclusive=exclusive,
            inputs=None if inputs is None else dict(inputs),
            features=feature_names(features) or None,
        )
        return MockAnswer(answer["features"], answer)

    def query_offline(
        self,
        featureset: Any,
        spine: Any,
        *,
        entity_column: str | None = None,
        entity_columns: Mapping[str, str] | None = None,
        timestamp_column: str = "timestamp",
        known_at: Any = None,
        exclusive: bool = False,
        features: Sequence[Any] | None = None,
        statuses: bool = False,
        pin: str | None = None,
    ) -> ThymeResult:
        """The rows of `spine` with each row's features as of its own time."""
        several = isinstance(featureset, (list, tuple))
        shapes = [self._shape(one) for one in (featureset if several else [featureset])]
        columns = dict(entity_columns or {})
        for shape in shapes if entity_column is not None else []:
            key = shape.keys[0] if len(shape.keys) == 1 else "entity_id"
            columns[f"{shape.name}.{key}" if several else key] = entity_column
        integers = [name for shape in shapes for name in shape.integers() if name in shape.keys]
        table = self._started().query_offline(
            "" if several else shapes[0].name,
            as_table(spine, integers, "spine"),
            **({"featuresets": [shape.name for shape in shapes]} if several else {}),
            timestamp_column=timestamp_column,
            entity_columns=columns or None,
            features=(qualified_names if several else feature_names)(features) or None,
            known_at=known_at,
            exclusive=exclusive,
            statuses=statuses,
            pin=pin,
        )
        return with_metadata(table)

    def erase(self, dataset: Any, keys: Iterable[Any]) -> int:
        """Erases keys; returns how many."""
        shape = self._shape(dataset)
        return self._started().erase(shape.name, [key_of(shape, key) for key in keys])

    def set_now(self, now: Any) -> None:
        """Sets what "now" is: an aware datetime or ISO-8601 text; None goes back to the clock."""
        self._started().set_now(_moment(now))

    @property
    def now(self) -> datetime:
        """What a query without `ts` takes as its time."""
        return self._started().now()

    @property
    def warnings(self) -> list[str]:
        """What loading the extractors warned of."""
        return list(self._started().warnings)

    def close(self) -> None:
        """Frees the engine; further calls raise."""
        if self._free is not None:
            self._free()
        self._engine, self._free, self._closed = None, None, True

    def __enter__(self) -> MockContext:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _started(self) -> MockEngine:
        if self._closed:
            raise FailedPreconditionError("this MockContext is closed", hint="make a new one")
        if self._engine is None:
            from thyme._native import MockEngine
            from thyme.definitions import definitions_json

            held = self._definitions or registry.current()
            functions = {
                f"{found.name}.{extractor.name}": types.MethodType(extractor.function, found.cls)
                for found in held.featuresets.values()
                for extractor in found.extractors
            }
            classes = [found.cls for found in [*held.datasets.values(), *held.featuresets.values()]]
            self._shapes = [shape for shape in map(of_class, classes) if shape is not None]
            self._engine = MockEngine(definitions_json(held), functions, self._clock)
            self._free = weakref.finalize(self, self._engine.close)
        return self._engine

    def _shape(self, reference: Any) -> Shape:
        self._started()
        return of_class(reference) or find(reference, "any", self._shapes)


def _moment(value: Any) -> datetime | None:
    return None if value is None else micros_datetime(as_micros(value))


def _rejected(found: Sequence[Any]) -> RejectedRow:
    return RejectedRow(*found[:3])
