"""Connections: addresses, credentials, deadlines, retries."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from thyme.errors import InvalidArgumentError, UnavailableError

Result = TypeVar("Result")

DEFAULT_URL = "http://127.0.0.1:8081"
DEFAULT_CONTROL_URL = "http://127.0.0.1:8080"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    url: str
    target: str
    secure: bool


@dataclass(frozen=True)
class Settings:
    """How the client reaches the server. `retry_for`: seconds for which an unreachable server is tried again."""

    queries: Address
    control: Address
    api_key: str | None
    timeout: float | None
    retry_for: float

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """Headers of every call."""
        return [("authorization", f"Bearer {self.api_key}")] if self.api_key else []

    def place(self, control: bool) -> Address:
        """One of the two addresses."""
        return self.control if control else self.queries


def settings(
    url: str | None, control_url: str | None, api_key: str | None, timeout: float | None, retry_for: float
) -> Settings:
    """Arguments, else the environment (`THYME_BASE_URL`, `THYME_CONTROL_URL`, `THYME_API_KEY`), else the defaults."""
    return Settings(
        queries=address(url or os.environ.get("THYME_BASE_URL") or DEFAULT_URL, "url"),
        control=address(control_url or os.environ.get("THYME_CONTROL_URL") or DEFAULT_CONTROL_URL, "control_url"),
        api_key=api_key or os.environ.get("THYME_API_KEY") or None,
        timeout=timeout,
        retry_for=retry_for,
    )


def address(url: str, what: str) -> Address:
    """Reads `http://host:port` or `https://host:port`.

    Raises:
        InvalidArgumentError: something else.
    """
    parts = urlsplit(url if "//" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("http", "https") or not parts.hostname or (port is None and parts.scheme == "http"):
        raise InvalidArgumentError(
            f"not an address: '{url}'", hint="write http://host:port, such as http://127.0.0.1:8081", field=what
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Address(url, f"{host}:{port or 443}", parts.scheme == "https")


def channel_options() -> list[tuple[str, int]]:
    """Large answers are taken; a server that restarts is found again quickly. To gRPC the least backoff is also what a
    connection may take: enough for one over an ocean, or to a machine that is busy. A machine that is gone without
    a word is noticed by calls without a deadline, too."""
    return [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", 30_000),
    ]


def pauses(retry_for: float) -> Iterator[float]:
    """Seconds to wait before each further try, growing, with jitter, until `retry_for` seconds after the first failure,
    which is when the first is asked for. What the tries themselves take counts."""
    pause, end = _FIRST_PAUSE, time.monotonic() + retry_for
    while (left := end - time.monotonic()) > 0:
        yield min(pause * random.uniform(0.5, 1.5), left)
        pause = min(pause * 2, _LONGEST_PAUSE)


def retried(work: Callable[[], Result], retry_for: float) -> Result:
    """What is safe to repeat, repeated for `retry_for` seconds while the server cannot be reached."""
    waits = pauses(retry_for)
    while True:
        try:
            return work()
        except UnavailableError as error:
            pause = next(waits, None)
            if pause is None:
                raise error from None
            time.sleep(pause)
