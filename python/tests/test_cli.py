"""The real command: exit code, stdout and stderr, kept as text in `snapshots/cli`."""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from fake_server import FakeServer, Refusal
from test_export import SUMMARY

from thyme import _proto
from thyme.calls import timestamp
from thyme.values import to_value

HERE = Path(__file__).parent
SNAPSHOTS = HERE / "snapshots" / "cli"
NOON = timestamp(1_705_320_000_000_000)


@pytest.fixture(scope="module")
def server():
    running = FakeServer()
    running.answers = {
        "GetStatus": status,
        "ListFeaturesets": featuresets,
        "ListDatasets": datasets,
        "ListPipelines": pipelines,
        "ListSources": lambda _: _proto.ListSourcesResponse(sources=[source("failed", "cannot reach PostgreSQL")]),
        "TestSource": tried_source,
        "PauseSource": lambda request: _proto.PauseSourceResponse(source=paused(request.dataset)),
        "ResumeSource": lambda request: _proto.ResumeSourceResponse(source=paused(request.dataset, "running")),
        "ResetSource": lambda request: _proto.ResetSourceResponse(source=paused(request.dataset)),
        "ListRejected": rejected,
        "GetFeatures": features,
        "BatchGetFeatures": batch,
        "Lookup": lookup,
        "Explain": explain,
        "Ingest": ingest,
        "Commit": commit,
        "GetCommit": get_commit,
        "Plan": lambda _: _proto.PlanResponse(plan=plan()),
        "ListQueryRuns": runs,
        "GetQueryRun": lambda request: _proto.GetQueryRunResponse(run=run(request.id)),
        "ListEvents": events,
        "Rebuild": rebuild,
    }
    yield running
    running.stop()


@pytest.fixture
def thyme(server, tmp_path):
    """Runs the command in an empty directory; environment and working directory are the test's own."""

    def execute(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("THYME_")},
            "THYME_BASE_URL": server.url,
            "THYME_CONTROL_URL": server.url,
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }
        command = [sys.executable, "-m", "thyme", *arguments]
        return subprocess.run(command, capture_output=True, text=True, input=stdin, env=environment, cwd=tmp_path)

    return execute


def status(_):
    counts = _proto.DatasetCounts(accepted=336_776, late_dropped=12, duplicates=3, dead_letters=1)
    dataset = _proto.DatasetStatus(name="Order", counts=counts, watermark=NOON, lag=5)
    return _proto.GetStatusResponse(
        version="0.1.0", state="degraded", commit_id="c1", clock="wall", now=NOON, started_at=NOON, datasets=[dataset],
        builds=[_proto.BuildProgress(pipeline="UserStats.compute@2", done_records=5, total_records=9)], lag=7,
        emissions=[_proto.EmissionStatus(dataset="UserStats", topic="UserStats.v1.compute.v1", lag=4)],
        feeds=[
            _proto.FeedStatus(dataset="UserStats", topic="UserStats.v1.compute.v1.by.user", emit_lag=4, lag=9),
            _proto.FeedStatus(dataset="UserStats", topic="UserStats.v1.compute.v1.by.city", lag=9),
        ],
        roles=["control", "ingest", "engine", "query"], slices=4, owned_slices=[0, 2], held_slices=[0, 2, 3],
        trouble="the disk of the state directory is full", data_dir=".thyme", checkpoints=_proto.CheckpointStatus(
            url="s3://bucket/shop", number=7, taken_at=NOON, age_seconds=12.0, size_bytes=4096, uploaded_bytes=1024,
            duration_seconds=0.5, failures=2, trouble="the store cannot be reached", unusable=["checkpoint 8"],
            compared=6,
        ),
    )  # fmt: skip


def source(state, error=""):
    return _proto.SourceInfo(
        dataset="Order", kind="postgres", state=state, rows=7, rejected=1, error=error, last_poll=NOON,
        metadata=_proto.Metadata(description="The shop's own table.", owner="payments", tags=["raw"]),
    )  # fmt: skip


