"""Polars: `rolling`, windows over events and spine together; `asof`, asof joins with running sums, without Max."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from adapter import main
from join_adapter import WINDOWS, Join


class Polars(Join):
    """Frames in memory, all cores."""

    version = f"Polars {pl.__version__}"

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        self.method = {"rolling": self.rolling, "asof": self.asof}[method]
        self.past = pl.DataFrame(vars(self.events))
        self.asked = {
            name: pl.DataFrame({"key": spine.key, "time": spine.time}).with_row_index("row").cast({"row": pl.Int64})
            for name, spine in self.spines.items()
        }
        del self.events, self.spines

    def join(self, spine: str) -> pl.DataFrame:
        """By the method."""
        return self.method(self.asked[spine])

    def columns(self, joined: pl.DataFrame) -> dict[str, object]:
        """As numpy: null becomes NaN."""
        return {name: joined[name].cast(pl.Float64).to_numpy() for name in joined.columns}

    def rolling(self, spine: pl.DataFrame) -> pl.DataFrame:
        """A spine row is one without an amount."""
        both = pl.concat([self.past, spine], how="diagonal").sort("key", "time")
        cents, is_event = pl.col("cents"), pl.col("cents").is_not_null()
        wanted = []
        for window, length in WINDOWS.items():
            how = {"by": "time", "window_size": f"{length}i", "closed": "both", "min_samples": 1}
            count = is_event.cast(pl.Int64).rolling_sum_by(**how).over("key")
            total = cents.fill_null(0).rolling_sum_by(**how).over("key")
            greatest = cents.rolling_max_by(**how).over("key")
            wanted += [
                count.alias(f"count_{window}"),
                total.alias(f"sum_cents_{window}"),
                (total / pl.when(count > 0).then(count)).alias(f"avg_cents_{window}"),
                greatest.alias(f"max_cents_{window}"),
            ]
        is_asked = pl.col("row").is_not_null()
        return both.lazy().with_columns(wanted).filter(is_asked).drop("key", "time", "cents").collect()

    def asof(self, spine: pl.DataFrame) -> pl.DataFrame:
        """What had come up to the end of the window, less what had come before its start."""
        running = (
            self.past.lazy()
            .sort("key", "time")
            .with_columns(n=pl.int_range(1, pl.len() + 1).over("key"), total=pl.col("cents").cum_sum().over("key"))
            .group_by("key", "time")
            .agg(pl.col("n", "total").max())
            .sort("time")
            .select("key", "n", "total", at="time")
        )
        joined = spine.lazy().sort("time")
        for name, back in {"here": 0, **{window: length + 1 for window, length in WINDOWS.items()}}.items():
            there = running.rename({"n": f"n_{name}", "total": f"total_{name}"})
            joined = joined.with_columns(asked=pl.col("time") - back).join_asof(
                there, left_on="asked", right_on="at", by="key", check_sortedness=False
            )
            joined = joined.drop("at", strict=False)
        wanted = [pl.col("row")]
        for window in WINDOWS:
            count, total = (
                pl.col(f"{kind}_here").fill_null(0) - pl.col(f"{kind}_{window}").fill_null(0) for kind in ("n", "total")
            )
            wanted += [
                count.alias(f"count_{window}"),
                total.alias(f"sum_cents_{window}"),
                (total / pl.when(count > 0).then(count)).alias(f"avg_cents_{window}"),
            ]
        return joined.select(wanted).collect()


if __name__ == "__main__":
    main(Polars)
