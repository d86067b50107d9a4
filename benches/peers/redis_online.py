"""Redis itself: HMGET of one hash per entity, many pipelined. A limit and not a rival: what is asked for was computed
before, and answers are bytes that nobody has read yet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import redis

from adapter import main, start_redis
from online_adapter import Ask, Online
from reference import ONLINE

LOADED_AT_ONCE = 5_000


class Redis(Online):
    """redis-py with hiredis over loopback. Null is a field that is not there."""

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        self.port = start_redis(folder)
        client = redis.Redis(port=self.port)
        self.version = f"Redis {client.info()['redis_version']}, redis-py {redis.__version__}"
        rows = np.column_stack([self.stored[name] for name in ONLINE]).tolist()
        keys = self.stored["keys"].tolist()
        for first in range(0, len(keys), LOADED_AT_ONCE):
            with client.pipeline(transaction=False) as pipeline:
                for key, row in zip(keys[first:][:LOADED_AT_ONCE], rows[first:], strict=False):
                    fields = {name: repr(value) for name, value in zip(ONLINE, row, strict=True) if value == value}
                    pipeline.hset(f"key:{key}", mapping=fields)
                pipeline.execute()

    def connect(self) -> Ask:
        """Values by feature are made for the check only."""
        client = redis.Redis(port=self.port)

        def ask(keys: list[int]) -> list[list[bytes]]:
            if len(keys) == 1:
                return [client.hmget(f"key:{keys[0]}", ONLINE)]
            with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.hmget(f"key:{key}", ONLINE)
                return pipeline.execute()

        return ask

    def answers(self, keys: list[int], entities: int) -> dict[str, np.ndarray]:
        """The bytes read."""
        ask = self.connect()
        rows = [row for first in range(0, len(keys), entities) for row in ask(keys[first : first + entities])]
        table = np.array([[np.nan if value is None else float(value) for value in row] for row in rows])
        return dict(zip(ONLINE, table.T, strict=True))


if __name__ == "__main__":
    main(Redis)