def tried_source(request):
    rows = ['{"id":1,"ts":"2024-01-15T12:00:00Z","note":null}', '{"id":2,"ts":"2024-01-15T12:00:01Z","note":"a"}']
    unfit = _proto.UnfitRowInfo(place="row id=3", reason="field 'id': expected int, got '1.5'", sample="id=1.5")
    return _proto.TestSourceResponse(rows_json=rows[: request.limit], rejected=[unfit], has_more=True)


def paused(dataset, state="paused"):
    if dataset != "Order":
        raise Refusal(5, f"unknown dataset '{dataset}'", "not_found", "dataset", "did you mean 'Order'?")
    return source(state)


def rebuild(_):
    def table(name, state, rebuilt):
        return _proto.TableDigests(table=name, state_digest=state, rebuilt_digest=rebuilt, equal=state == rebuilt)

    tables = [table("pipeline:UserStats.compute@1", "0a", "0b"), table("raw:Order@1", "0c", "0c")]
    outcome = _proto.RebuildOutcome(
        equal=False, state_digest="0d", rebuilt_digest="0e", tables=tables, position="1.0.5"
    )
    return iter([_proto.RebuildResponse(done_records=3, total_records=9), _proto.RebuildResponse(outcome=outcome)])


def featuresets(_):
    listed = [
        _proto.FeatureInfo(name="uid", type="str", id=1, kind="key"),
        _proto.FeatureInfo(name="orders_1h", type="int", id=2, kind="ref", origin="UserStats.orders_1h"),
        _proto.FeatureInfo(name="basket", type="float", kind="request", description="what is in it"),
        _proto.FeatureInfo(name="share", type="float", kind="extractor", origin="share_of_day", native=True),
    ]
    planes = [_proto.FeatureInfo(name="tailnum", type="str"), _proto.FeatureInfo(name="number", type="int")]
    user = _proto.FeaturesetInfo(name="UserFeatures", keys=["uid"], features=listed, available=True)
    plane = _proto.FeaturesetInfo(name="Plane", keys=["tailnum", "number"], features=planes)
    return _proto.ListFeaturesetsResponse(featuresets=[user, plane])


def datasets(_):
    fields = [
        _proto.FieldInfo(name="user_id", type="str", key=True, description="who bought"),
        _proto.FieldInfo(name="ts", type="datetime", timestamp=True),
        _proto.FieldInfo(name="amount", type="float", nullable=True),
    ]
    counts = _proto.DatasetCounts(accepted=5, late_dropped=1)
    order = _proto.DatasetInfo(
        name="Order", version=1, index=True, fields=fields, max_lateness="1h", partitions=4, counts=counts,
        watermark=NOON, metadata=_proto.Metadata(description="What customers bought.", tags=["shop", "raw"]),
    )  # fmt: skip
    return _proto.ListDatasetsResponse(datasets=[order])


def pipelines(_):
    aggregates = [_proto.AggregateInfo(name="orders_1h", type="int", definition="Count(window=1h)")]
    found = _proto.PipelineInfo(
        name="UserStats.compute", version=2, dataset="UserStats", input="Order", group_by=["user_id"],
        aggregates=aggregates, lag=5,
        counts=_proto.PipelineCounts(accepted=5, filtered=3, null_key=2, warnings=1),
    )  # fmt: skip
    return _proto.ListPipelinesResponse(pipelines=[found])


def info(**values):
    return _proto.AnswerInfo(query_run_id="run-1", ts=NOON, watermark=NOON, position="pAA", **values)


def features(request):
    if request.key.get("uid") == to_value("broken"):
        raise Refusal(14, "UserFeatures is being built: 5 of 9 records", "unavailable", hint="try again in a moment")
    values = [
        _proto.FeatureValue(name="orders_1h", value=to_value(2**63 - 1), status=1),
        _proto.FeatureValue(name="spend_7d", value=to_value(0.1 + 0.2), status=2),
        _proto.FeatureValue(name="score", value=to_value(None), status=3, error="judge raised ZeroDivisionError"),
    ]
    return _proto.GetFeaturesResponse(
        featureset=request.featureset, key=request.key, features=values, info=info(mode=1, final=False)
    )


