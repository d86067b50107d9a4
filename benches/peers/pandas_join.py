"""pandas: rolling windows per key over events and spine together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from adapter import main
from join_adapter import WINDOWS, Join


class Pandas(Join):
    """Frames in memory, one core."""

    version = f"pandas {pd.__version__}"

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        self.past = pd.DataFrame(vars(self.events)).assign(row=-1)
        self.asked = {
            name: pd.DataFrame({"key": spine.key, "time": spine.time, "cents": np.nan, "row": np.arange(len(spine))})
            for name, spine in self.spines.items()
        }
        del self.events, self.spines

    def join(self, spine: str) -> pd.DataFrame:
        """A window ends with its row, so of rows of one time events, whose row is -1, come first."""
        both = pd.concat([self.past, self.asked[spine]]).sort_values(["key", "time", "row"], kind="stable")
        both.index = pd.to_datetime(both["time"], unit="us")
        grouped = both.groupby("key", sort=True)["cents"]
        joined = {"row": both["row"].to_numpy()}
        for window, length in WINDOWS.items():
            rolling = grouped.rolling(pd.Timedelta(microseconds=length), closed="both", min_periods=0)
            count, total = rolling.count().to_numpy(), rolling.sum().to_numpy()
            joined |= {f"count_{window}": count, f"sum_cents_{window}": total}
            joined[f"avg_cents_{window}"] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
            joined[f"max_cents_{window}"] = rolling.max().to_numpy()
        result = pd.DataFrame(joined, copy=False)
        return result[result["row"] >= 0]

    def columns(self, joined: pd.DataFrame) -> dict[str, np.ndarray]:
        """As numpy."""
        return {name: joined[name].to_numpy() for name in joined.columns}


if __name__ == "__main__":
    main(Pandas)
