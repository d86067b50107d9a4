"""The demo on the first flights of the year: everything it promises, by the command that a user types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("thyme._native")

DEMO = Path(__file__).parents[1] / "python" / "examples" / "flights" / "demo.py"
FIELDS = [
    "flights_sent", "accepted", "late_dropped", "parity_asked", "parity_differences", "differs_by_ts_alone",
    "restart_differences", "export_rows", "auc_with", "auc_without", "seconds",
]  # fmt: skip


def test_the_first_flights_of_the_year(tmp_path):
    command = [sys.executable, str(DEMO), "--flights", "6000", "--folder", str(tmp_path / "demo")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "✓ 6 of 6 runs are on record under the ids shown" in done.stdout
    next_steps = done.stdout.partition("What to try next")[2]
    assert next_steps.index("/bin/activate") < next_steps.index("$ thyme "), "the command is not on the PATH yet"
    result = json.loads(done.stdout.splitlines()[-1])
    assert list(result) == FIELDS
    assert result["parity_differences"] == result["restart_differences"] == result["late_dropped"] == 0
    assert result["parity_asked"] == 600
    assert result["export_rows"] == result["flights_sent"]
    assert result["accepted"] > 1.9 * result["flights_sent"]
    assert (tmp_path / "demo" / "training.parquet").exists()


def test_nonsense_is_refused(tmp_path):
    done = subprocess.run([sys.executable, str(DEMO), "--flights", "0"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "--flights" in done.stderr
