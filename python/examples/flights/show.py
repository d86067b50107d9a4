"""One aircraft, asked by command line, HTTP and gRPC, now and at an earlier time: the same answer each time."""

from __future__ import annotations

import json
import re
import subprocess
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import grpc
from parity import FEATURESET

from thyme import _proto
from thyme.errors import NotFoundError

if TYPE_CHECKING:
    import pandas as pd
    from report import Report
    from server import Server

    from thyme.client import Client

RECORDED_SECONDS = 10
AIRCRAFT_FEATURES = [
    "aircraft_departures_24h",
    "aircraft_miles_7d",
    "aircraft_last_origin",
    "aircraft_avg_delay_7d",
    "aircraft_max_delay_24h",
    "aircraft_late_share",
    "aircraft_risk",
]


def busiest_lately(flights: pd.DataFrame) -> str:
    """An aircraft with a history that flew in the last day of the stream."""
    left = flights[flights["departed"].notna()]
    lately = left.loc[left["departed"] > left["departed"].max() - timedelta(days=1), "tailnum"]
    flown = left.loc[left["tailnum"].isin(lately), "tailnum"].value_counts().sort_index()
    return str(flown.idxmax())


def one_aircraft(server: Server, report: Report, tailnum: str, earlier: datetime) -> None:
    """Shows the answers and claims that the three are one, and that each is on record."""
    runs = []
    for at in (None, earlier):
        asked = [way(server, report, tailnum, at) for way in (_by_command, _by_http, _by_grpc)]
        answers = [answer for answer, _ in asked]
        moment = "now" if at is None else f"at {_text(at)}"
        report.claim(answers[0] == answers[1] == answers[2], f"command line, HTTP and gRPC agree on {tailnum} {moment}")
        runs += [(run_id, at) for _, run_id in asked]
    with server.client() as client:
        recorded = sum(_is_recorded(client, *run) for run in runs)
    report.claim(recorded == len(runs), f"{recorded} of {len(runs)} runs are on record under the ids shown")


def _is_recorded(client: Client, run_id: str, at: datetime | None) -> bool:
    """Runs are recorded off the path of the request, so a moment after the answer."""
    deadline = time.monotonic() + RECORDED_SECONDS
    while True:
        try:
            run = client.run(run_id)
            break
        except NotFoundError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return run["featureset"] == FEATURESET and run["row_count"] == 1 and run["requested_timestamp"] == at


# Each shows one answer and returns it with the id of its run.
def _by_command(server: Server, report: Report, tailnum: str, at: datetime | None) -> tuple[dict[str, Any], str]:
    arguments = ["query", FEATURESET, "-e", f"tailnum={tailnum}", "--features", ",".join(AIRCRAFT_FEATURES)]
    arguments += [] if at is None else ["--at", _text(at)]
    report.command(["thyme", *arguments])
    done = server.run(*arguments)
    report.say((done.stdout + done.stderr).rstrip())
    shown = re.search(r"run (\S+),", done.stderr)
    again = server.run(*arguments, "--json")
    if again.returncode != 0:
        raise SystemExit(f"error: thyme query failed\n{again.stderr}")
    return _wanted(json.loads(again.stdout)["features"]), shown.group(1) if shown else ""


def _by_http(server: Server, report: Report, tailnum: str, at: datetime | None) -> tuple[dict[str, Any], str]:
    asked = {"featureset": FEATURESET, "tailnum": tailnum, "features": ",".join(AIRCRAFT_FEATURES)}
    asked |= {} if at is None else {"ts": _text(at)}
    url = f"{server.url}/features?{urlencode(asked, safe=',:')}"
    report.command(["curl", "-si", f"'{url}'"])
    done = subprocess.run(["curl", "-si", url], capture_output=True, text=True, check=True)
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    shown = [line for line in head.splitlines() if line.lower().startswith(("http/", "x-query-run-id"))]
    run_id = "".join(line.partition(": ")[2] for line in shown)
    report.say("\n".join([*shown, body.rstrip()]))
    answer = json.loads(body)
    if "features" not in answer:
        raise SystemExit(f"error: the server answers {body}")
    return _wanted(answer["features"]), run_id


def _by_grpc(server: Server, report: Report, tailnum: str, at: datetime | None) -> tuple[dict[str, Any], str]:
    """A plain gRPC call; the messages are those of proto/thyme/v1, the method is what any generated stub calls."""
    path, request_class, response_class = _proto.methods()["GetFeatures"]
    request = request_class(
        featureset=FEATURESET, key={"tailnum": _proto.Value(string_value=tailnum)}, features=AIRCRAFT_FEATURES
    )
    if at is not None:
        request.ts.FromDatetime(at.astimezone(timezone.utc).replace(tzinfo=None))
    body = {"featureset": FEATURESET, "key": {"tailnum": {"stringValue": tailnum}}, "features": AIRCRAFT_FEATURES}
    body |= {} if at is None else {"ts": _text(at)}
    method = path.lstrip("/")
    report.say("by gRPC, from Python; with grpcurl it is")
    report.command(["grpcurl", "-plaintext", "-d", f"'{json.dumps(body)}'", server.queries, method])
    with grpc.insecure_channel(server.queries) as channel:
        call = channel.unary_unary(
            path, request_serializer=request_class.SerializeToString, response_deserializer=response_class.FromString
        )
        response = call(request, timeout=30)
    values = {found.name: _value(found.value) for found in response.features}
    report.say(f"{json.dumps(values)}\nrun {response.info.query_run_id}")
    return _wanted(values), response.info.query_run_id


def _value(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    return None if kind == "null_value" else getattr(value, kind)


def _wanted(features: dict[str, Any]) -> dict[str, Any]:
    return {name: features[name] for name in AIRCRAFT_FEATURES}


def _text(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
