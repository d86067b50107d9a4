"""What every method of the clients does, as steps (see `steps`), without I/O: `Client` and `AsyncClient` mean the same
because both walk through these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thyme import calls, control_calls
from thyme.calls import Asked, Call, Changes, Stretch, When
from thyme.channel import Settings
from thyme.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError, UnimplementedError
from thyme.progress import Progress
from thyme.result import EraseResult, LogResult, ThymeResult
from thyme.sending import FEW_ROWS, Given, Part, column_calls, merged, row_calls
from thyme.shapes import Shape, find, of_class, of_datasets, of_featuresets
from thyme.steps import Pause, Steps, Work, again

if TYPE_CHECKING:
    from thyme.flights import Flights

COMMIT_POLL_SECONDS = 0.2
_FINAL_STATES = ("active", "replaced", "superseded", "failed")


class Operations:
    """The calls of one client; keeps the shapes that the server told."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._flights: Flights | None = None
        self._shapes: dict[str, Shape] = {}
        self._takes_bulk = True

    def flights(self) -> Flights:
        """The connection for bulk work."""
        if self._flights is None:
            from thyme.flights import Flights

            self._flights = Flights(self.settings)
        return self._flights

    def close(self) -> None:
        """Closes what was opened here."""
        if self._flights is not None:
            self._flights.close()
            self._flights = None

    def send(self, call: Call) -> Steps[Any]:
        """One call, repeated while the server cannot be reached."""
        return again(call, self.settings.retry_for)

    def shape(self, reference: Any, kind: str, needs_keys: bool = True) -> Steps[Shape]:
        """Of a class from itself, of a name from the server; a bare name where nothing else is needed."""
        shape = of_class(reference)
        if shape is not None:
            return shape
        if reference in self._shapes:
            return self._shapes[reference]
        if not needs_keys:
            return Shape(reference, [], {})
        found: list[Shape] = []
        if kind != "dataset":
            found += yield from self.send(control_calls.listing("featuresets", of_featuresets))
        if kind != "featureset":
            found += yield from self.send(control_calls.listing("datasets", of_datasets))
        self._shapes[reference] = find(reference, kind, found)
        return self._shapes[reference]

    def query(self, featureset: Any, key: Any, when: When, inputs: Any, features: Any) -> Steps[ThymeResult]:
        """Features of one key."""
        shape = yield from self.shape(featureset, "featureset", not isinstance(key, Mapping))
        return (yield from self.send(calls.query(shape, key, when, inputs, features)))

    def query_batch(self, featureset: Any, keys: Any, when: When, inputs: Any, features: Any) -> Steps[ThymeResult]:
        """Features of many keys."""
        shape = yield from self.shape(featureset, "featureset")
        rows, given = calls.key_rows(shape, keys), calls.input_rows(inputs)
        return (yield from self.send(calls.query_batch(shape, rows, when, given, features)))

    def query_many(
        self, featureset: Any, keys: Any, when: When, inputs: Any, features: Any
    ) -> Steps[tuple[Any, Callable[[Any], Call]]]:
        """Keys to be taken one by one, and what asks for the features of one."""
        shape = yield from self.shape(featureset, "featureset")
        return calls.query_many(shape, keys, when, inputs, features)

    def lookup(self, dataset: Any, key: Any, when: When) -> Steps[ThymeResult]:
        """The row of a key."""
        shape = yield from self.shape(dataset, "dataset", not isinstance(key, Mapping))
        return (yield from self.send(calls.lookup(shape, key, when)))

    def explain(
        self, reference: Any, key: Any, when: When, inputs: Any, features: Any, max_events: int
    ) -> Steps[dict[str, Any]]:
        """How values come about."""
        needs_keys = key is not None and not isinstance(key, Mapping)
        shape = yield from self.shape(reference, "any", needs_keys)
        return (yield from self.send(calls.explain(shape, key, when, inputs, features, max_events)))

    def query_offline(
        self, featureset: Any, spine: Any, asked: Asked, timeout: float, progress: bool | None, stream: bool
    ) -> Steps[ThymeResult]:
        """The rows of a spine with their features. A spine that is a stream is read once: of its export only the
        opening, which reads nothing of it, is tried again."""
        from thyme.offline import Export, Spine, streamed, whole

        shapes: list[Shape] = []
        several = isinstance(featureset, (list, tuple))
        for one in featureset if several else [featureset]:
            shapes.append((yield from self.shape(one, "featureset", asked.entity_column is not None)))
        if not shapes:
            raise InvalidArgumentError("no featuresets are asked for", field="featureset")
        given: Spine = yield Work(lambda: Spine.of(shapes if several else shapes[0], spine, asked))
        flights = self.flights()
        exports: list[Export] = []

        def opened() -> Export:
            exports.append(Export(flights, given, timeout))
            return exports[-1]

        if stream:
            return streamed((yield from again(Work(opened), self.settings.retry_for)))
        try:
            with Progress("exporting", given.total, progress) as shown:
                if given.total is None:
                    export = yield from again(Work(opened), self.settings.retry_for)
                    return (yield Work(lambda: whole(export, shown)))
                return (yield from again(Work(lambda: whole(opened(), shown)), self.settings.retry_for))
        finally:
            for export in exports:
                export.cancel()

    def changes(
        self, featureset: Any, stretch: Stretch, asked: Changes, timeout: float, progress: bool | None, stream: bool
    ) -> Steps[ThymeResult]:
        """The changes of all keys."""
        shape = yield from self.shape(featureset, "featureset", False)
        command = {"featureset": shape.name, **asked.fields(), **stretch.fields()}
        return (yield from self._range(command, timeout, progress, stream))

    def rows(
        self, dataset: Any, stretch: Stretch, when: When, timeout: float, progress: bool | None, stream: bool
    ) -> Steps[ThymeResult]:
        """The rows of all keys."""
        shape = yield from self.shape(dataset, "dataset", False)
        known = {name: value for name, value in when.fields().items() if name != "exclusive"}
        return (yield from self._range({"dataset": shape.name, **known, **stretch.fields()}, timeout, progress, stream))

    def _range(
        self, command: dict[str, Any], timeout: float, progress: bool | None, stream: bool
    ) -> Steps[ThymeResult]:
        from thyme.ranges import Range
        from thyme.result import with_metadata

        flights, retry_for = self.flights(), self.settings.retry_for
        asked: Range = yield from again(Work(lambda: Range(flights, command, timeout, retry_for)), retry_for)
        if stream:
            return asked.streamed()
        try:
            with Progress("exporting", None, progress) as shown:
                return with_metadata((yield Work(lambda: asked.read_all(shown))))
        finally:
            asked.cancel()

    def log(self, dataset: Any, rows: Any, event_ids: Any, progress: bool | None) -> Steps[LogResult]:
        """Sends rows."""
        given = Given(rows, event_ids)
        shape = yield from self.shape(dataset, "dataset", given.wants_types)
        parts, results = given.parts(shape), []
        is_small = given.total is not None and given.total <= FEW_ROWS
        with Progress("sending", given.total, progress) as shown:
            while True:
                part = next(parts, None) if is_small else (yield Work(lambda: next(parts, None)))
                if part is None:
                    return merged(results)
                result = yield from self._send_part(part)
                results.append(merged([result], part.first_row))
                shown.advance(part.count)

    def _send_part(self, part: Part) -> Steps[LogResult]:
        if part.table is not None:
            try:
                return (yield from self._send_columns(part))
            except InvalidArgumentError:
                if part.rows is None:
                    raise
        return (yield from self._send_calls(row_calls(part)))

    def _send_columns(self, part: Part) -> Steps[LogResult]:
        """Over Flight where that is worth it and the server takes rows there (a process may have one role only)."""
        is_refused = False
        if part.is_bulk and self._takes_bulk:
            from thyme.bulk import put

            try:
                flights = self.flights()
                work = Work(lambda: put(flights, part, self.settings.timeout))
                result, rejected = yield from again(work, self.settings.retry_for)
            except (FailedPreconditionError, UnimplementedError, UnavailableError):
                is_refused = True
            else:
                if rejected == len(result.rejected):
                    return result
                # Only the first are told with their reasons. Calls tell the others, and add no row a second time.
                rest = yield from self._send_calls(column_calls(part, result.rejected[-1].index + 1))
                return LogResult(result.accepted, [*result.rejected, *rest.rejected], result.position)
        result = yield from self._send_calls(column_calls(part))
        self._takes_bulk = self._takes_bulk and not is_refused
        return result

    def _send_calls(self, sent: Iterable[Call]) -> Steps[LogResult]:
        results = []
        for call in sent:
            results.append((yield from self.send(call)))
        return merged(results)

    def erase(self, dataset: Any, keys: Iterable[Any]) -> Steps[EraseResult]:
        """Erases keys."""
        shape = yield from self.shape(dataset, "dataset")
        return (yield from self.send(calls.erase(shape, list(keys))))

    def commit(
        self,
        definitions_json: str,
        dry_run: bool,
        remove: Sequence[str],
        supersede: bool,
        message: str,
        wait: bool,
        on_progress: Callable[[dict[str, Any]], None] | None,
    ) -> Steps[dict[str, Any]]:
        """Sends definitions, and asks for the commit until it is settled."""
        answer = yield from self.send(
            control_calls.commit(definitions_json, dry_run=dry_run, remove=remove, supersede=supersede, message=message)
        )
        while wait and answer["commit"] and answer["commit"]["state"] not in _FINAL_STATES:
            if on_progress is not None:
                on_progress(answer["commit"])
            yield Pause(COMMIT_POLL_SECONDS)
            answer["commit"] = yield from self.send(control_calls.get_commit(answer["commit"]["id"]))
        self._shapes.clear()
        return answer
