"""Definitions that several tests commit, and rows for them."""

from __future__ import annotations

import random

SOURCE = """
from datetime import datetime
from typing import Optional

from thyme import (
    Avg, Count, CountDistinct, Last, LastK, Max, Min, Stddev, Sum, ApproxPercentile, col, dataset, extractor,
    extractor_inputs, extractor_outputs, feature, featureset, field, inputs, pipeline,
)


@dataset(index=True, version=1, max_lateness="6h")
class Order:
    order_id: int = field(key=True)
    ts: datetime = field(timestamp=True)
    user: str
    amount: float
    city: Optional[str]


@dataset(index=True, version=1)
class UserStats:
    user: str = field(key=True)
    ts: datetime = field(timestamp=True)
    n_all: int
    n_1h: int
    total_all: float
    total_1d: float
    avg_1d: float
    least_1d: float
    most_1d: float
    spread_1d: float
    rank_1d: float
    last_city: Optional[str]
    newest: list[float]
    cities: int
    big_1d: int

    @pipeline(version=1)
    @inputs(Order)
    def compute(cls, orders):
        return orders.groupby("user").aggregate(
            n_all=Count(window="forever"),
            n_1h=Count(window="1h"),
            total_all=Sum(of="amount", window="forever"),
            total_1d=Sum(of="amount", window="1d"),
            avg_1d=Avg(of="amount", window="1d"),
            least_1d=Min(of="amount", window="1d"),
            most_1d=Max(of="amount", window="1d"),
            spread_1d=Stddev(of="amount", window="1d"),
            rank_1d=ApproxPercentile(of="amount", window="1d"),
            last_city=Last(of="city", window="7d"),
            newest=LastK(of="amount", window="1d", k=3),
            cities=CountDistinct(of="city", window="7d"),
            big_1d=Count(window="1d", where=col("amount") > 50),
        )


@featureset
class UserFeatures:
    user: str
    n_all: int = feature(ref=UserStats.n_all)
    n_1h: int = feature(ref=UserStats.n_1h)
    total_all: float = feature(ref=UserStats.total_all)
    total_1d: float = feature(ref=UserStats.total_1d)
    avg_1d: float = feature(ref=UserStats.avg_1d)
    least_1d: float = feature(ref=UserStats.least_1d)
    most_1d: float = feature(ref=UserStats.most_1d)
    spread_1d: float = feature(ref=UserStats.spread_1d)
    rank_1d: float = feature(ref=UserStats.rank_1d)
    last_city: Optional[str] = feature(ref=UserStats.last_city)
    newest: list[float] = feature(ref=UserStats.newest)
    cities: int = feature(ref=UserStats.cities)
    big_1d: int = feature(ref=UserStats.big_1d)
    share: float

    @extractor
    @extractor_inputs("total_1d", "total_all")
    @extractor_outputs("share")
    def compute_share(cls, ts, total_1d, total_all):
        return total_1d / total_all if total_all else 0.0
"""

START = 1_750_000_000_000_000  # microseconds
USERS = [f"user_{number}" for number in range(40)]


def rows(count: int, seed: int, first_id: int = 0) -> list[dict[str, object]]:
    """Orders a few minutes apart, one in five up to five hours late."""
    random_numbers = random.Random(seed)
    made = []
    for number in range(first_id, first_id + count):
        time = START + number * 120_000_000 + random_numbers.randrange(1_000_000)
        if random_numbers.random() < 0.2:
            time -= random_numbers.randrange(5 * 3_600_000_000)
        made.append(
            {
                "order_id": number,
                "ts": micros_text(time),
                "user": random_numbers.choice(USERS),
                "amount": random_numbers.choice([0.1, 1e9, 33.3, 1e-9]) * random_numbers.randrange(1, 1000),
                "city": random_numbers.choice(["Oslo", "Rome", None]),
            }
        )
    return made


def micros_text(micros: int) -> str:
    """ISO-8601 in UTC."""
    from datetime import datetime, timedelta, timezone

    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=micros)
    return moment.isoformat().replace("+00:00", "Z")
