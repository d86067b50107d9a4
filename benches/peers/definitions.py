"""What Thyme computes: the dataset, the windows, and an extractor that needs the interpreter."""

from __future__ import annotations

from datetime import datetime
from typing import Optional

from thyme import (
    Avg,
    Count,
    Max,
    Sum,
    dataset,
    extractor,
    extractor_inputs,
    extractor_outputs,
    feature,
    featureset,
    field,
    inputs,
    pipeline,
)


@dataset(version=1, max_lateness="15m")
class Purchase:
    key: int = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: float


@dataset(index=True, version=1)
class Stats:
    key: int = field(key=True)
    ts: datetime = field(timestamp=True)
    count_1h: int
    sum_1h: float
    avg_1h: Optional[float]  # noqa: UP045  (read at run time, by Python 3.10 too)
    max_1h: Optional[float]  # noqa: UP045
    count_24h: int
    sum_24h: float
    avg_24h: Optional[float]  # noqa: UP045
    max_24h: Optional[float]  # noqa: UP045
    count_7d: int
    sum_7d: float
    avg_7d: Optional[float]  # noqa: UP045
    max_7d: Optional[float]  # noqa: UP045

    @pipeline(version=1)
    @inputs(Purchase)
    def compute(cls, purchases):
        return purchases.groupby("key").aggregate(
            count_1h=Count(window="1h"),
            sum_1h=Sum(of="amount", window="1h"),
            avg_1h=Avg(of="amount", window="1h"),
            max_1h=Max(of="amount", window="1h"),
            count_24h=Count(window="24h"),
            sum_24h=Sum(of="amount", window="24h"),
            avg_24h=Avg(of="amount", window="24h"),
            max_24h=Max(of="amount", window="24h"),
            count_7d=Count(window="7d"),
            sum_7d=Sum(of="amount", window="7d"),
            avg_7d=Avg(of="amount", window="7d"),
            max_7d=Max(of="amount", window="7d"),
        )


@featureset
class Everything:
    key: int
    count_1h: int = feature(ref=Stats.count_1h)
    sum_1h: float = feature(ref=Stats.sum_1h)
    avg_1h: Optional[float] = feature(ref=Stats.avg_1h)  # noqa: UP045
    max_1h: Optional[float] = feature(ref=Stats.max_1h)  # noqa: UP045
    count_24h: int = feature(ref=Stats.count_24h)
    sum_24h: float = feature(ref=Stats.sum_24h)
    avg_24h: Optional[float] = feature(ref=Stats.avg_24h)  # noqa: UP045
    max_24h: Optional[float] = feature(ref=Stats.max_24h)  # noqa: UP045
    count_7d: int = feature(ref=Stats.count_7d)
    sum_7d: float = feature(ref=Stats.sum_7d)
    avg_7d: Optional[float] = feature(ref=Stats.avg_7d)  # noqa: UP045
    max_7d: Optional[float] = feature(ref=Stats.max_7d)  # noqa: UP045


@featureset
class Extracted:
    """The ten features of an online question and one that a Python function makes of them."""

    key: int
    count_1h: int = feature(ref=Stats.count_1h)
    sum_1h: float = feature(ref=Stats.sum_1h)
    avg_1h: Optional[float] = feature(ref=Stats.avg_1h)  # noqa: UP045
    max_1h: Optional[float] = feature(ref=Stats.max_1h)  # noqa: UP045
    count_24h: int = feature(ref=Stats.count_24h)
    sum_24h: float = feature(ref=Stats.sum_24h)
    avg_24h: Optional[float] = feature(ref=Stats.avg_24h)  # noqa: UP045
    max_24h: Optional[float] = feature(ref=Stats.max_24h)  # noqa: UP045
    count_7d: int = feature(ref=Stats.count_7d)
    sum_7d: float = feature(ref=Stats.sum_7d)
    next_count: int

    @extractor(version=1)
    @extractor_inputs("count_1h")
    @extractor_outputs("next_count")
    def count_on(cls, ts, count_1h):
        return next_of(count_1h)


def next_of(number):
    """A call is more than a plain expression: with it the extractor stays in Python."""
    return number + 1
