"""The training set: every departure with its features just before it left, and a small model on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from parity import FEATURESET

if TYPE_CHECKING:
    import pandas as pd

    from thyme.client import Client

LATE_MINUTES = 15
TRAINED_SHARE = 0.75  # of the stream's time; the rest is the test
SCHEDULE = ["hour", "weekday", "distance", "carrier", "origin", "dest"]
FEATURE_PREFIXES = ("aircraft_", "carrier_", "origin_")
_KEYS = ["tailnum", "carrier", "origin"]


@dataclass(frozen=True)
class Aucs:
    """Area under the ROC curve, without and with the features; None where a class is missing."""

    without: float | None
    having: float | None


def export(client: Client, flights: pd.DataFrame, output: Path) -> pa.Table:
    """Every departure as spine, in a file: schedule, label, features as of the moment before it left."""
    left = flights[flights["departed"].notna()]
    local = left["scheduled"].dt.tz_convert("America/New_York")
    spine = pa.table(
        {
            **{name: pa.array(left[name].astype(object), pa.string()) for name in (*_KEYS, "dest")},
            "departed": pa.array(left["departed"], pa.timestamp("us", tz="UTC")),
            "hour": pa.array(local.dt.hour, pa.int64()),
            "weekday": pa.array(local.dt.weekday, pa.int64()),
            "distance": pa.array(left["distance"], pa.int64()),
            "is_late": pa.array((left["arr_delay"] > LATE_MINUTES).astype("boolean"), pa.bool_()),
        }
    )
    result = client.query_offline(FEATURESET, spine, timestamp_column="departed", exclusive=True)
    table = result.to_arrow()
    pq.write_table(table, output)
    return table


def has_all_rows(table: pa.Table, flights: pd.DataFrame) -> bool:
    """The spine came back: every departure, in order."""
    left = flights[flights["departed"].notna()]
    same = table.column("tailnum").to_pylist() == left["tailnum"].tolist()
    return same and len(table) == len(left) and pc.sum(pc.is_null(table.column("aircraft_late_share"))).as_py() == 0


def fit(path: Path) -> Aucs:
    """A small model on the first three quarters of the time, tested on the last."""
    frame = pq.read_table(path).to_pandas()
    frame = frame[frame["is_late"].notna()].sort_values("departed", kind="stable")
    for name in ("carrier", "origin", "dest"):
        frame[name] = frame[name].astype("category").cat.codes
    features = [name for name in frame.columns if name.startswith(FEATURE_PREFIXES) and frame[name].dtype != object]
    features = [name for name in features if name != "aircraft_last_origin"]
    cut = frame["departed"].min() + (frame["departed"].max() - frame["departed"].min()) * TRAINED_SHARE
    is_past = (frame["departed"] < cut).to_numpy()
    return Aucs(_auc(frame, is_past, SCHEDULE), _auc(frame, is_past, SCHEDULE + features))


def _auc(frame: pd.DataFrame, is_past: object, columns: list[str]) -> float | None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait do not take the processor from others
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    values = frame[columns].astype("float64").to_numpy()
    labels = frame["is_late"].astype(bool).to_numpy()
    past, rest = values[is_past], values[~is_past]
    if len(set(labels[is_past])) < 2 or len(set(labels[~is_past])) < 2:
        return None
    model = HistGradientBoostingClassifier(max_iter=40, learning_rate=0.2, random_state=0).fit(past, labels[is_past])
    return float(roc_auc_score(labels[~is_past], model.predict_proba(rest)[:, 1]))
