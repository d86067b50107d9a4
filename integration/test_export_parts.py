"""Exports in parts on a real server: cut, killed and restarted at random, each has the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from cutting_proxy import CuttingProxy
from harness import SOAK
from s3_server import S3
from shop import START, USERS, micros_text
from thyme import errors
from thyme.client import Client
from thyme.parts import Question, RangeQuestion, export, export_parts, export_range_parts, read_manifest
from thyme.spines import read_spine

PART = 3_000
ROWS = 20_500
FEATURES = ["n_all", "total_1d", "last_city", "share"]
# The command, with smaller parts.
COMMAND = f"""
from thyme.cli import main
from thyme.parts import export
export.PART_ROWS = {PART}
main()
"""


@pytest.fixture(scope="module")
def spine(shop):
    chance = random.Random(7)
    users = [chance.choice([*USERS, "nobody", None]) for _ in range(ROWS)]
    times = [micros_text(START + chance.randrange(8 * 3_600_000_000)) for _ in range(ROWS)]
    times[::500] = [None] * len(times[::500])
    countries = [chance.choice(["NO", "a b/ü", None]) for _ in range(ROWS)]
    table = pa.table({"who": users, "at": times, "country": countries, "label": range(ROWS)})
    pq.write_table(table, shop.directory / "spine.parquet")
    return table


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(export, "PART_ROWS", PART)


def question(again=None, **other):
    command = {
        "featuresets": ["UserFeatures"],
        "entity_columns": {"user": "who"},
        "timestamp_column": "at",
        "exclusive": False,
        "features": FEATURES,
        "statuses": True,
        "partition_by": [],
    }
    return Question({**command, **other} if again is None else again.command, None, again)


def run(client, shop, out, asked, retry_for=10.0, at_row=(None, None)):
    """`at_row`: what is done before that row of the spine is read, for the first time."""
    pending = [at_row]

    def read():
        reader, total = read_spine(str(shop.directory / "spine.parquet"), None, {})

        def batches():
            for table in (batch.slice(first, 500) for batch in reader for first in range(0, batch.num_rows, 500)):
                if pending[0][0] is not None and table.column("label")[0].as_py() >= pending[0][0]:
                    (_, do), pending[0] = pending[0], (None, None)
                    do()
                yield table

        return pa.RecordBatchReader.from_batches(reader.schema, batches()), total

    return export_parts(client, [client.shape("UserFeatures")], asked, read, str(out), retry_for)


def undisturbed(shop, out, of):
    """The same once more: every file and the manifest, without what differs each time."""
    with shop.client() as client:
        run(client, shop, out, question(read_manifest(f"{of}/_manifest.json")))
    return content(out)


def content(out):
    found = {str(path.relative_to(out)): path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
    return found, without_asked(found.pop("_manifest.json"))


def without_asked(manifest):
    held = json.loads(manifest)
    del held["asked"]
    return held


def rows_of(out):
    table = ds.dataset(str(out), format="parquet").to_table().replace_schema_metadata(None)
    return table.sort_by("label")


def asked_directly(shop, spine, pin):
    with shop.client() as client:
        return client.query_offline(
            "UserFeatures",
            spine,
            entity_columns={"user": "who"},
            timestamp_column="at",
            features=FEATURES,
            statuses=True,
            pin=pin,
        ).to_arrow()


def parts_of(path):
    try:
        return len(json.loads(path.read_text())["parts"])
    except (FileNotFoundError, ValueError):
        return -1


def late_order(shop, number):
    """Of each user; not too late to count."""
    at = micros_text(START + 3 * 3_600_000_000)
    orders = [
        {"order_id": 10_000 + 100 * number + index, "ts": at, "user": user, "amount": 5.0, "city": "X"}
        for index, user in enumerate(USERS)
    ]
    with shop.client() as client:
        position = client.log("Order", orders).position
        client.query("UserFeatures", USERS[0], at_least=position)


def killed_until_done(command, shop, arguments, out, most, rest) -> None:
    """Runs a command that exports into `out` again and again, and kills it at any moment, at most `rest` seconds after
    a part and `most` times in all; after the first time the server, and late orders come."""
    chance, killed = random.Random(), 0
    while True:
        before = parts_of(out / "_manifest.json")
        with subprocess.Popen(
            [sys.executable, "-c", command, *arguments],
            cwd=shop.directory,
            env=shop.env,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            while running.poll() is None and parts_of(out / "_manifest.json") == before:
                time.sleep(0.001)
            time.sleep(chance.random() * rest)
            if killed < most:
                running.send_signal(signal.SIGKILL)
            told = running.communicate()[1]
        if running.returncode == 0:
            assert killed > 0
            return
        assert running.returncode == -signal.SIGKILL, told
        killed += 1
        if killed == 1:
            shop.kill()
            shop.start()
            late_order(shop, 1)


def test_killed_and_gone_on_with(shop, spine, tmp_path):
    out = tmp_path / "out"
    arguments = ["query-offline", "UserFeatures", "--input", "spine.parquet", "-o", str(out), "--statuses"]
    arguments += ["--entity-column", "who", "--timestamp-column", "at", "--features", ",".join(FEATURES)]
    killed_until_done(COMMAND, shop, arguments, out, most=20 if SOAK else 3, rest=0.05)
    manifest = read_manifest(f"{out}/_manifest.json")
    assert rows_of(out).equals(asked_directly(shop, spine, manifest.pin).replace_schema_metadata(None))
    assert asked_directly(shop, spine, None)["total_1d"] != asked_directly(shop, spine, manifest.pin)["total_1d"]
    assert content(out) == undisturbed(shop, tmp_path / "calm", out)
    assert not [name for name in os.listdir(out) if name.startswith(".")]


def test_a_connection_that_is_cut_anywhere(shop, spine, tmp_path):
    chance = random.Random()
    proxy = CuttingProxy(shop.queries, lambda: int(chance.expovariate(1 / 600_000)))
    try:
        with Client(f"http://{proxy.address}", f"http://{shop.control}", retry_for=20) as client:
            for number in range(20 if SOAK else 1):
                out = tmp_path / str(number)
                run(client, shop, out, question(), retry_for=60)
                assert content(out) == undisturbed(shop, tmp_path / f"calm {number}", out)
        assert proxy.cuts > 0
    finally:
        proxy.close()


def test_an_export_that_is_cut_is_an_error(shop, spine):
    """Near its end, too: two threads that end the writing at one moment would abort the process."""
    chance, limit = random.Random(), 0
    proxy = CuttingProxy(shop.queries, lambda: limit)
    table = pa.table({"user": USERS * 75, "timestamp": [micros_text(START)] * 3_000, "text": ["x" * 20] * 3_000})
    try:
        for _ in range(2_000 if SOAK else 60):
            limit = chance.randrange(20_000, 300_000)
            with Client(f"http://{proxy.address}", f"http://{shop.control}", retry_for=0) as client:
                try:
                    assert len(client.query_offline("UserFeatures", table, features=["n_all"])) == 3_000
                except errors.UnavailableError:
                    continue
        assert proxy.cuts > 0
    finally:
        proxy.close()


def test_counts_are_those_of_the_rows(shop, spine, tmp_path):
    """Of each part, and of all."""
    with shop.client() as client:
        manifest = run(client, shop, tmp_path, question()).manifest
    parts = [pq.read_table(tmp_path / part["files"][0]["path"]) for part in manifest.parts]
    for part, table in zip(manifest.parts, parts, strict=True):
        assert part["features"] == counted(table)
    assert manifest.features == counted(pa.concat_tables(parts))
    assert all(sum(counts[kind] for counts in manifest.features.values()) for kind in ("nulls", "defaults", "errors"))


def counted(table):
    found = {}
    for name in FEATURES:
        statuses = table[f"{name}__status"].to_pylist()
        told = {"defaults": statuses.count("DEFAULT"), "errors": statuses.count("ERROR")}
        found[name] = {"nulls": table[name].null_count, **told}
    return found


@pytest.fixture(scope="module")
def s3():
    running = S3()
    yield running
    running.close()


@pytest.fixture
def bucket(s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    scheme, _, host = s3.url.partition("://")
    return pafs.S3FileSystem(endpoint_override=host, scheme=scheme, region="us-east-1")


def objects(bucket, folder):
    found = bucket.get_file_info(pafs.FileSelector(folder, recursive=True))
    names = [info.path for info in found if info.type == pafs.FileType.File]
    held = {name[len(folder) + 1 :]: bucket.open_input_file(name).read() for name in names}
    return held, without_asked(held.pop("_manifest.json"))


def test_object_storage(shop, spine, s3, bucket, tmp_path):
    """The store is away for a while in the middle; what is there in the end is what is on disk."""
    out = "s3://thyme/a prefix/ü=1"
    by = question(partition_by=["country", "at"])
    with shop.client() as client:
        with pytest.raises(errors.UnavailableError, match="a prefix"):
            run(client, shop, out, by, retry_for=0.1, at_row=(3 * PART + 700, lambda: s3.tell("away")))
        s3.tell("back")
        assert run(client, shop, out, by).parts_before == 3
        written = objects(bucket, "thyme/a prefix/ü=1")
        assert written == undisturbed(shop, tmp_path / "calm", out)
        assert "country=a%20b%2F%C3%BC/date=2025-06-15/part-00000.parquet" in written[0]
        read = ds.dataset("thyme/a prefix/ü=1", filesystem=bucket, format="parquet", partitioning="hive").to_table()
        read = read.sort_by("label").drop_columns(["date"])
        whole = asked_directly(shop, spine, read_manifest(f"{out}/_manifest.json").pin)
        assert read.select(whole.column_names).replace_schema_metadata(None) == whole.replace_schema_metadata(None)
        before = objects(bucket, "thyme/a prefix/ü=1")
        assert run(client, shop, out, by).parts_before == len(before[1]["parts"])
        with pytest.raises(errors.FailedPreconditionError, match="begun with partition_by"):
            run(client, shop, out, question())
        with pytest.raises(errors.ThymeError, match="s3://nobody/x.*NO_SUCH_BUCKET"):
            run(client, shop, "s3://nobody/x", question())


def test_changes_in_object_storage(shop, bucket, tmp_path):
    """What is there is what is on disk."""
    stretch = {"since": None, "until": None, "partition_by": ["timestamp"]}
    command = {"featureset": "UserFeatures", "features": FEATURES, "exclusive": False, "statuses": False, **stretch}
    with shop.client() as client:
        outcome = export_range_parts(client, RangeQuestion(command, None), "s3://thyme/changes")
        again = RangeQuestion(command, None, read_manifest("s3://thyme/changes/_manifest.json"))
        export_range_parts(client, again, str(tmp_path))
        assert export_range_parts(client, again, "s3://thyme/changes").parts_before == 16
    assert objects(bucket, "thyme/changes") == content(tmp_path)
    assert outcome.manifest.rows > 100 and any(tmp_path.glob("date=2025-06-15/part-*.parquet"))


def test_one_file_in_object_storage(shop, spine, bucket):
    """It is there when it is whole."""
    asked = ("--input", "spine.parquet", "--entity-column", "who", "--timestamp-column", "at", "--features", "n_all")
    shop.env.update({name: os.environ[name] for name in os.environ if name.startswith("AWS_")})
    done = shop.run("query-offline", "UserFeatures", *asked, "-o", "s3://thyme/one file.parquet")
    assert done.returncode == 0, done.stderr
    assert f"{ROWS} rows to s3://thyme/one file.parquet" in done.stderr
    with bucket.open_input_file("thyme/one file.parquet") as file:
        table = pq.read_table(file)
    assert table["n_all"] == asked_directly(shop, spine, None)["n_all"]
    broken = ("--input", "broken.csv", "--entity-column", "who", "--timestamp-column", "at")
    (shop.directory / "broken.csv").write_text("who,at\n" + "user_1,2026-01-01T00:00:00Z\n" * 20_000 + '"user_1\n')
    done = shop.run("query-offline", "UserFeatures", *broken, "-o", "s3://thyme/broken.csv")
    assert done.returncode == 1, done.stderr
    found = [info.path for info in bucket.get_file_info(pafs.FileSelector("thyme"))]
    assert "thyme/one file.parquet" in found
    assert not [path for path in found if "broken" in path]


def test_the_command(shop, spine, tmp_path):
    """Of a spine that is piped, twice; of a manifest; and what it refuses."""
    given = "".join(json.dumps(row) + "\n" for row in spine.slice(0, 500).to_pylist())
    asked = ("--entity-column", "who", "--timestamp-column", "at", "--features", "n_all,share", "--input", "-")
    out = f"{tmp_path}/out"

    def told(*arguments, code=0, stdin=given):
        done = shop.run("query-offline", *arguments, stdin=stdin)
        assert done.returncode == code, done.stderr
        return done.stderr + done.stdout

    assert told("UserFeatures", *asked, "-o", out) == f"500 rows in 1 part to {out}\n"
    assert told("UserFeatures", *asked, "-o", f"{out}/") == f"already there: 500 rows in 1 part in {out}/\n"
    summary = json.loads(told("features:UserFeatures", *asked, "-o", out, "--json"))
    manifest = read_manifest(f"{out}/_manifest.json")
    expected = {"rows": 500, "output": out, "parts": 1, "parts_before": 1, "position": manifest.position}
    assert summary == {**expected, "pin": manifest.pin, "features": manifest.features}

    again = ("--manifest", f"{out}/_manifest.json", "--input", "-")
    assert "500 rows in 1 part" in told(*again, "-o", f"file://{tmp_path}/a%20gain")
    assert content(tmp_path / "a gain") == content(out)
    assert "500 rows to " in told(*again, "-o", f"{tmp_path}/again.parquet")
    whole = pq.read_table(tmp_path / "again.parquet").replace_schema_metadata(None)
    assert whole == pq.read_table(f"{out}/part-00000.parquet").replace_schema_metadata(None)

    assert "another spine" in told("UserFeatures", *asked, "-o", out, stdin=given.replace("NO", "SE"), code=1)
    assert "begun with exclusive false" in told("UserFeatures", *asked, "--exclusive", "-o", out, code=1)
    refused = told("UserFeatures", "--exclusive", *again, "-o", out, code=2)
    assert "is not given beside REF, --exclusive" in refused
    assert "missing argument REF" in told(*asked, "-o", out, code=2)
    assert "hint: end -o with /" in told("UserFeatures", *asked, "--partition-by", "at", "-o", "a.parquet", code=2)
    assert "with / for a folder of parts" in told("UserFeatures", *asked, "-o", "out.v1", code=1)
    assert "no such file: nowhere.json" in told("--manifest", "nowhere.json", "--input", "-", "-o", out, code=5)
    assert "not a place to write to" in told("UserFeatures", *asked, "-o", "hdfs://a/b", code=1)
