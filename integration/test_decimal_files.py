"""Files fill Decimals: of each kind what stands there is read exactly, and what is no Decimal is a dead letter."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pytest

START = datetime(2025, 6, 1, tzinfo=timezone.utc)
FILES = """
from datetime import datetime
from decimal import Decimal

from thyme import FileSource, Sum, dataset, field, inputs, pipeline, source


@source(FileSource("{file}"), every="1s")
@dataset(index=True, version=1)
class Sale:
    shop: int = field(key=True)
    ts: datetime = field(timestamp=True)
    amount: Decimal


@dataset(index=True, version=1)
class Sales:
    shop: int = field(key=True)
    ts: datetime = field(timestamp=True)
    total: Decimal

    @pipeline(version=1)
    @inputs(Sale)
    def compute(cls, sales):
        return sales.groupby("shop").aggregate(total=Sum(of="amount", window="forever"))
"""


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_files_fill_decimals(server, kind):
    ts = "2025-06-01T00:00:00Z"
    path = server.directory / f"sales.{kind}"
    if kind == "jsonl":
        amounts = ['"0.10"', '"0.20"', "7", "1.5", '"1e30"']
        text = "".join(f'{{"shop": 1, "ts": "{ts}", "amount": {amount}}}\n' for amount in amounts)
        path.write_text(text, encoding="utf-8")
    elif kind == "csv":
        amounts = ["0.10", "0.20", "7", "NaN", "1e30"]
        path.write_text("shop,ts,amount\n" + "".join(f"1,{ts},{amount}\n" for amount in amounts), encoding="utf-8")
    else:
        import pyarrow.parquet as pq

        amounts = [Decimal("0.10"), Decimal("0.20"), Decimal(7), Decimal("1e25"), Decimal("2e25")]
        column = pa.array(amounts, pa.decimal128(38, 2))
        pq.write_table(pa.table({"shop": [1] * 5, "ts": [START] * 5, "amount": column}), path)
    assert server.commit(FILES.format(file=path.name)).returncode == 0
    deadline = time.monotonic() + 60
    with server.client() as client:
        while client.lookup("Sales", 1).to_dicts()[0]["total"] != Decimal("7.3"):
            assert time.monotonic() < deadline, client.list("sources")
            time.sleep(0.05)
        [counts] = [found["counts"] for found in client.list("datasets") if found["name"] == "Sale"]
    assert counts["accepted"] == 3 and counts["dead_letters"] == 2, counts