def batch(request):
    column = _proto.Column(name="orders_1h", type="int", ints=_proto.Int64Array(values=[1, 20]))
    return _proto.BatchGetFeaturesResponse(
        rows=2, keys=request.keys, features=[_proto.FeatureColumn(column=column)], info=info(mode=1)
    )


def lookup(request):
    if request.key["user_id"] == to_value("nobody"):
        return _proto.LookupResponse(dataset="Order", key=request.key, info=info(mode=2))
    values = {"user_id": "u1", "ts": datetime(2024, 1, 15, 12, tzinfo=timezone.utc), "amount": 9.5}
    found = [_proto.FeatureValue(name=name, value=to_value(value), status=1) for name, value in values.items()]
    return _proto.LookupResponse(
        dataset="Order", key=request.key, found=True, fields=found, info=info(mode=2, final=True)
    )


def export_plan():
    """The plan of `SUMMARY` before anything is done."""
    told = SUMMARY["plan"]
    reads = [{**read, "done": None} for read in told["reads"]]
    return _proto.ExportPlan(reads=reads, calls=told["calls"], chunk_rows=told["chunk_rows"])


def explain(request):
    if request.plan:
        return _proto.ExplainResponse(name=request.name, plan=export_plan())
    event = _proto.ExplainedEvent(
        event_time=NOON, append_time=NOON, partition=1, offset=7, values={"net": to_value(8.0)}
    )
    value = _proto.FeatureValue(name="spend_7d", value=to_value(16.5), status=1)
    explained = _proto.Explanation(
        value=value, definition="Sum(net) over 7d of UserStats.compute@1", window_start=NOON, window_end=NOON,
        event_count=1, events=[event], truncated=True,
    )  # fmt: skip
    return _proto.ExplainResponse(name=request.name, key=request.key, explanations=[explained], info=info(final=True))


def ingest(request):
    bad = [i for i, row in enumerate(request.rows.rows) if row.fields["amount"].WhichOneof("kind") == "string_value"]
    rejected = [_proto.RejectedRow(index=i, reason="expected float, got the text 'much'", field="amount") for i in bad]
    return _proto.IngestResponse(accepted=len(request.rows.rows) - len(bad), rejected=rejected, position="pAQAF")


def plan():
    changes = [
        _proto.PlanChange(kind=1, object="dataset", name="Order"),
        _proto.PlanChange(kind=2, object="pipeline", name="UserStats.compute", detail="version 1 to 2"),
    ]
    states = [_proto.PlanState(action=2, name="UserStats.compute@2", replayed_records=9)]
    return _proto.PlanInfo(changes=changes, states=states, warnings=["judge calls random.random (randomness)"])


def commit(request):
    definitions = json.loads(request.definitions_json)
    assert definitions["format"] == 1
    if request.dry_run:
        return _proto.CommitResponse(plan=plan())
    if "Visit" in [dataset["name"] for dataset in definitions["datasets"]]:
        return _proto.CommitResponse(commit=building(5), plan=plan())
    if request.remove:
        changes = [_proto.PlanChange(kind=4, object="dataset", name=name) for name in request.remove]
        states = [_proto.PlanState(action=3, name="UserStats.compute@2")]
        removed = _proto.PlanInfo(changes=changes, states=states)
        return _proto.CommitResponse(commit=_proto.CommitInfo(id="c1", state=2), plan=removed)
    return _proto.CommitResponse(commit=_proto.CommitInfo(id="c1", state=2), plan=plan())


def building(done):
    build = _proto.BuildProgress(pipeline="VisitStats.compute@1", done_records=done, total_records=9_000)
    return _proto.CommitInfo(id="c2", state=1, builds=[build])


POLLED = itertools.cycle([building(6_000), _proto.CommitInfo(id="c2", state=2)])


