"""What `thyme init` writes."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from thyme.errors import ConflictError
from thyme.literals import format_micros

FEATURES = '''"""Orders, what they add up to per user, and the features that a model asks for."""

from datetime import datetime

from thyme import (
    Avg,
    Count,
    Max,
    Sum,
    col,
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


@dataset(index=True, version=1, max_lateness="1h")
class Order:
    """What customers bought."""

    user_id: str = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: float
    item_count: int


@dataset(index=True, version=1)
class UserStats:
    """Per user, over the last hour, day and week."""

    user_id: str = field(key=True)
    ts: datetime = field(timestamp=True)
    orders_1d: int
    spend_7d: float
    average_7d: float
    biggest_7d: float

    @pipeline(version=1)
    @inputs(Order)
    def compute(cls, orders):
        return (
            orders.filter(col("amount") > 0)
            .groupby("user_id")
            .aggregate(
                orders_1d=Count(window="1d"),
                spend_7d=Sum(of="amount", window="7d"),
                average_7d=Avg(of="amount", window="7d"),
                biggest_7d=Max(of="amount", window="7d", where=col("item_count") > 1),
            )
        )


@featureset
class UserFeatures:
    """What the model asks for. `uid` is the key: nothing produces it."""

    uid: str = feature(id=1)
    orders_1d: int = feature(id=2, ref=UserStats.orders_1d, default=0)
    spend_7d: float = feature(id=3, ref=UserStats.spend_7d, default=0.0)
    biggest_7d: float = feature(id=4, ref=UserStats.biggest_7d, default=0.0)
    share_of_biggest: float = feature(id=5)

    @extractor(version=1)
    @extractor_inputs("spend_7d", "biggest_7d")
    @extractor_outputs("share_of_biggest")
    def share(cls, ts, spend_7d, biggest_7d):
        return biggest_7d / spend_7d if spend_7d else 0.0
'''
_ORDERS, _USERS, _WEEK_SECONDS, _SEED = 2_000, 20, 7 * 86_400, 7


def write_project(directory: Path) -> list[Path]:
    """Writes `features.py` and `orders.jsonl` (orders of the week that ends now).

    Raises:
        ConflictError: one of them is there already.
    """
    features, orders = directory / "features.py", directory / "orders.jsonl"
    for path in (features, orders):
        if path.exists():
            raise ConflictError(f"{path} is there already", hint="give an empty directory: thyme init my-features")
    directory.mkdir(parents=True, exist_ok=True)
    features.write_text(FEATURES, encoding="utf-8")
    orders.write_text("".join(f"{json.dumps(row)}\n" for row in sample_orders(int(time.time()))), encoding="utf-8")
    return [features, orders]


def sample_orders(now_seconds: int) -> list[dict[str, object]]:
    """Orders in order of time, the last one a minute before `now_seconds`."""
    draw = random.Random(_SEED)
    ages = sorted(draw.sample(range(61, _WEEK_SECONDS), _ORDERS - 1), reverse=True)
    return [
        {
            "user_id": f"user_{draw.randrange(_USERS)}",
            "ts": format_micros((now_seconds - age) * 1_000_000),
            "amount": round(draw.lognormvariate(3.0, 1.0), 2),
            "item_count": draw.randrange(1, 6),
        }
        for age in [*ages, 60]
    ]
