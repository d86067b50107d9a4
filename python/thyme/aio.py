"""`AsyncClient`: the same calls as `Client`, with `await`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio

from thyme import _proto, calls, control_calls
from thyme.calls import Call, When
from thyme.channel import Address, channel_options, pauses, settings
from thyme.chunks import Chunks, merged
from thyme.errors import UnavailableError
from thyme.offline import Spine, export
from thyme.progress import Progress
from thyme.result import EraseResult, LogResult, ThymeResult
from thyme.rows import is_columnar
from thyme.rpc_errors import from_rpc_error
from thyme.shapes import Shape, find, of_class, of_datasets, of_featuresets


class AsyncClient:
    """A connection to a server for asyncio programs: `async with AsyncClient() as client: await client.query(...)`.

    Arguments, calls and errors are those of `thyme.Client`.
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
        self._channels: dict[bool, grpc.aio.Channel] = {}
        self._shapes: dict[str, Shape] = {}

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
        shape = await self.shape(featureset, needs_keys=not isinstance(key, Mapping))
        return await self._run(calls.query(shape, key, When(ts, known_at, exclusive, at_least), inputs, features))

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
        """Features of many keys on one snapshot, one row per key, in order."""
        shape = await self.shape(featureset)
        when = When(ts, known_at, exclusive, at_least)
        rows, given = calls.key_rows(shape, keys), calls.input_rows(inputs)
        return await self._run(calls.query_batch(shape, rows, when, given, features))

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
        timeout: float = 3600.0,
        progress: bool | None = None,
    ) -> ThymeResult:
        """The rows of `spine` with each row's features as of its own time; runs in a thread."""
        shape = await self.shape(featureset, needs_keys=entity_column is not None)
        when = When(None, known_at, exclusive, at_least)
        question = Spine.of(shape, spine, entity_column, entity_columns, timestamp_column, features, statuses, when)

        async def once() -> ThymeResult:
            with Progress("exporting", question.table.num_rows, progress) as shown:
                return await asyncio.to_thread(export, self.settings, question, timeout, shown)

        return await self._again(once)

    async def lookup(
        self,
        dataset: Any,
        key: Any,
        ts: Any = None,
        known_at: Any = None,
        exclusive: bool = False,
        at_least: str | None = None,
    ) -> ThymeResult:
        """The row of a key; no row where there is none."""
        shape = await self.shape(dataset, kind="dataset", needs_keys=not isinstance(key, Mapping))
        return await self._run(calls.lookup(shape, key, When(ts, known_at, exclusive, at_least)))

    async def explain(
        self,
        reference: Any,
        key: Any,
        ts: Any = None,
        known_at: Any = None,
        exclusive: bool = False,
        inputs: Mapping[str, Any] | None = None,
        features: Sequence[Any] | None = None,
        max_events: int = 20,
    ) -> dict[str, Any]:
        """How values come about: window bounds, contributing events, watermark."""
        shape = await self.shape(reference, kind="any", needs_keys=not isinstance(key, Mapping))
        return await self._run(calls.explain(shape, key, When(ts, known_at, exclusive), inputs, features, max_events))

    async def log(
        self, dataset: Any, rows: Any, event_ids: Sequence[str] | None = None, *, progress: bool | None = None
    ) -> LogResult:
        """Sends rows; durable when it returns. Bad rows come back with their reasons, good ones are kept."""
        chunks = Chunks.of(await self.shape(dataset, kind="dataset", needs_keys=is_columnar(rows)), rows, event_ids)
        results: list[LogResult] = []
        with Progress("sending", chunks.total, progress) as shown:
            for count, call in chunks.calls:
                results.append(await self._run(call))
                shown.advance(count)
        return merged(results)

    async def erase(self, dataset: Any, keys: Iterable[Any]) -> EraseResult:
        """Erases keys: their events so far no longer count, on any replay."""
        return await self._run(calls.erase(await self.shape(dataset, kind="dataset"), list(keys)))

    async def status(self) -> dict[str, Any]:
        """How the server is doing."""
        return await self._run(control_calls.status())

    async def runs(self, limit: int = 50, featureset: str = "", kind: str = "", cursor: str = "") -> dict[str, Any]:
        """Query runs, newest first."""
        return await self._run(control_calls.runs(limit, featureset, kind, cursor))

    async def run(self, run_id: str) -> dict[str, Any]:
        """One query run by id."""
        return await self._run(control_calls.run(run_id))

    async def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def shape(self, reference: Any, kind: str = "featureset", needs_keys: bool = True) -> Shape:
        """Keys and types of a `featureset`, `dataset` or `any`: of a class from itself, of a name from the server."""
        shape = of_class(reference)
        if shape is not None:
            return shape
        if not needs_keys and reference not in self._shapes:
            return Shape(reference, [], {})
        if reference not in self._shapes:
            found: list[Shape] = []
            if kind != "dataset":
                found += await self._run(control_calls.listing("featuresets", of_featuresets))
            if kind != "featureset":
                found += await self._run(control_calls.listing("datasets", of_datasets))
            self._shapes[reference] = find(reference, kind, found)
        return self._shapes[reference]

    async def _run(self, call: Call) -> Any:
        path, request, response = _proto.methods()[call.method]
        place = self.settings.control if call.control else self.settings.queries
        send = self._channel(call.control, place).unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )
        timeout = self.settings.timeout or call.timeout

        async def once() -> Any:
            try:
                return await send(call.request, timeout=timeout, metadata=self.settings.metadata)
            except grpc.RpcError as error:
                raise from_rpc_error(error, place.url) from None

        return call.read(await self._again(once))

    async def _again(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        waits = pauses(self.settings.retry_for)
        while True:
            try:
                return await attempt()
            except UnavailableError as error:
                pause = next(waits, None)
                if pause is None:
                    raise error from None
                await asyncio.sleep(pause)

    def _channel(self, control: bool, place: Address) -> grpc.aio.Channel:
        if control not in self._channels:
            options = channel_options()
            self._channels[control] = (
                grpc.aio.secure_channel(place.target, grpc.ssl_channel_credentials(), options)
                if place.secure
                else grpc.aio.insecure_channel(place.target, options)
            )
        return self._channels[control]