def get_commit(request):
    assert request.id == "c2"
    return _proto.GetCommitResponse(commit=next(POLLED))


def run(run_id):
    return _proto.QueryRun(
        id=run_id, featureset="UserFeatures", entity_ids=['"u1"'], kind="online", row_count=1, hit_count=1,
        latency_us=412, commit_id="c1", created_at=NOON,
    )  # fmt: skip


def rejected(request):
    rows = [
        _proto.RejectedRowInfo(
            kind="late",
            reason="2 h below the watermark",
            partition=1,
            offset=7,
            arrived=NOON,
            row_json='{"user_id": "u1"}',
        ),
        _proto.RejectedRowInfo(kind="source", reason="line 2: not a time: 'x'", arrived=NOON, row_json='"u1,x"'),
    ]
    return _proto.ListRejectedResponse(rows=rows if request.dataset == "Order" else [])


def runs(request):
    if request.kind == "offline":
        return _proto.ListQueryRunsResponse()
    return _proto.ListQueryRunsResponse(runs=[run("run-2"), run("run-1")], next_cursor="run-1")


def events(_):
    found = [
        _proto.EventInfo(id="2", severity="warning", subject="Order", message="1 row is late", created_at=NOON),
        _proto.EventInfo(id="1", severity="info", message="commit c1 answers", created_at=NOON),
    ]
    return _proto.ListEventsResponse(events=found)


