"""`AsyncClient`: the same calls as `Client`, with `await`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio

from thyme import control_calls
from thyme.calls import Asked, Call, Changes, Stretch, When
from thyme.channel import settings
from thyme.errors import ThymeError
from thyme.many import AsyncAnswers
from thyme.operations import Operations
from thyme.result import EraseResult, LogResult, ThymeResult
from thyme.shapes import Shape
from thyme.steps import Pause, Result, Step, Steps, Walk
from thyme.transport import Transport


class AsyncClient:
    """A connection to a server for asyncio programs: `async with AsyncClient() as client: await client.query(...)`.

    Arguments, calls and errors are those of `thyme.Client`. What blocks (reading rows, Arrow Flight) runs in a thread.
    """

    def __init__(
        self,
        url: str | None = None,
        control_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float | None = None,
        retry_for: float = 2.0,
    ) -> None:
        self.settings = settings(url, control_url, api_key, timeout, retry_for)
        self._operations = Operations(self.settings)
        self._transport = Transport(grpc.aio, self.settings)

    async def query(
        self,
        featureset: Any,
        key: Any,
        ts: Any = None,
        known_at: Any = None,
        exclusive: bool = False,
        inputs: Mapping[str, Any] | None = None,
        features: Sequence[Any] | None = None,
        at_least: str | None = None,
    ) -> ThymeResult:
        """Features of one key, now or as of `ts`; one row."""
        when = When(ts, known_at, exclusive, at_least)
        return await self._walk(self._operations.query(featureset, key, when, inputs, features))

    async def query_batch(
        self,
        featureset: Any,
        keys: Any,
        ts: Any = None,
        known_at: Any = None,
        exclusive: bool = False,
        inputs: Any = None,
        features: Sequence[Any] | None = None,
        at_least: str | None = None,
    ) -> ThymeResult:
        """Features of many keys, each of one moment, one row per key, in order. `keys`: scalars, dicts, or columns."""
        when = When(ts, known_at, exclusive, at_least)
        return await self._walk(self._operations.query_batch(featureset, keys, when, inputs, features))

    def query_many(
        self,
        featureset: Any,
        keys: Any,
        ts: Any = None,
        known_at: Any = None,
        exclusive: bool = False,
        inputs: Any = None,
        features: Sequence[Any] | None = None,
        at_least: str | None = None,
    ) -> AsyncAnswers:
        """Features of many keys that come one by one, each of a moment of its own, in order: more are asked meanwhile.

        `keys` may be an async iterable; another one is read in the event loop and must not block it.
        """
        when = When(ts, known_at, exclusive, at_least)
        asked = (featureset, keys, when, inputs, features)
        return AsyncAnswers(self._transport, lambda: self._walk(self._operations.query_many(*asked)), self._send)

    async def query_offline(
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
        at_least: str | None = None,
        statuses: bool = False,
        pin: str | None = None,
        timeout: float = 3600.0,
        progress: bool | None = None,
        stream: bool = False,
    ) -> ThymeResult:
        """The rows of `spine` with each row's features as of its own time, over Arrow Flight."""
        when = When(None, known_at, exclusive, at_least)
        asked = Asked(entity_column, entity_columns, timestamp_column, features, statuses, when, pin)
        return await self._walk(self._operations.query_offline(featureset, spine, asked, timeout, progress, stream))

    async def changes(
        self,
        featureset: Any,
        *,
        since: Any = None,
        until: Any = None,
        features: Sequence[Any] | None = None,
        known_at: Any = None,
        exclusive: bool = False,
        at_least: str | None = None,
        statuses: bool = False,
        pin: str | None = None,
        timeout: float = 3600.0,
        progress: bool | None = None,
        stream: bool = False,
    ) -> ThymeResult:
        """The features of all keys over a stretch of time, a row wherever one of them becomes another."""
        asked = Changes(features, statuses, When(None, known_at, exclusive, at_least))
        stretch = Stretch(since, until, pin)
        return await self._walk(self._operations.changes(featureset, stretch, asked, timeout, progress, stream))

    async def rows(
        self,
        dataset: Any,
        *,
        since: Any = None,
        until: Any = None,
        known_at: Any = None,
        at_least: str | None = None,
        pin: str | None = None,
        timeout: float = 3600.0,
        progress: bool | None = None,
        stream: bool = False,
    ) -> ThymeResult:
        """The accepted rows of a dataset over a stretch of time."""
        when = When(None, known_at, False, at_least)
        stretch = Stretch(since, until, pin)
        return await self._walk(self._operations.rows(dataset, stretch, when, timeout, progress, stream))

    async def lookup(
        self,
        dataset: Any,
        key: Any,
        ts: Any = None,
        known_at: Any = None,
        exclusive: bool = False,
        at_least: str | None = None,
    ) -> ThymeResult:
        """The row of a key: of a raw dataset the newest at or before `ts` (no row if there is none), of an aggregated
        one its aggregates as of `ts`."""
        return await self._walk(self._operations.lookup(dataset, key, When(ts, known_at, exclusive, at_least)))

    async def explain(
        self,
        reference: Any,
        key: Any = None,
        ts: Any = None,
        known_at: Any = None,
        exclusive: bool = False,
        inputs: Mapping[str, Any] | None = None,
        features: Sequence[Any] | None = None,
        max_events: int = 20,
    ) -> dict[str, Any]:
        """How values come about: window bounds, contributing events, watermark. Without a key, of a featureset alone:
        the `plan` by which `query_offline` gets at its features."""
        when = When(ts, known_at, exclusive)
        return await self._walk(self._operations.explain(reference, key, when, inputs, features, max_events))

    async def log(
        self, dataset: Any, rows: Any, event_ids: Iterable[str] | None = None, *, progress: bool | None = None
    ) -> LogResult:
        """Sends rows; durable when it returns. Bad rows come back with their reasons, good ones are kept."""
        return await self._walk(self._operations.log(dataset, rows, event_ids, progress))

    async def erase(self, dataset: Any, keys: Iterable[Any]) -> EraseResult:
        """Erases keys (scalars, or dicts for several fields): their events so far no longer count, on any replay.

        The result is `pending` while state grouped by another key is rebuilt without them; ask again with no keys.
        """
        return await self._walk(self._operations.erase(dataset, keys))

    async def status(self) -> dict[str, Any]:
        """How the server is doing: commit, datasets with counts and watermarks, builds, position, lag."""
        return await self._send(control_calls.status())

    async def runs(self, limit: int = 50, featureset: str = "", kind: str = "", cursor: str = "") -> dict[str, Any]:
        """Query runs, newest first: `{"runs": [...], "next_cursor": ...}`."""
        return await self._send(control_calls.runs(limit, featureset, kind, cursor))

    async def run(self, run_id: str) -> dict[str, Any]:
        """One query run by id."""
        return await self._send(control_calls.run(run_id))

    async def plan(self, definitions_json: str, remove: Sequence[str] = ()) -> dict[str, Any]:
        """What a commit would do."""
        return await self._send(control_calls.plan(definitions_json, remove))

    async def commit(
        self,
        definitions_json: str,
        *,
        dry_run: bool = False,
        remove: Sequence[str] = (),
        supersede: bool = False,
        message: str = "",
        wait: bool = True,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Sends definitions (see `thyme.definitions.definitions_json`) and waits until they answer."""
        return await self._walk(
            self._operations.commit(definitions_json, dry_run, remove, supersede, message, wait, on_progress)
        )

    async def list(self, what: str) -> list[dict[str, Any]]:
        """What the catalog holds: `datasets`, `pipelines`, `featuresets`, `sources` or `jobs`."""
        return await self._send(control_calls.listing(what))

    async def events(self, limit: int = 50, cursor: str = "", severity: str = "") -> dict[str, Any]:
        """What the server reports, newest first: `{"events": [...], "next_cursor": ...}`."""
        return await self._send(control_calls.events(limit, cursor, severity))

    async def rejected(self, dataset: str, limit: int = 50) -> list[dict[str, Any]]:
        """Rows of a dataset that did not become events: dead letters, samples of late rows, rows of its source that
        could not be read; with the reason, and at most `limit` of each kind."""
        return await self._send(control_calls.rejected(dataset, limit))

    async def test_source(self, dataset: str, limit: int = 5) -> dict[str, Any]:
        """The first rows of a dataset's source as they would be published; none is. `rejected` has those that do not
        fit the dataset, with place and reason. Raises if the source cannot be read."""
        return await self._send(control_calls.test_source(dataset, limit))

    async def pause_source(self, dataset: str) -> dict[str, Any]:
        """When it returns, no more rows of the dataset's source are published until it is resumed, restarts or not."""
        return await self._send(control_calls.change_source("pause", dataset))

    async def resume_source(self, dataset: str) -> dict[str, Any]:
        """A paused source goes on where it was."""
        return await self._send(control_calls.change_source("resume", dataset))

    async def reset_source(self, dataset: str) -> dict[str, Any]:
        """The dataset's source is read from its beginning again. Its rows keep their ids: those that were published
        within the dataset's `dedup_window` do not count twice, older ones do."""
        return await self._send(control_calls.change_source("reset", dataset))

    async def close(self) -> None:
        """Closes the connections."""
        self._operations.close()
        for closing in self._transport.close():
            await closing

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def shape(self, reference: Any, kind: str = "featureset", needs_keys: bool = True) -> Shape:
        """Keys and types of a `featureset`, `dataset` or `any`: of a class from itself, of a name from the server."""
        return await self._walk(self._operations.shape(reference, kind, needs_keys))

    async def _send(self, call: Call) -> Any:
        return await self._walk(self._operations.send(call))

    async def _walk(self, steps: Steps[Result]) -> Result:
        with contextlib.closing(steps):
            walk = Walk(steps)
            while walk.step is not None:
                try:
                    answer = await self._take(walk.step)
                except ThymeError as error:
                    walk.failed(error)
                else:
                    walk.answered(answer)
            return walk.result

    async def _take(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if not isinstance(step, Call):
            return await asyncio.to_thread(step.function)
        try:
            return step.read(await self._transport.send(step))
        except grpc.RpcError as error:
            raise self._transport.error(step, error) from None
