"""`Client`: everything a running server offers, over gRPC and Arrow Flight. See `aio` for the same with `await`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc

from thyme import control_calls
from thyme.calls import Asked, Call, Changes, Stretch, When
from thyme.channel import settings
from thyme.errors import ThymeError
from thyme.many import Answers
from thyme.operations import Operations
from thyme.result import EraseResult, LogResult, ThymeResult
from thyme.shapes import Shape
from thyme.steps import Pause, Result, Step, Steps, Walk
from thyme.transport import Transport


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
        self._operations = Operations(self.settings)
        self._transport = Transport(grpc, self.settings)

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
        when = When(ts, known_at, exclusive, at_least)
        return self._walk(self._operations.query(featureset, key, when, inputs, features))

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
        """Features of many keys, each of one moment, one row per key, in order. `keys`: scalars, dicts, or columns."""
        when = When(ts, known_at, exclusive, at_least)
        return self._walk(self._operations.query_batch(featureset, keys, when, inputs, features))

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
    ) -> Answers:
        """Features of many keys that come one by one, each of a moment of its own, in order: more are asked meanwhile.

        At most 64 questions are asked and not answered. One that fails raises in its place, and `next` goes on.

        Args:
            keys: scalars or dicts; an iterable is read on by another thread as answers are taken.
            inputs: values of `request=True` features: a dict for all keys, or an iterable with one for each.
        """
        when = When(ts, known_at, exclusive, at_least)
        asked = (featureset, keys, when, inputs, features)
        return Answers(self._transport, lambda: self._walk(self._operations.query_many(*asked)), self._send)

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
        pin: str | None = None,
        timeout: float = 3600.0,
        progress: bool | None = None,
        stream: bool = False,
    ) -> ThymeResult:
        """The rows of `spine` with each row's features as of its own time, over Arrow Flight.

        Args:
            featureset: a featureset, or a list of several: then columns are named as `Featureset.feature`, `features`
                are given like that, and `entity_columns` may be (`uid` is the key of all that have it).
            spine: a list of dicts, a DataFrame, or Arrow data; key columns and a time column. A stream (a
                `pyarrow.RecordBatchReader`, an iterator of batches, DataFrames or dicts) is read as it is sent.
            entity_column: the column with the key, for featuresets with one key, where it has another name.
            entity_columns: key -> column, for several keys.
            timestamp_column: the column with the time of each row.
            statuses: adds a `<feature>__status` column per feature.
            pin: the `pin` of an earlier export: exactly what that stood on once more, or an error that says what has
                changed since. Without `known_at` and `at_least`.
            timeout: seconds for the whole export.
            progress: show progress on stderr (default: for long work on a terminal).
            stream: return while the rows are still coming. They can be taken once, batch by batch, by `to_reader()` or
                a consumer of Arrow streams; neither the spine nor they need to fit in memory.
        """
        when = When(None, known_at, exclusive, at_least)
        asked = Asked(entity_column, entity_columns, timestamp_column, features, statuses, when, pin)
        return self._walk(self._operations.query_offline(featureset, spine, asked, timeout, progress, stream))

    def changes(
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
        """The features of all keys over a stretch of time: for each key a row where it begins, or where the key comes
        to be known in it, and one at each instant at which a feature becomes another. At any time in between the
        features are those of the last row before. Columns: keys, `timestamp`, features; the result may be a spine.

        Args:
            since: aware datetime or ISO-8601 text; default: the first event, or the horizon of a `history=`.
            until: excluded; default: to now.
            features: only these; all must have the same keys. Request features and extractors that look up have no
                changes of their own: give a spine to `query_offline`.
            pin: the `pin` of an earlier answer: exactly that once more, or an error. `until` is given as the first time
                (`thyme.until` of the schema's metadata), `known_at` and `at_least` are not.
            stream: return while the rows are still coming; they can be taken once.
        """
        asked = Changes(features, statuses, When(None, known_at, exclusive, at_least))
        stretch = Stretch(since, until, pin)
        return self._walk(self._operations.changes(featureset, stretch, asked, timeout, progress, stream))

    def rows(
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
        """The accepted rows of a dataset with an index that no pipeline fills, late ones left out, in order of key,
        time and arrival. The arguments are those of `changes`."""
        when = When(None, known_at, False, at_least)
        stretch = Stretch(since, until, pin)
        return self._walk(self._operations.rows(dataset, stretch, when, timeout, progress, stream))

    def lookup(
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
        return self._walk(self._operations.lookup(dataset, key, When(ts, known_at, exclusive, at_least)))

    def explain(
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
        return self._walk(self._operations.explain(reference, key, when, inputs, features, max_events))

    def log(
        self, dataset: Any, rows: Any, event_ids: Iterable[str] | None = None, *, progress: bool | None = None
    ) -> LogResult:
        """Sends rows; durable when it returns. Bad rows come back with their reasons, good ones are kept.

        Many rows go over Arrow Flight. When the connection breaks they are sent again and count once.

        Args:
            rows: a list of dicts, a pandas or Polars DataFrame, pyarrow, anything with `__arrow_c_stream__`. A stream
                (a `pyarrow.RecordBatchReader`, an iterator of batches, DataFrames or dicts) is read as it is sent.
            event_ids: one text per row; the first event of an id wins within the dataset's dedup window.
            progress: show progress on stderr (default: for long work on a terminal).
        """
        return self._walk(self._operations.log(dataset, rows, event_ids, progress))

    def erase(self, dataset: Any, keys: Iterable[Any]) -> EraseResult:
        """Erases keys (scalars, or dicts for several fields): their events so far no longer count, on any replay.

        The result is `pending` while state grouped by another key is rebuilt without them; ask again with no keys.
        """
        return self._walk(self._operations.erase(dataset, keys))

    def status(self) -> dict[str, Any]:
        """How the server is doing: commit, datasets with counts and watermarks, builds, position, lag."""
        return self._send(control_calls.status())

    def runs(self, limit: int = 50, featureset: str = "", kind: str = "", cursor: str = "") -> dict[str, Any]:
        """Query runs, newest first: `{"runs": [...], "next_cursor": ...}`."""
        return self._send(control_calls.runs(limit, featureset, kind, cursor))

    def run(self, run_id: str) -> dict[str, Any]:
        """One query run by id."""
        return self._send(control_calls.run(run_id))

    def plan(self, definitions_json: str, remove: Sequence[str] = ()) -> dict[str, Any]:
        """What a commit would do."""
        return self._send(control_calls.plan(definitions_json, remove))

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
        return self._walk(
            self._operations.commit(definitions_json, dry_run, remove, supersede, message, wait, on_progress)
        )

    def list(self, what: str) -> list[dict[str, Any]]:
        """What the catalog holds: `datasets`, `pipelines`, `featuresets`, `sources` or `jobs`."""
        return self._send(control_calls.listing(what))

    def events(self, limit: int = 50, cursor: str = "", severity: str = "") -> dict[str, Any]:
        """What the server reports, newest first: `{"events": [...], "next_cursor": ...}`."""
        return self._send(control_calls.events(limit, cursor, severity))

    def rejected(self, dataset: str, limit: int = 50) -> list[dict[str, Any]]:
        """Rows of a dataset that did not become events: dead letters, samples of late rows, rows of its source that
        could not be read; with the reason, and at most `limit` of each kind."""
        return self._send(control_calls.rejected(dataset, limit))

    def test_source(self, dataset: str, limit: int = 5) -> dict[str, Any]:
        """The first rows of a dataset's source as they would be published; none is. `rejected` has those that do not
        fit the dataset, with place and reason. Raises if the source cannot be read."""
        return self._send(control_calls.test_source(dataset, limit))

    def pause_source(self, dataset: str) -> dict[str, Any]:
        """When it returns, no more rows of the dataset's source are published until it is resumed, restarts or not."""
        return self._send(control_calls.change_source("pause", dataset))

    def resume_source(self, dataset: str) -> dict[str, Any]:
        """A paused source goes on where it was."""
        return self._send(control_calls.change_source("resume", dataset))

    def reset_source(self, dataset: str) -> dict[str, Any]:
        """The dataset's source is read from its beginning again. Its rows keep their ids: those that were published
        within the dataset's `dedup_window` do not count twice, older ones do."""
        return self._send(control_calls.change_source("reset", dataset))

    def close(self) -> None:
        """Closes the connections."""
        self._operations.close()
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def shape(self, reference: Any, kind: str = "featureset", needs_keys: bool = True) -> Shape:
        """Keys and types of a `featureset`, `dataset` or `any`: of a class from itself, of a name from the server."""
        return self._walk(self._operations.shape(reference, kind, needs_keys))

    def _send(self, call: Call) -> Any:
        return self._walk(self._operations.send(call))

    def _walk(self, steps: Steps[Result]) -> Result:
        with contextlib.closing(steps):
            walk = Walk(steps)
            while walk.step is not None:
                try:
                    answer = self._take(walk.step)
                except ThymeError as error:
                    walk.failed(error)
                else:
                    walk.answered(answer)
            return walk.result

    def _take(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if not isinstance(step, Call):
            return step.function()
        try:
            return step.read(self._transport.send(step))
        except grpc.RpcError as error:
            raise self._transport.error(step, error) from None
