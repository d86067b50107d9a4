"""What Feast serves: the ten features as they were stored, and one that a Python function makes of them when asked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

from reference import ONLINE


def definitions(source: Path) -> list[Any]:
    """For `FeatureStore.apply`; the source is never read."""
    user = Entity(name="user", join_keys=["uid"], value_type=ValueType.INT64)
    fields = [Field(name=name, dtype=Int64 if name.startswith("count_") else Float64) for name in ONLINE]
    stats = FeatureView(
        name="stats",
        entities=[user],
        ttl=timedelta(days=3650),
        schema=[Field(name="uid", dtype=Int64), *fields],
        source=FileSource(path=str(source), timestamp_field="ts"),
        online=True,
    )

    @on_demand_feature_view(
        sources=[stats], schema=[Field(name="next_count", dtype=Int64)], mode="python", singleton=True
    )
    def counted_on(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"next_count": inputs["count_1h"] + 1}

    return [user, stats, counted_on]
