"""The native module: the server, and the real engine in memory. Errors are those of `thyme.errors`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa

def version() -> str:
    """Version of the native module; the package's own must be the same."""

def serve(config_json: str) -> None:
    """Runs the server until SIGINT or SIGTERM: `{"config_file": path or null, "flags": {"section.key": value}}`."""

def validate(definitions_json: str) -> str:
    """Checks definitions: `{"errors": [{"code", "message", "field", "hint", "location"}], "plan": {...} or null,
    "rendered": text}`; the plan is that of a first commit."""

def parse_window(text: str) -> int | None:
    """Microseconds of a window such as `1d12h`; None for `forever`. Raises InvalidArgumentError."""

class MockEngine:
    """Log, engine, state and queries in memory, as a server runs them. Whatever is added is applied when the call returns."""

    def __init__(
        self,
        definitions_json: str,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        clock: Literal["event", "wall"] = "event",
    ) -> None:
        """
        Args:
            definitions_json: as in a commit.
            functions: live extractors by `Featureset.extractor`, taking (ts, inputs...), already bound to their class. Without
                it the modules in the definitions are loaded, as on a server.
            clock: what "now" is until `set_now` is called. On the event clock no event is too far in the future.

        Raises:
            ThymeDefinitionError: the definitions do not hold together (all errors in the message).
        """

    @property
    def warnings(self) -> list[str]:
        """What loading the extractors warned of."""

    @property
    def native_extractors(self) -> list[str]:
        """Those that do without Python, as `Featureset.extractor`."""

    def add_events(self, dataset: str, rows: Any, event_ids: Sequence[str] | None = None) -> dict[str, Any]:
        """Rows as a list of dicts, or anything with `__arrow_c_stream__`. Returns `{"accepted": int, "rejected": [(index,
        reason)], "position": str}`."""

    def erase(self, dataset: str, keys: Sequence[Mapping[str, Any]]) -> int:
        """Erases keys (dicts by key field); returns how many."""

    def query(
        self,
        featureset: str,
        key: Mapping[str, Any] | Any,
        *,
        ts: datetime | None = None,
        known_at: datetime | str | None = None,
        exclusive: bool = False,
        inputs: Mapping[str, Any] | None = None,
        features: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """`{"featureset", "key": {}, "features": {}, "statuses": {}, "errors": {name: reason}, "mode", "ts", "watermark",
        "position", "final", "query_run_id"}`; times are datetimes in UTC. A key that is no mapping is the only key."""

    def lookup(
        self,
        dataset: str,
        key: Mapping[str, Any] | Any,
        *,
        ts: datetime | None = None,
        known_at: datetime | str | None = None,
        exclusive: bool = False,
    ) -> dict[str, Any]:
        """The same with `dataset` for `featureset`, and `"row"` (None for an unknown key of a raw dataset) for `features`."""

    def query_offline(
        self,
        featureset: str,
        spine: Any,
        *,
        timestamp_column: str,
        entity_columns: Mapping[str, str] | None = None,
        features: Sequence[str] | None = None,
        known_at: datetime | str | None = None,
        exclusive: bool = False,
        statuses: bool = False,
        pin: str | None = None,
        featuresets: Sequence[str] | None = None,
    ) -> pa.Table:
        """The spine (anything with `__arrow_c_stream__`) with the features: same rows, same order. What it stands on is in the
        schema's metadata, `thyme.*`. `entity_columns` maps key features to columns, `entity_id` stands for the only key.
        `featuresets` are several instead of one (`featureset` is empty then)."""

    def set_now(self, now: datetime | None) -> None:
        """Sets the clock; None goes back to the clock of the constructor."""

    def now(self) -> datetime:
        """What a query without `ts` takes as its time."""

    def close(self) -> None:
        """Frees everything. Further calls raise."""
