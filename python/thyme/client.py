"""`Client`: everything a running server offers, over gRPC and Arrow Flight. See `aio` for the same with `await`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc

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

COMMIT_POLL_SECONDS = 0.2
_FINAL_STATES = ("active", "replaced", "superseded", "failed")


class Client:
    """A connection to a server. Use it as a context manager, or `close()` it.

    Args:
        url: where features are served; default `THYME_BASE_URL`, else http://127.0.0.1:8081.
        control_url: where definitions and events go; default `THYME_CONTROL_URL`, else http://127.0.0.1:8080.
        api_key: default `THYME_API_KEY`.
        timeout: seconds for every call; default: 30 for a query, 60 for a chunk of rows, more for commits and exports.
        retry_for: seconds for which a server that cannot be reached is tried again. Retries never count rows twice.

    Datasets and featuresets are given by class or by name. Every call raises a `ThymeError` that says what happened and
    what to do: `NotFoundError`, `InvalidArgumentError`, `UnavailableError`, `DeadlineExceededError` …
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
        self._channels: dict[bool, grpc.Channel] = {}
        self._senders: dict[str, Callable[..., Any]] = {}
        self._shapes: dict[str, Shape] = {}

    def query(
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
        """Features of one key, now or as of `ts`; one row.

        Args:
            key: a scalar for a featureset with one key, a dict for several.
            ts: aware datetime or ISO-8601 text.
            known_at: only events known at that wall time, or at the `position` of an earlier answer.
            exclusive: windows end just before `ts`.
            inputs: values of `request=True` features.
            features: only these.
            at_least: wait until the answer has the rows of this position (from `log`).
        """
        shape = self.shape(featureset, needs_keys=not isinstance(key, Mapping))
        return self._run(calls.query(shape, key, When(ts, known_at, exclusive, at_least), inputs, features))

    def query_batch(
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
        """Features of many keys on one snapshot, one row per key, in order. `keys`: scalars, dicts, or columns."""
        shape = self.shape(featureset)
        when = When(ts, known_at, exclusive, at_least)
        return self._run(
            calls.query_batch(shape, calls.key_rows(shape, keys), when, calls.input_rows(inputs), features)
        )

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
        at_least: str | None = None,
        statuses: bool = False,
        timeout: float = 3600.0,
        progress: bool | None = None,
    ) -> ThymeResult:
        """The rows of `spine` with each row's features as of its own time, over Arrow Flight.

        Args:
            spine: a list of dicts, a DataFrame, or Arrow data; key columns and a time column.
            entity_column: the column with the key, for a featureset with one key, where it has another name.
            entity_columns: key -> column, for several keys.
            timestamp_column: the column with the time of each row.
            statuses: adds a `<feature>__status` column per feature.
            timeout: seconds for the whole export.
            progress: show progress on stderr (default: for long work on a terminal).
        """
        shape = self.shape(featureset, needs_keys=entity_column is not None)
        when = When(None, known_at, exclusive, at_least)
        question = Spine.of(shape, spine, entity_column, entity_columns, timestamp_column, features, statuses, when)
        with Progress("exporting", question.table.num_rows, progress) as shown:
            return self._again(lambda: export(self.settings, question, timeout, shown))

    def lookup(
        self,
        dataset: Any,
        key: Any,
        ts: Any = None,
        known_at: Any = None,
        exclusive: bool = False,
        at_least: Any = None,
    ) -> ThymeResult:
        """The row of a key: of a raw dataset the newest at or before `ts` (no row if there is none), of an aggregated
        one its aggregates as of `ts`."""
        shape = self.shape(dataset, kind="dataset", needs_keys=not isinstance(key, Mapping))
        return self._run(calls.lookup(shape, key, When(ts, known_at, exclusive, at_least)))

    def explain(
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
        shape = self.shape(reference, kind="any", needs_keys=not isinstance(key, Mapping))
        return self._run(calls.explain(shape, key, When(ts, known_at, exclusive), inputs, features, max_events))

    def log(
        self, dataset: Any, rows: Any, event_ids: Sequence[str] | None = None, *, progress: bool | None = None
    ) -> LogResult:
        """Sends rows; durable when it returns. Bad rows come back with their reasons, good ones are kept.

        Args:
            rows: a list of dicts, a pandas or Polars DataFrame, pyarrow, anything with `__arrow_c_stream__`.
            event_ids: one text per row; the first event of an id wins within the dataset's dedup window.
            progress: show progress on stderr (default: for long work on a terminal).
        """
        chunks = Chunks.of(self.shape(dataset, kind="dataset", needs_keys=is_columnar(rows)), rows, event_ids)
        results: list[LogResult] = []
        with Progress("sending", chunks.total, progress) as shown:
            for count, call in chunks.calls:
                results.append(self._run(call))
                shown.advance(count)
        return merged(results)

    def erase(self, dataset: Any, keys: Iterable[Any]) -> EraseResult:
        """Erases keys (scalars, or dicts for several fields): their events so far no longer count, on any replay."""
        return self._run(calls.erase(self.shape(dataset, kind="dataset"), list(keys)))

    def status(self) -> dict[str, Any]:
        """How the server is doing: commit, datasets with counts and watermarks, builds, position, lag."""
        return self._run(control_calls.status())

    def runs(self, limit: int = 50, featureset: str = "", kind: str = "", cursor: str = "") -> dict[str, Any]:
        """Query runs, newest first: `{"runs": [...], "next_cursor": ...}`."""
        return self._run(control_calls.runs(limit, featureset, kind, cursor))

    def run(self, run_id: str) -> dict[str, Any]:
        """One query run by id."""
        return self._run(control_calls.run(run_id))

    def plan(self, definitions_json: str, remove: Sequence[str] = ()) -> dict[str, Any]:
        """What a commit would do."""
        return self._run(control_calls.plan(definitions_json, remove))

    def commit(
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
        """Sends definitions (see `thyme.definitions.definitions_json`) and waits until they answer.

        `on_progress` is called with the commit while its pipelines are being built. Returns `{"commit", "plan"}`.
        """
        answer = self._run(
            control_calls.commit(definitions_json, dry_run=dry_run, remove=remove, supersede=supersede, message=message)
        )
        while wait and answer["commit"] and answer["commit"]["state"] not in _FINAL_STATES:
            if on_progress is not None:
                on_progress(answer["commit"])
            time.sleep(COMMIT_POLL_SECONDS)
            answer["commit"] = self._run(control_calls.get_commit(answer["commit"]["id"]))
        return answer

    def list(self, what: str) -> list[dict[str, Any]]:
        """What the catalog holds: `datasets`, `pipelines`, `featuresets`, `sources` or `jobs`."""
        return self._run(control_calls.listing(what))

    def events(self, limit: int = 50, cursor: str = "", severity: str = "") -> dict[str, Any]:
        """What the server reports, newest first: `{"events": [...], "next_cursor": ...}`."""
        return self._run(control_calls.events(limit, cursor, severity))

    def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        self._senders.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def shape(self, reference: Any, kind: str = "featureset", needs_keys: bool = True) -> Shape:
        """Keys and types of a `featureset`, `dataset` or `any`: of a class from itself, of a name from the server."""
        shape = of_class(reference)
        if shape is not None:
            return shape
        if not needs_keys and reference not in self._shapes:
            return Shape(reference, [], {})
        if reference not in self._shapes:
            featuresets = [] if kind == "dataset" else self._run(control_calls.listing("featuresets", of_featuresets))
            datasets = [] if kind == "featureset" else self._run(control_calls.listing("datasets", of_datasets))
            self._shapes[reference] = find(reference, kind, [*featuresets, *datasets])
        return self._shapes[reference]

    def _run(self, call: Call) -> Any:
        place = self.settings.control if call.control else self.settings.queries
        send = self._sender(call.method, call.control, place)

        def once() -> Any:
            try:
                return send(
                    call.request, timeout=self.settings.timeout or call.timeout, metadata=self.settings.metadata
                )
            except grpc.RpcError as error:
                raise from_rpc_error(error, place.url) from None

        return call.read(self._again(once))

    def _sender(self, method: str, control: bool, place: Address) -> Callable[..., Any]:
        if method not in self._senders:
            path, request, response = _proto.methods()[method]
            self._senders[method] = self._channel(control, place).unary_unary(
                path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
        return self._senders[method]

    def _again(self, attempt: Callable[[], Any]) -> Any:
        waits = pauses(self.settings.retry_for)
        while True:
            try:
                return attempt()
            except UnavailableError as error:
                pause = next(waits, None)
                if pause is None:
                    raise error from None
                time.sleep(pause)

    def _channel(self, control: bool, place: Address) -> grpc.Channel:
        if control not in self._channels:
            options = channel_options()
            self._channels[control] = (
                grpc.secure_channel(place.target, grpc.ssl_channel_credentials(), options)
                if place.secure
                else grpc.insecure_channel(place.target, options)
            )
        return self._channels[control]
