"""Commands that export, against a Flight server that is ours."""

from __future__ import annotations

import pytest
import test_cli
from test_cli import FILES, check
from test_export import Doubling

server, thyme = test_cli.server, test_cli.thyme  # fixtures


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("query-offline", ["-o", "out.csv"]),
        ("query-offline-json", ["-o", "out.csv", "--json"]),
        ("query-offline-stdout", ["-o", "-"]),
    ],
)
def test_output_of_an_export(name, more, thyme, tmp_path):
    (tmp_path / "spine.csv").write_text(FILES["spine.csv"], encoding="utf-8")
    exporting = Doubling()
    try:
        url = ["--url", f"http://127.0.0.1:{exporting.port}"]
        check(name, thyme("query-offline", "UserFeatures", "--input", "spine.csv", *more, *url), tmp_path)
    finally:
        exporting.shutdown()
    if "out.csv" in more:
        written = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
        assert [line.replace('"', "") for line in written[:1]] == ["uid,number,timestamp,twice"]
        assert [line.rpartition(",")[2] for line in written[1:]] == ["2", "40"]


def test_several_featuresets_are_exported_side_by_side(thyme, tmp_path):
    (tmp_path / "spine.csv").write_text(FILES["spine.csv"], encoding="utf-8")
    exporting = Doubling()
    columns = ["--entity-column", "Plane.tailnum=uid", "--features", "UserFeatures.spend_7d,Plane.delay"]
    try:
        url = ["--url", f"http://127.0.0.1:{exporting.port}"]
        done = thyme("query-offline", "UserFeatures,Plane", "--input", "spine.csv", "-o", "-", *columns, *url)
    finally:
        exporting.shutdown()
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr
    command = exporting.commands[0]
    assert command["featuresets"] == ["UserFeatures", "Plane"]
    assert command["features"] == ["UserFeatures.spend_7d", "Plane.delay"]
    assert command["entity_columns"] == {"Plane.tailnum": "uid"}


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_an_export_is_explained_by_running_it(more, thyme, tmp_path):
    (tmp_path / "spine.csv").write_text(FILES["spine.csv"].replace("uid", "user"), encoding="utf-8")
    exporting = Doubling()
    asked = ["--input", "spine.csv", "--entity-column", "user", "--exclusive", "--features", "twice", *more]
    try:
        done = thyme("explain", "UserFeatures", *asked, "--url", f"http://127.0.0.1:{exporting.port}")
        check(f"explain-input{'-json' if more else ''}", done, tmp_path)
    finally:
        exporting.shutdown()
    assert exporting.received == 2
    command = exporting.commands[0]
    assert (command["entity_columns"], command["exclusive"], command["features"]) == ({"uid": "user"}, True, ["twice"])
