"""DuckDB: `range`, SQL windows over events and spine together; `asof`, ASOF joins with running sums, without Max."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from adapter import main
from join_adapter import WINDOWS, Join


class DuckDB(Join):
    """Tables in memory, all cores."""

    version = f"DuckDB {duckdb.__version__}"

    def __init__(self, folder: Path, method: str) -> None:
        super().__init__(folder)
        self.connection = duckdb.connect()
        # Found by name in the statements below.
        events = vars(self.events)  # noqa: F841
        self.connection.execute('create table events as select key, "time", cents from events')
        for name, spine in self.spines.items():
            rows = {"row": np.arange(len(spine)), "key": spine.key, "time": spine.time}  # noqa: F841
            self.connection.execute(f'create table spine_{name} as select "row", key, "time" from rows')
        del self.events, self.spines
        self.statement = {"range": _windows(), "asof": _asof()}[method]

    def join(self, spine: str) -> Any:
        """Fetched as columns."""
        return self.connection.execute(self.statement.format(spine=f"spine_{spine}")).fetchnumpy()


def _windows() -> str:
    functions = {
        "count": "count(cents)",
        "sum_cents": "sum(cents)",
        "avg_cents": "avg(cents)",
        "max_cents": "max(cents)",
    }
    wanted = [f"{call} over w_{w} as {kind}_{w}" for w in WINDOWS for kind, call in functions.items()]
    named = [
        f'w_{w} as (partition by key order by "time" range between {length} preceding and current row)'
        for w, length in WINDOWS.items()
    ]
    return f"""
        select * exclude (cents) replace ({", ".join(f"coalesce(sum_cents_{w}, 0) as sum_cents_{w}" for w in WINDOWS)})
        from (
            select "row", cents, {", ".join(wanted)}
            from (
                select null as "row", key, "time", cents from events
                union all select "row", key, "time", null from {{spine}}
            )
            window {", ".join(named)}
        )
        where "row" is not null"""


def _asof() -> str:
    wanted, joins = [], []
    for window, length in WINDOWS.items():
        count = f"coalesce(here.n, 0) - coalesce(before_{window}.n, 0)"
        total = f"coalesce(here.total, 0) - coalesce(before_{window}.total, 0)"
        wanted += [f"{count} as count_{window}", f"{total} as sum_cents_{window}"]
        wanted.append(f"({total}) / nullif({count}, 0) as avg_cents_{window}")
        joins.append(
            f"asof left join running before_{window} on spine.key = before_{window}.key"
            f' and spine."time" - {length + 1} >= before_{window}."time"'
        )
    return f"""
        with running as (
            select key, "time", max(n) as n, max(total) as total
            from (
                select key, "time", count(*) over w as n, sum(cents) over w as total from events
                window w as (partition by key order by "time" range between unbounded preceding and current row)
            )
            group by key, "time"
        )
        select spine."row", {", ".join(wanted)}
        from {{spine}} spine
        asof left join running here on spine.key = here.key and spine."time" >= here."time"
        {" ".join(joins)}"""


if __name__ == "__main__":
    main(DuckDB)
