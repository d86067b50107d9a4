"""The tables of the guides are those of the code: errors, settings, metrics; links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from thyme.errors import ERROR_TABLE

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guide"
SERVICES = ROOT / "services"

# As google.rpc.Code spells them.
CODES = {
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}


def test_errors():
    page = (GUIDE / "errors.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \| (\d+) \| (\w+) \((\d+)\) \| (\d+) \|", page, re.MULTILINE)
    source = (SERVICES / "core/src/error.rs").read_text(encoding="utf-8")
    table = re.findall(r'row\(ErrorKind::\w+, "(\w+)", (\d+), (\d+), (\d+)\)', source)
    assert len(table) == source.count("row(ErrorKind::") > 10
    assert [(code, grpc, http, leave) for code, http, _, grpc, leave in told] == table
    assert all(CODES[name] == int(number) for _, _, name, number, _ in told)
    assert {code: (row.grpc, row.exit) for code, row in ERROR_TABLE.items()} == {
        code: (int(grpc), int(leave)) for code, grpc, _, leave in table
    }


def test_settings():
    page = (GUIDE / "operations.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `([a-z_.]+)` \| `([^`]*)` \| (.*) \|$", page, re.MULTILINE)
    source = (SERVICES / "server/src/config/settings.rs").read_text(encoding="utf-8")
    table = re.findall(r'setting\(\s*"([^"]*)",\s*"([^"]*)",\s*"([^"]*)",?\s*\)', source)
    assert len(table) > 10
    assert told == table


def test_metrics():
    page = (GUIDE / "operations.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `(thyme_\w+)` \| (\w+) \|", page, re.MULTILINE))
    found = {}
    for file in SERVICES.glob("*/src/**/*.rs"):
        used = re.findall(r'metrics::(\w+)!\(\s*"(thyme_\w+)"', file.read_text(encoding="utf-8"))
        found.update({name: kind for kind, name in used})
    assert found, "no metric was found in the code"
    assert told == found


def test_links_lead_to_files():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if not link.startswith("http")
    ]
    assert len(links) > 5
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
