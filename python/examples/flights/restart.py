"""SIGKILL in mid-stream, and the proof that it changed nothing: the same stream into a server that is left alone."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from parity import FEATURESET

if TYPE_CHECKING:
    import pandas as pd
    from server import Server

    from thyme.client import Client

TIMES = 12  # times in the past at which all keys are compared, besides now
KEYS_PER_CALL = 1_000


class Killer:
    """Kills the server just after the stream has passed its middle, while a call is on its way, and starts it again."""

    def __init__(self, server: Server, at_flight: int, delay: float = 0.005) -> None:
        self.down_seconds = 0.0
        self._server = server
        self._at_flight = at_flight
        self._delay = delay
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def reached(self, seen: int) -> None:
        if self._thread is None and seen >= self._at_flight:
            self._thread = threading.Thread(target=self._run, name="killer", daemon=True)
            self._thread.start()
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        time.sleep(self._delay)
        began = time.monotonic()
        self._server.kill()
        try:
            self._server.start()
        except BaseException as error:  # handed to the stream
            self._failure = error
        self.down_seconds = time.monotonic() - began


def everything(client: Client, flights: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The features of every aircraft, carrier and airport, now and at times all over the stream, exact to the bit."""
    left = flights[flights["departed"].notna()]
    pairs = left.groupby("tailnum", sort=True)[["carrier", "origin"]].last().reset_index()
    both = left[["tailnum", "carrier", "origin"]].drop_duplicates(["carrier", "origin"])
    keys = [*pairs.to_dict("records"), *both.to_dict("records")]
    first, last = left["departed"].min(), left["departed"].max()
    times: list[Any] = [None, *((first + (last - first) * (n + 1) / TIMES).floor("us") for n in range(TIMES))]
    found = {}
    for at in times:
        ts = None if at is None else at.to_pydatetime()
        for start in range(0, len(keys), KEYS_PER_CALL):
            part = keys[start : start + KEYS_PER_CALL]
            result = client.query_batch(FEATURESET, part, ts=ts)
            statuses = list(result.statuses.items())
            for row, (key, values) in enumerate(zip(part, result.to_dicts(), strict=True)):
                kept = [(name, of_rows[row]) for name, of_rows in statuses]
                found[repr(key), f"{ts or result.ts}"] = repr((values, kept))
    return found


def differences(one: dict[tuple[str, str], str], other: dict[tuple[str, str], str]) -> list[str]:
    """Where two servers disagree."""
    return [
        f"{' at '.join(place)}\n  one   {one.get(place)}\n  other {other.get(place)}"
        for place in sorted(one.keys() | other.keys())
        if one.get(place) != other.get(place)
    ]
