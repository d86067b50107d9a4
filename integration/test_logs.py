"""What a server writes on stderr: as text and as JSON, where its data is, what goes wrong, and no password."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from harness import free_addresses, wait_until

PASSWORD = "hunter2-of-the-test"

SOURCE = """
from datetime import datetime

from thyme import PostgresSource, Secret, dataset, field, source


@source(
    PostgresSource("payments", host="127.0.0.1", port={port}, database="shop", username="thyme",
                   password=Secret(env="SHOP_PASSWORD")),
    cursor="ts", every="1s", cdc="append",
)
@dataset(index=True, version=1)
class Payment:
    id: int = field(key=True)
    ts: datetime = field(timestamp=True)
"""


def logged(make_server, *arguments) -> tuple[str, str]:
    """All that a server said that was asked to poll a database which is not there, and its data directory."""
    server = make_server(env={"SHOP_PASSWORD": PASSWORD}).start(*arguments)
    (address,) = free_addresses(1)
    done = server.commit(SOURCE.format(port=address.rpartition(":")[2]))
    assert done.returncode == 0, done.stderr
    wait_until(lambda: "will be tried again" in server.log_file.read_text())
    assert server.stop() == 0
    return server.log_file.read_text(), str(server.directory / "data")


def test_text(make_server):
    text, data_dir = logged(make_server)
    lines = text.splitlines()
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z +(ERROR|WARN|INFO) ", line), line
    assert "opening" in lines[0] and f"data_dir={data_dir}" in lines[0]
    (serving,) = [line for line in lines if " serving " in line]
    assert f"data_dir={data_dir}" in serving and "control=" in serving and "query=" in serving
    warned = [line for line in lines if "will be tried again" in line]
    assert " WARN " in warned[0] and 'dataset="Payment"' in warned[0] and "error=" in warned[0]
    assert "stopping" in text
    assert PASSWORD not in text


@pytest.mark.parametrize("arguments", [("--log-format", "json"), ("--json",)])
def test_json(make_server, arguments):
    text, data_dir = logged(make_server, *arguments)
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert line["level"] in ("ERROR", "WARN", "INFO")
        assert datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")).year >= 2026
        assert line["message"] and line["target"]
    assert (lines[0]["message"], lines[0]["data_dir"]) == ("opening", data_dir)
    (serving,) = [line for line in lines if line["message"] == "serving"]
    assert serving["data_dir"] == data_dir and serving["query"]
    warned = next(line for line in lines if "will be tried again" in line["message"])
    assert (warned["level"], warned["dataset"]) == ("WARN", "Payment") and warned["error"]
    assert PASSWORD not in text
