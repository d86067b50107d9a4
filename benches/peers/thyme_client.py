"""Thyme by its Python client: definitions and events in, questions and spines answered."""

from __future__ import annotations

import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa

import definitions
import thyme
import workload
from adapter import main
from join_adapter import in_order
from online_adapter import EXTRACTED, Ask, Online
from reference import AMOUNTS, ONLINE, columns
from thyme.definitions import build_definitions

TIME = pa.timestamp("us", tz="UTC")
LOOK_AGAIN = 0.02
HEALTH = "/grpc.health.v1.Health/Check"


class Thyme(Online):
    """A client of the server it is told of."""

    version = f"Thyme {version('thyme-platform')}"

    def __init__(self, folder: Path, method: str) -> None:
        self.folder = folder
        self.tables: dict[str, pa.Table] = {}
        self.client: thyme.Client | None = None

    def open(self, url: str, control: str) -> dict[str, Any]:
        """From here on of this server."""
        self.urls = (url, control)
        self.client = thyme.Client(*self.urls)
        return {}

    def table(self, name: str) -> pa.Table:
        """Rows of the workload as Arrow."""
        if name not in self.tables:
            rows = workload.read(self.folder, name)
            found = {"key": pa.array(rows.key), "ts": pa.array(rows.time, pa.int64()).cast(TIME)}
            if rows.cents is not None:
                found["amount"] = pa.array(rows.cents / 100)
            self.tables[name] = pa.table(found)
        return self.tables[name]

    def commit(self, windows: list[str]) -> dict[str, Any]:
        """The definitions, narrowed to some windows."""
        self.client.commit(json.dumps(narrowed(build_definitions(), windows)))
        self.table("events")
        return {}

    def ingest(self) -> dict[str, Any]:
        """All events, until they are in state. They are not kept: the memory of an export is measured later."""
        events = self.tables.pop("events")
        sent = self.client.log(definitions.Purchase, events, progress=False)
        assert sent.accepted == len(events), sent.rejected[:3]
        while (status := self.client.status())["lag"] != 0:
            time.sleep(LOOK_AGAIN)
        counts = next(found["counts"] for found in status["datasets"] if found["name"] == "Purchase")
        assert counts["accepted"] == len(events), counts
        return {}

    def export(self, spine: str, times: int = 1) -> dict[str, Any]:
        """The spine joined, over Flight, into memory."""
        self.table(spine)
        for _ in range(times):
            self.joined = None
            self.joined = self.exported(spine)
            assert len(self.joined) == len(self.table(spine))
        return {}

    def exported(self, spine: str, windows: list[str] | None = None) -> pa.Table:
        """Rows in the order of the spine."""
        features = None if windows is None else columns(AMOUNTS, windows)
        asked = {"timestamp_column": "ts", "features": features, "progress": False}
        return self.client.query_offline("Everything", self.table(spine), **asked).to_arrow()

    def joined_answers(self, spine: str, windows: list[str] | None = None) -> dict[str, np.ndarray]:
        """What an export gives, to be checked."""
        joined = self.exported(spine, windows)
        names = [name for name in joined.column_names if name not in ("key", "ts")]
        found = {name: joined[name].to_numpy(zero_copy_only=False) for name in names}
        return in_order({"row": np.arange(len(joined)), **found})

    def online(self) -> dict[str, Any]:
        """From here on whom to ask for is known."""
        Online.__init__(self, self.folder)
        return {}

    def connect(self) -> Ask:
        """The ten features."""
        return self._asking("Everything", ONLINE)

    def connect_extracted(self) -> Ask:
        """And the one that a Python function makes."""
        return self._asking("Extracted", (*ONLINE, EXTRACTED))

    def _asking(self, featureset: str, features: tuple[str, ...]) -> Ask:
        client = thyme.Client(*self.urls)

        def ask(keys: list[int]) -> dict[str, list[Any]]:
            if len(keys) == 1:
                found = client.query(featureset, keys[0], features=features)
            else:
                found = client.query_batch(featureset, keys, features=features)
            if found.errors:
                raise ValueError(str(found.errors))
            return {column.name: column.values for column in found.columns}

        return ask

    def empty(self, calls: int, seed: int) -> dict[str, Any]:
        """Calls of gRPC's health service on the same server, which do nothing, without our client."""
        with grpc.insecure_channel(self.urls[0].removeprefix("http://")) as channel:
            check = channel.unary_unary(HEALTH, lambda request: request, lambda answer: answer)
            return self.timed(lambda _keys: {"status": check(b"")}, 1, calls, seed)


def narrowed(found: dict[str, Any], windows: list[str]) -> dict[str, Any]:
    """Only the aggregates over these windows; without the extractor, where not all are there."""

    def stays(named: dict[str, Any]) -> bool:
        window = named["name"].rpartition("_")[2]
        return window not in workload.WINDOWS or window in windows

    if set(windows) == set(workload.WINDOWS):
        return found
    for dataset in found["datasets"]:
        dataset["fields"] = [field for field in dataset["fields"] if stays(field)]
    for pipeline in found["pipelines"]:
        pipeline["aggregates"] = [aggregate for aggregate in pipeline["aggregates"] if stays(aggregate)]
    found["featuresets"] = [one for one in found["featuresets"] if one["name"] == "Everything"]
    for featureset in found["featuresets"]:
        featureset["features"] = [feature for feature in featureset["features"] if stays(feature)]
    found["modules"] = []
    return found


if __name__ == "__main__":
    main(Thyme)
