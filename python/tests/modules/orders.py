"""The example of the documentation, with everything that definitions can say."""

from datetime import datetime
from typing import Optional

from orders_helpers import risky

from thyme import (
    ApproxPercentile,
    Avg,
    Count,
    CountDistinct,
    ExpDecaySum,
    FileSource,
    First,
    FirstK,
    Last,
    LastK,
    Max,
    Min,
    Stddev,
    Sum,
    TopK,
    TopKEntry,
    Variance,
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
    source,
    when,
)  # fmt: skip


@source(FileSource("orders.jsonl"), cursor="ts", every="5s", max_lateness="1h", cdc="append", owner="shop")
@dataset(index=True, version=1, max_lateness="2h", partitions=4, tags=["shop", "raw"])
class Order:
    """What customers bought."""

    user_id: str = field(key=True, description="who bought")
    ts: datetime = field(timestamp=True)
    amount: float
    item_count: int = field()
    coupon: Optional[str]  # noqa: UP045
    labels: "list[str]"


@dataset(index=True, version=2)
class UserStats:
    user_id: str = field(key=True)
    ts: datetime = field(timestamp=True)
    orders_1h: int
    spend_7d: float
    avg_7d: float
    least_7d: float
    biggest_7d: float
    rank_30d: float
    p95_30d: float
    last_coupon: str | None
    first_coupon: str | None
    newest: list[float]
    oldest: list[float]
    spread: float
    variance: float
    coupons: int
    favourites: list[TopKEntry[str]]
    heat: float

    @pipeline(version=3)
    @inputs(Order)
    def compute(cls, orders):
        return (
            orders.filter(col("amount") > 0)
            .assign(net=col("amount") * 0.8, size=when(col("item_count") > 10).then("big").otherwise("small"))
            .groupby("user_id")
            .aggregate(
                orders_1h=Count(window="1h"),
                spend_7d=Sum(of="net", window="7d", default=0.0),
                avg_7d=Avg(of="amount", window="7d"),
                least_7d=Min(of="amount", window="7d"),
                biggest_7d=Max(of="amount", window="7d", where=(col("item_count") > 1) & (col("size") == "big")),
                rank_30d=ApproxPercentile(of="amount", window="30d"),
                p95_30d=ApproxPercentile(of="amount", window="30d", pct=95),
                last_coupon=Last(of="coupon", dropnull=True),
                first_coupon=First(of="coupon", window="forever"),
                newest=LastK(of="amount", window="30d", k=3, dedup=True),
                oldest=FirstK(of="amount", window="1d12h"),
                spread=Stddev(of="amount", window="30d"),
                variance=Variance(of="amount", window="30d", sample=True),
                coupons=CountDistinct(of="coupon", window="30d", approx=True),
                favourites=TopK(of="coupon", window="30d", k=2),
                heat=ExpDecaySum(of="amount", window="30d", half_life="1d"),
            )
        )


@featureset(owner="risk", description="What the risk model sees.", tags=["risk"])
class UserFeatures:
    uid: str = feature(id=1)
    orders_1h: int = feature(id=2, ref=UserStats.orders_1h, default=0)
    spend_7d: float = feature(id=3)
    suspicious: bool = feature(id=4)
    basket: float = feature(request=True)
    biggest: float = feature(ref=UserStats.biggest_7d, on={"user_id": "uid"}, default=0, deprecated=True)

    @extractor(deps=[UserStats], version=1)
    @extractor_inputs("uid")
    @extractor_outputs("spend_7d")
    def from_stats(cls, ts, inputs):
        return UserStats.lookup(ts, user_id=inputs["uid"])["spend_7d"]

    @extractor(deadline="2s")
    @extractor_inputs("orders_1h", spend_7d, basket)
    @extractor_outputs("suspicious")
    def judge(cls, ts, orders_1h, spend_7d, basket):
        return risky(orders_1h, spend_7d + basket)


@featureset
class Other:
    uid: str
    doubled: float

    @extractor(batch=True)
    @extractor_inputs(UserFeatures.spend_7d)
    @extractor_outputs("doubled")
    def double(cls, ts, spend):
        return spend * 2
