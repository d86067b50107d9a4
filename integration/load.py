"""A client that sends rows to Order and retries, while a test does harm; afterwards every row counts once."""

from __future__ import annotations

import math
import random
import threading
from collections import defaultdict

from harness import SOAK
from shop import USERS, rows
from thyme import positions

# Without a rest, or with many rows at a time, a load takes a core, and a test waits for its turn most of the time.
REST_S = 0 if SOAK else 0.05
MOST = 300 if SOAK else 60


class Load:
    """Sends in the background, fewer than `most` rows at a time, until `finish`; `pause` lets it run."""

    def __init__(
        self, server, chance: random.Random, retry_for: float, most: int = MOST, rest_seconds: float = REST_S
    ) -> None:
        self.server, self.chance, self.retry_for = server, chance, retry_for
        self.most, self.rest_seconds = most, rest_seconds
        self.sent: list[dict[str, object]] = []
        self.position = ""
        self._failures: list[BaseException] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        try:
            with self.server.client(retry_for=self.retry_for) as client:
                while not self._stopping.wait(self.rest_seconds):
                    first = len(self.sent)
                    batch = rows(self.chance.randrange(1, self.most), first, first)
                    result = client.log("Order", batch)
                    assert result.accepted == len(batch) and not result.rejected
                    self.sent.extend(batch)
                    # A small batch is in a few partitions only.
                    self.position = positions.merge([self.position, result.position])
        except BaseException as error:
            self._failures.append(error)

    def pause(self, least: float, most: float) -> None:
        self._stopping.wait(self.chance.uniform(least, most))

    def finish(self, timeout: float) -> None:
        self._stopping.set()
        self._thread.join(timeout=timeout)
        assert not self._thread.is_alive()
        assert not self._failures, self._failures

    def check(self) -> None:
        check_rows(self.server, self.sent, self.position)


def check_rows(server, sent, position) -> None:
    """Every row counts once, its amounts to the bit."""
    amounts = defaultdict(list)
    for row in sent:
        amounts[row["user"]].append(row["amount"])
    with server.client() as client:
        answers = client.query_batch("UserFeatures", USERS, at_least=position).to_dicts()
        status = client.status()
    for user, answer in zip(USERS, answers, strict=True):
        assert answer["n_all"] == len(amounts[user]), (user, status)
        assert answer["total_all"] == math.fsum(amounts[user])