def check(name: str, done: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    text = f"exit {done.returncode}\n--- stdout\n{done.stdout}--- stderr\n{done.stderr}"
    text = text.replace(str(tmp_path), "DIR").replace(sys.prefix, "PREFIX")
    text = text.replace(platform.python_version(), "PYTHON")
    snapshot = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("THYME_UPDATE_SNAPSHOTS"):
        snapshot.write_text(text, encoding="utf-8")
    assert text == snapshot.read_text(encoding="utf-8")


FEATURES = """
from datetime import datetime
from thyme import dataset, field

@dataset
class Order:
    user_id: str = field(key=True)
    ts: datetime = field(timestamp=True)
"""
FILES = {
    "features.py": FEATURES,
    "visits.py": FEATURES.replace("Order", "Visit"),
    "broken.py": FEATURES + "    price: complex\n",
    "missing.py": "import no_such_package\n",
    "syntax.py": "def broken(:\n",
    "empty.py": "x = 1\n",
    "orders.jsonl": '{"user_id": "u1", "ts": "2024-01-15T12:00:00Z", "amount": 5}\n{"user_id": "u2", "ts"\n\n'
    '{"user_id": "u3", "ts": "2024-01-15T12:00:00Z", "amount": "much"}\n',
    "orders.csv": "user_id,ts,amount\nu1,2024-01-15 12:00:00,1.5\nu2,2024-01-15,\nu3,2024-01-15,much\n",
    "good.csv": "user_id,ts,amount\nu1,2024-01-15 12:00:00,1.5\n",
    "spine.csv": "uid,number,timestamp\nu1,1,2024-01-15T12:00:00Z\nu2,20,2024-01-15T12:00:00Z\n",
    "strange.xyz": "",
}
COMMANDS = {
    "status": ["status"],
    "status-json": ["status", "--json"],
    "rebuild": ["rebuild"],
    "rebuild-json": ["rebuild", "--json"],
    "query": ["query", "UserFeatures", "-e", "u1"],
    "query-json": ["query", "UserFeatures", "-e", "u1", "--at", "2024-01-15 12:00", "--json"],
    "query-csv": ["query", "UserFeatures", "-e", "u1", "-f", "csv"],
    "query-several": ["query", "UserFeatures", "-e", "u1", "-e", "u2"],
    "query-several-json": ["query", "UserFeatures", "-e", "u1", "-e", "u2", "--json"],
    "query-two-keys": ["query", "Plane", "-e", "tailnum=N1,number=7", "--json"],
    "query-one-of-two-keys": ["query", "Plane", "-e", "N1"],
    "query-key-of-wrong-type": ["query", "Plane", "-e", "tailnum=N1,number=x"],
    "query-unknown": ["query", "UserFeature", "-e", "u1"],
    "query-unknown-json": ["query", "UserFeature", "-e", "u1", "--json"],
    "query-bad-time": ["query", "UserFeatures", "-e", "u1", "--at", "yesterday"],
    "query-bad-input": ["query", "UserFeatures", "-e", "u1", "-i", "baskt=3"],
    "query-bad-format": ["query", "UserFeatures", "-e", "u1", "-f", "xml"],
    "query-unavailable": ["query", "UserFeatures", "-e", "broken"],
    "query-unreachable": ["query", "UserFeatures", "-e", "u1", "--control-url", "http://127.0.0.1:1"],
    "lookup": ["lookup", "Order", "-e", "u1"],
    "lookup-json": ["lookup", "Order", "-e", "u1", "--json"],
    "lookup-nobody": ["lookup", "Order", "-e", "nobody"],
    "lookup-nobody-json": ["lookup", "Order", "-e", "nobody", "--json"],
    "explain": ["explain", "UserFeatures", "-e", "u1"],
    "explain-json": ["explain", "UserFeatures", "-e", "u1", "--json"],
    "explain-plan": ["explain", "UserFeatures"],
    "explain-plan-json": ["explain", "UserFeatures", "--json"],
    "explain-two-keys": ["explain", "UserFeatures", "-e", "u1", "-e", "u2"],
    "explain-two-spines": ["explain", "UserFeatures", "--input", "spine.csv", "--input", "spine.csv"],
    "explain-plan-at": ["explain", "UserFeatures", "--at", "2024-01-15"],
    "explain-plan-entity-column": ["explain", "UserFeatures", "--entity-column", "uid"],
    "ingest-jsonl": ["ingest", "Order", "orders.jsonl"],
    "ingest-csv-json": ["ingest", "Order", "orders.csv", "--json"],
    "ingest-good": ["ingest", "Order", "good.csv", "--event-id", "user_id"],
    "ingest-no-file": ["ingest", "Order", "nothing.jsonl"],
    "ingest-strange": ["ingest", "Order", "strange.xyz"],
    "commit": ["commit", "features.py"],
    "commit-json": ["commit", "features.py", "--json"],
    "commit-module": ["commit", "-m", "features"],
    "commit-building": ["commit", "visits.py"],
    "commit-building-json": ["commit", "visits.py", "--json"],
    "commit-no-wait": ["commit", "visits.py", "--no-wait"],
    "commit-no-wait-json": ["commit", "visits.py", "--no-wait", "--json"],
    "commit-remove": ["commit", "--remove", "UserStats", "--remove", "Order"],
    "commit-dry-run": ["commit", "features.py", "--dry-run"],
    "commit-plan": ["commit", "features.py", "--plan"],
    "commit-output": ["commit", "features.py", "--output", "-"],
    "commit-broken": ["commit", "broken.py"],
    "commit-missing-package": ["commit", "missing.py"],
    "commit-syntax": ["commit", "syntax.py"],
    "commit-empty": ["commit", "empty.py"],
    "commit-nothing": ["commit"],
    "commit-no-file": ["commit", "nothing.py"],
    "plan": ["plan", "features.py"],
    "plan-json": ["plan", "features.py", "--json"],
    "runs": ["runs"],
    "runs-none": ["runs", "list", "--kind", "offline"],
    "runs-show": ["runs", "show", "run-1"],
    "runs-show-json": ["runs", "show", "run-1", "--json"],
    "logs": ["logs"],
    "logs-json": ["logs", "--json"],
    "inspect": ["inspect"],
    "inspect-dataset": ["inspect", "Order"],
    "inspect-dataset-json": ["inspect", "Order", "--json"],
    "inspect-pipeline": ["inspect", "UserStats.compute"],
    "inspect-pipeline-json": ["inspect", "UserStats.compute", "--json"],
    "inspect-featureset": ["inspect", "UserFeatures"],
    "serve-role-of-its-own": ["serve", "--role", "engine"],
    "serve-role-unknown": ["serve", "--role", "querry"],
    "inspect-unknown": ["inspect", "Ordr"],
    "sources-list": ["sources", "list"],
    "sources-list-json": ["sources", "list", "--json"],
    "sources-test": ["sources", "test", "Order", "-n", "2"],
    "sources-test-json": ["sources", "test", "Order", "--json"],
    "sources-pause": ["sources", "pause", "Order"],
    "sources-pause-json": ["sources", "pause", "Order", "--json"],
    "sources-resume": ["sources", "resume", "Order"],
    "sources-resume-json": ["sources", "resume", "Order", "--json"],
    "sources-reset-unknown": ["sources", "reset", "Ordr"],
    "version": ["version"],
    "version-json": ["version", "--json"],
    "query-offline-no-file": ["query-offline", "UserFeatures", "--input", "nothing.csv", "-o", "out.csv"],
    "query-offline-no-key": [
        "query-offline",
        "Plane",
        "--input",
        "spine.csv",
        "--entity-column",
        "uid",
        "-o",
        "out.csv",
    ],
    "query-offline-several-no-key": [
        "query-offline",
        "UserFeatures,Plane",
        "--input",
        "spine.csv",
        "--entity-column",
        "uid",
        "-o",
        "out.csv",
    ],
    "init": ["init", "shop"],
    "init-again": ["init", "."],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_output(name, thyme, tmp_path):
    for file, content in FILES.items():
        (tmp_path / file).write_text(content, encoding="utf-8")
    check(name, thyme(*COMMANDS[name]), tmp_path)


def test_what_a_commit_is_told_travels(thyme, server, tmp_path):
    (tmp_path / "visits.py").write_text(FILES["visits.py"], encoding="utf-8")
    polls = len(server.requests("GetCommit"))
    told = ["--supersede", "--message", "visits too", "--remove", "Old", "--no-wait"]
    assert thyme("commit", "visits.py", *told).returncode == 0
    request = server.requests("Commit")[-1]
    assert (request.supersede, request.message, list(request.remove)) == (True, "visits too", ["Old"])
    assert len(server.requests("GetCommit")) == polls, "it does not wait"


def test_help_lists_every_command(thyme):
    done = thyme("--help")
    assert done.returncode == 0
    for name in {arguments[0] for arguments in COMMANDS.values()} | {"serve", "version", "query-offline"}:
        assert f"\n  {name} " in done.stdout, name


def test_usage_errors_name_what_is_wrong(thyme):
    done = thyme("query", "UserFeatures", "--ts", "x")
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "--ts" in done.stderr
    done = thyme("qery")
    assert done.returncode == 2
    assert done.stderr.count("Did you mean 'query'?") == 1, done.stderr


def test_rows_from_stdin(thyme):
    done = thyme("ingest", "Order", "-", stdin='{"user_id": "u1", "ts": "2024-01-15", "amount": 1}\n')
    assert (done.returncode, done.stdout) == (0, "Order: 1 rows sent\n")


def test_files_of_columns(thyme, tmp_path):
    import pyarrow.parquet as pq

    done = thyme("query", "UserFeatures", "-e", "u1", "-o", "out.parquet")
    assert done.returncode == 0
    assert done.stdout == ""
    assert pq.read_table(tmp_path / "out.parquet").column("orders_1h").to_pylist() == [2**63 - 1]


def test_the_project_of_init_is_good(thyme, tmp_path):
    assert thyme("init", ".").returncode == 0
    done = thyme("commit", "features.py", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "the definitions are good" in done.stderr
    rows = [json.loads(line) for line in (tmp_path / "orders.jsonl").read_text().splitlines()]
    assert len(rows) == 2_000
    assert [row["ts"] for row in rows] == sorted(row["ts"] for row in rows)
