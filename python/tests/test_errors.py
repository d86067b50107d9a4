"""One table of errors, the same in Python and in Rust."""

from __future__ import annotations

import re
from pathlib import Path

from thyme import errors


def test_the_table_is_the_servers_table():
    source = (Path(__file__).parents[2] / "services/core/src/error.rs").read_text(encoding="utf-8")
    rows = re.findall(r'row\(ErrorKind::(\w+), "(\w+)", (\d+), \d+, (\d+)\)', source)
    theirs = {code: (int(grpc), int(exit_code)) for _, code, grpc, exit_code in rows}
    ours = {code: (row.grpc, row.exit) for code, row in errors.ERROR_TABLE.items()}
    assert len(rows) == 14
    assert ours == theirs


def test_every_row_has_its_own_class():
    classes = [row.error for row in errors.ERROR_TABLE.values()]
    assert len(set(classes)) == len(classes)
    assert all(row.error.code == code for code, row in errors.ERROR_TABLE.items())


def test_text_carries_place_and_hint():
    error = errors.ThymeDefinitionError(
        "unknown column 'amuont'", hint="did you mean 'amount'?", location="features.py:12"
    )
    assert str(error) == "features.py:12: unknown column 'amuont' (hint: did you mean 'amount'?)"
    assert error.exit_code == 4
