"""The tables of the guides are those of the code: errors, settings, metrics, calls; links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from google.protobuf import json_format

from thyme import _proto
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


def test_lines_of_grpcurl():
    """No test has the tool: each line names a call of the service on its port, and its body is one of that call's."""
    page = (GUIDE / "grpc.md").read_text(encoding="utf-8")
    lines = re.findall(
        r"^\$ grpcurl -plaintext (?:-d '(.*)' )?127\.0\.0\.1:(\d+) thyme\.v1\.(\w+)/(\w+)$", page, re.MULTILINE
    )
    assert len(lines) == page.count("$ grpcurl") - page.count(" list\n") > 2
    for body, port, service, call in lines:
        path, request, _ = _proto.methods()[call]
        assert path == f"/thyme.v1.{service}/{call}"
        assert port == ("8081" if service == "FeatureService" else "8080")
        json_format.Parse(body or "{}", request())


def test_calls_of_the_services():
    """The table of gRPC names every service with its calls; `…` stands for some."""
    page = (GUIDE / "grpc.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| 808\d \| `thyme\.v1\.(\w+)` \| (.*) \|$", page, re.MULTILINE))
    offered: dict[str, set[str]] = {}
    for call, (path, _, _) in _proto.methods().items():
        offered.setdefault(path.split("/")[1].removeprefix("thyme.v1."), set()).add(call)
    assert set(told) == set(offered)
    for service, text in told.items():
        named = set(re.findall(r"`(\w+)`", text))
        assert named <= offered[service]
        assert named == offered[service] or "…" in text


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
