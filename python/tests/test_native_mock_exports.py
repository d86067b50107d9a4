"""Exports of `MockContext` over several featuresets."""

from __future__ import annotations

from datetime import datetime, timezone

from thyme import Count, dataset, feature, featureset, field, inputs, pipeline
from thyme.testing import MockContext

NOON = datetime(2024, 1, 15, 12, tzinfo=timezone.utc)


def test_several_featuresets_are_exported_side_by_side():
    @dataset
    class Sale:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)

    @dataset(index=True)
    class Totals:
        user_id: str = field(key=True)
        ts: datetime = field(timestamp=True)
        sales: int

        @pipeline
        @inputs(Sale)
        def compute(cls, sales):
            return sales.groupby("user_id").aggregate(sales=Count(window="1d"))

    @featureset
    class Buyer:
        uid: str
        sales: int = feature(ref=Totals.sales)

    @featureset
    class Seller:
        sid: str
        sales: int = feature(ref=Totals.sales)

    spine = [{"who": user, "timestamp": NOON} for user in ("u1", "nobody")]
    with MockContext() as mock:
        mock.add_events(Sale, [{"user_id": "u1", "ts": NOON}] * 2)
        asked = {"entity_column": "who", "features": [Buyer.sales, "Seller.sales"], "statuses": True}
        joined = mock.query_offline([Buyer, Seller], spine, **asked)
        names = ["Buyer.sales", "Seller.sales", "Buyer.sales__status", "Seller.sales__status"]
        assert joined.column_names == ["who", "timestamp", *names]
        assert joined["Buyer.sales"] == joined["Seller.sales"] == [2, 0]
        mock.add_events(Sale, [{"user_id": "u1", "ts": NOON}])
        alone = mock.query_offline(Seller, spine, entity_column="who", pin=joined.pin)
        assert alone["sales"] == [2, 0], "its pin serves each of them"
