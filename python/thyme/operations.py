"""What every method of the clients does, as steps (see `steps`), without I/O: `Client` and `AsyncClient` mean the same
because both walk through these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from thyme import calls, control_calls
from thyme.calls import Asked, Call, When
from thyme.channel import Settings
from thyme.chunks import Chunks, merged
from thyme.progress import Progress
from thyme.result import EraseResult, LogResult, ThymeResult
from thyme.rows import is_columnar
from thyme.shapes import Shape, find, of_class, of_datasets, of_featuresets
from thyme.steps import Pause, Steps, Work, again

COMMIT_POLL_SECONDS = 0.2
_FINAL_STATES = ("active", "replaced", "superseded", "failed")


class Operations:
    """The calls of one client; keeps the shapes that the server told."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._shapes: dict[str, Shape] = {}

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

    def lookup(self, dataset: Any, key: Any, when: When) -> Steps[ThymeResult]:
        """The row of a key."""
        shape = yield from self.shape(dataset, "dataset", not isinstance(key, Mapping))
        return (yield from self.send(calls.lookup(shape, key, when)))

    def explain(
        self, reference: Any, key: Any, when: When, inputs: Any, features: Any, max_events: int
    ) -> Steps[dict[str, Any]]:
        """How values come about."""
        shape = yield from self.shape(reference, "any", not isinstance(key, Mapping))
        return (yield from self.send(calls.explain(shape, key, when, inputs, features, max_events)))

    def query_offline(
        self, featureset: Any, spine: Any, asked: Asked, timeout: float, progress: bool | None
    ) -> Steps[ThymeResult]:
        """The rows of a spine with their features."""
        from thyme.offline import Spine, export

        shape = yield from self.shape(featureset, "featureset", asked.entity_column is not None)
        question = Spine.of(shape, spine, asked)
        with Progress("exporting", question.table.num_rows, progress) as shown:
            work = Work(lambda: export(self.settings, question, timeout, shown))
            return (yield from again(work, self.settings.retry_for))

    def log(self, dataset: Any, rows: Any, event_ids: Any, progress: bool | None) -> Steps[LogResult]:
        """Sends rows."""
        shape = yield from self.shape(dataset, "dataset", is_columnar(rows))
        chunks = Chunks.of(shape, rows, event_ids)
        results: list[LogResult] = []
        with Progress("sending", chunks.total, progress) as shown:
            for count, call in chunks.calls:
                results.append((yield from self.send(call)))
                shown.advance(count)
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
        return answer
