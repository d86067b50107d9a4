"""Feast on Redis: `inproc`, its library in the process that asks; `serve`, its HTTP server with a worker per core."""

from __future__ import annotations

import http.client
import json
import os
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureStore

import feast_definitions
from adapter import free_port, get, main, start_redis, start_server
from online_adapter import EXTRACTED, Ask, Online
from reference import ONLINE

LOADED_AT_ONCE = 10_000
CONFIG = """\
project: bench
registry: registry.db
provider: local
online_store:
    type: redis
    connection_string: localhost:{port}
offline_store:
    type: file
entity_key_serialization_version: 3
"""
FEATURES = [f"stats:{name}" for name in ONLINE]


class Feast(Online):
    """The values stored as of now, in a repository of its own."""

    version = f"Feast {version('feast')}"

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        os.environ["FEAST_USAGE"] = "False"
        self.repository = folder / f"feast_{os.getpid()}"
        self.repository.mkdir()
        config = CONFIG.format(port=start_redis(folder))
        (self.repository / "feature_store.yaml").write_text(config)
        self._load()
        self.url = None
        if method == "serve":
            self._serve()

    def _load(self) -> None:
        self.store = FeatureStore(repo_path=str(self.repository))
        self.store.apply(feast_definitions.definitions(self.repository / "stats.parquet"))
        rows = pd.DataFrame({"uid": self.stored["keys"], **{name: self.stored[name] for name in ONLINE}})
        rows["ts"] = datetime.now(timezone.utc)
        # Its counts are ints there too; a null stays one.
        rows = rows.astype({name: "int64" for name in ONLINE if name.startswith("count_")})
        for first in range(0, len(rows), LOADED_AT_ONCE):
            self.store.write_to_online_store("stats", rows.iloc[first : first + LOADED_AT_ONCE])

    def _serve(self) -> None:
        port = free_port()
        options = ("--port", str(port), "--no-access-log", "--workers", str(os.cpu_count()), "--max-requests", "0")
        command = (Path(sys.executable).with_name("feast"), "--chdir", self.repository, "serve", *options)
        self.url = ("127.0.0.1", port)
        here = str(Path(__file__).parent)  # the Python function of the registry is imported from here
        environment = os.environ | {"PYTHONPATH": here}
        start_server(command, lambda: get(f"http://127.0.0.1:{port}/health"), env=environment)

    def connect(self) -> Ask:
        """The ten features."""
        return self._asking(FEATURES)

    def connect_extracted(self) -> Ask:
        """And the one that a Python function makes."""
        return self._asking([*FEATURES, f"counted_on:{EXTRACTED}"])

    def _asking(self, features: list[str]) -> Ask:
        if self.url is None:
            return lambda keys: self.store.get_online_features(
                features=features, entity_rows=[{"uid": key} for key in keys]
            ).to_dict()
        connection = http.client.HTTPConnection(*self.url)
        headers = {"Content-Type": "application/json"}

        def ask(keys: list[int]) -> dict[str, list[Any]]:
            body = json.dumps({"features": features, "entities": {"uid": keys}})
            connection.request("POST", "/get-online-features", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200:
                raise ValueError(f"{answer.status}: {text[:200]!r}")
            found = json.loads(text)
            names = found["metadata"]["feature_names"]
            return {name: part["values"] for name, part in zip(names, found["results"], strict=True)}

        return ask


if __name__ == "__main__":
    main(Feast)
