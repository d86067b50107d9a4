"""Topics written by Confluent's own serializers, through a registry that speaks their HTTP interface."""

from __future__ import annotations

import base64
import json
import threading
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2  # noqa: F401

from test_kafka_source import make_topic, source_of, wait_for
from test_sources import accepted, wait_accepted

PASSWORD = "correct-horse-registry"


class Registry(ThreadingHTTPServer):
    """The part of Confluent's interface that serializers and readers use; each request needs the password."""

    def __init__(self):
        self.schemas = []  # of id - 1
        self.subjects = {}  # ids by subject, in the order of versions
        self.reads = 0
        self.logins = []  # what each question carried
        self.away = False
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def client(self):
        return SchemaRegistryClient({"url": self.url, "basic.auth.user.info": f"ann:{PASSWORD}"})

    def register(self, subject, schema):
        if schema not in self.schemas:
            self.schemas.append(schema)
        number = self.schemas.index(schema) + 1
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number, versions.index(number) + 1


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def allowed(self):
        wanted = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
        self.server.logins.append(self.headers.get("Authorization"))
        if self.server.away:
            self.answer(503, {"error_code": 50003, "message": "away"})
        elif self.headers.get("Authorization") != wanted:
            self.answer(401, {"error_code": 401, "message": "Unauthorized"})
        else:
            return True
        return False

    def do_POST(self):
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        if not self.allowed():
            return
        subject = self.path.split("?")[0].split("/")[2]
        schema = {name: body[name] for name in ("schema", "schemaType", "references") if body.get(name)}
        number, version = self.server.register(subject, schema)
        self.answer(200, {"id": number, "version": version, "subject": subject, **schema})

    def do_GET(self):
        if not self.allowed():
            return
        self.server.reads += 1
        match self.path.split("?")[0].split("/")[1:]:
            case ["schemas", "ids", number] if 0 < int(number) <= len(self.server.schemas):
                self.answer(200, self.server.schemas[int(number) - 1])
            case ["subjects", subject, "versions", version] if subject in self.server.subjects:
                number = self.server.subjects[subject][int(version) - 1]
                found = self.server.schemas[number - 1]
                self.answer(200, {"subject": subject, "version": int(version), "id": number, **found})
            case _:
                self.answer(404, {"error_code": 40403, "message": "Schema not found"})


@pytest.fixture
def registry():
    running = Registry()
    yield running
    running.shutdown()


DATASET = """
from datetime import datetime
from decimal import Decimal
from typing import Optional

from thyme import KafkaSource, Secret, dataset, field, source


@source(
    KafkaSource("{topic}", bootstrap_servers="{broker}", format="{format}", schema_registry="{registry}",
                schema_registry_username="ann", schema_registry_password=Secret(env="{variable}")),
)
@dataset(index=True, version=1)
class Ride:
    id: int = field(key=True)
    ts: datetime = field(timestamp=True)
    fare: Optional[float]
    exact: Optional[Decimal]
    note: Optional[str]
    day: Optional[datetime]
    raw: Optional[bytes]
    stops: Optional[list[str]]
    counts: Optional[dict[str, int]]
    cash: Optional[bool]
"""
FIELDS = ("id", "ts", "fare", "exact", "note", "day", "raw", "stops", "counts", "cash")
T = datetime(2026, 1, 15, 12, 0, 0, 123000, tzinfo=timezone.utc)


def definition(topic, broker, registry, format, variable="RIDES_REGISTRY"):
    return DATASET.format(topic=topic, broker=broker.address, registry=registry.url, format=format, variable=variable)


def send(broker, topic, values):
    producer = Producer({"bootstrap.servers": broker.address})
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def rides(client, *numbers):
    return [{name: client.lookup("Ride", number).to_dicts()[0][name] for name in FIELDS[1:]} for number in numbers]


def context(topic):
    return SerializationContext(topic, MessageField.VALUE)


AVRO = {
    "type": "record",
    "name": "Ride",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "fare", "type": ["null", "float"], "default": None},
        {"name": "exact", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 3}},
        {"name": "note", "type": [{"type": "enum", "name": "Note", "symbols": ["SHORT", "LONG"]}, "string", "null"]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "raw", "type": {"type": "fixed", "name": "Raw", "size": 3}},
        {"name": "stops", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "int"}},
        {"name": "cash", "type": "boolean"},
    ],
}
DRIVER = {"type": "record", "name": "Driver", "fields": [{"name": "boss", "type": ["null", "Driver"]}]}
# A later version: micros, a member that is gone, one that no field takes, a type of another schema.
AVRO_LATER = {
    "type": "record",
    "name": "Ride",
    "namespace": "shop",
    "fields": [
        {"name": "driver", "type": ["null", DRIVER]},
        {"name": "id", "type": "int"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "fare", "type": ["null", "com.money.Money"]},
    ],
}
MONEY = {
    "type": "fixed", "name": "Money", "namespace": "com.money", "size": 5,
    "logicalType": "decimal", "precision": 10, "scale": 2,
}  # fmt: skip


def avro_ride(number):
    return {
        "id": number, "ts": T, "fare": 0.5, "exact": Decimal("-12345678901234567.125"), "note": "LONG",
        "day": date(2026, 1, 15), "raw": b"\0\xff\x07", "stops": ["a", "ü"],
        "counts": {"x": -1, "y": 2**31 - 1}, "cash": True,
    }  # fmt: skip


def utc(value):
    return datetime.fromisoformat(str(value)).astimezone(timezone.utc).isoformat()


def normal(row):
    """Times as one kind of text."""
    return {name: utc(value) if name in ("ts", "day") and value is not None else value for name, value in row.items()}


def test_avro_is_read_with_its_logical_types_and_later_schemas(broker, make_server, registry, monkeypatch):
    monkeypatch.setenv("RIDES_REGISTRY", PASSWORD)
    monkeypatch.setenv("WRONG_REGISTRY", "wrong-horse-registry")
    make_topic(broker, "avro")
    client = registry.client()
    first, of = AvroSerializer(client, json.dumps(AVRO)), context("avro")
    send(broker, "avro", [first(avro_ride(1), of), first({**avro_ride(2), "fare": None, "note": None}, of)])
    running = make_server(clock="wall")
    running.start()
    assert running.commit(definition("avro", broker, registry, "avro", "WRONG_REGISTRY")).returncode == 0
    with running.client() as api:
        wait_for(lambda: source_of(api)["state"] == "failed", lambda: source_of(api))
        assert "refuses the server: 401" in source_of(api)["error"], source_of(api)
        assert running.commit(definition("avro", broker, registry, "avro")).returncode == 0
        wait_accepted(api, "Ride", 2)
        expected = {
            "ts": T, "fare": 0.5, "exact": Decimal("-12345678901234567.125"), "note": "LONG",
            "day": datetime(2026, 1, 15, tzinfo=timezone.utc), "raw": b"\0\xff\x07", "stops": ["a", "ü"],
            "counts": {"x": -1, "y": 2**31 - 1}, "cash": True,
        }  # fmt: skip
        assert [normal(row) for row in rides(api, 1, 2)] == [
            normal(expected),
            normal({**expected, "fare": None, "note": None}),
        ]
        # A later schema with a reference, a value that is cut short, one without a header, one of no schema.
        client.register_schema("money", Schema(json.dumps(MONEY), "AVRO"))
        later = Schema(json.dumps(AVRO_LATER), "AVRO", [SchemaReference("com.money.Money", "money", 1)])
        second = AvroSerializer(client, later)
        cut = first(avro_ride(7), of)[:-3]
        later_ts = T + timedelta(microseconds=7)
        boss = {"boss": {"boss": None}}
        good = second({"driver": boss, "id": 3, "ts": later_ts, "fare": Decimal("-7.25")}, of)
        bare = second({"driver": None, "id": 4, "ts": T, "fare": None}, of)
        registry.away = True
        send(broker, "avro", [cut, b"{}", b"\0\0\0\3\xe7x", None, good, bare])
        # Without the registry nothing is lost: the source waits.
        wait_for(lambda: source_of(api)["state"] == "failed", lambda: source_of(api))
        assert "answers 503" in source_of(api)["error"]
        assert accepted(api, "Ride") == 2 and source_of(api)["rejected"] == 0
        registry.away = False
        wait_accepted(api, "Ride", 4)
        wait_for(lambda: source_of(api)["rejected"] == 4, lambda: source_of(api))
        found = rides(api, 3, 4)
        assert [row["fare"] for row in found] == [-7.25, None]
        assert utc(found[0]["ts"]) == utc(later_ts) and found[0]["exact"] is None
        shown = json.dumps([api.list("sources"), api.events(limit=50), api.list("datasets")], default=str)
        assert PASSWORD not in shown and "RIDES_REGISTRY" in shown
        reads = registry.reads
        send(broker, "avro", [first(avro_ride(5), of)])
        wait_accepted(api, "Ride", 5)
        assert registry.reads == reads, "a schema is asked for once"


def proto_class():
    """`message Unused {}` and `message Outer { message Ride { … } }`, made without a compiler."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="ride.proto", package="shop", syntax="proto3",
        dependency=["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"],
    )  # fmt: skip
    file.message_type.add(name="Unused")
    outer = file.message_type.add(name="Outer")
    note = outer.enum_type.add(name="Note")
    for number, name in enumerate(("NONE", "SHORT", "LONG")):
        note.value.add(name=name, number=number)
    ride = outer.nested_type.add(name="Ride")

    def add(name, number, type, label=kind.LABEL_OPTIONAL, **more):
        return ride.field.add(name=name, number=number, type=type, label=label, **more)

    add("id", 1, kind.TYPE_SINT64)
    add("ts", 2, kind.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp")
    add("fare", 3, kind.TYPE_MESSAGE, type_name=".google.protobuf.FloatValue")
    ride.oneof_decl.add(name="_exact")
    add("exact", 4, kind.TYPE_STRING, proto3_optional=True, oneof_index=0)
    add("note", 5, kind.TYPE_ENUM, type_name=".shop.Outer.Note")
    add("day", 6, kind.TYPE_MESSAGE, type_name=".google.protobuf.Timestamp")
    add("raw", 7, kind.TYPE_BYTES)
    add("stops", 8, kind.TYPE_STRING, kind.LABEL_REPEATED)
    entry = ride.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=kind.TYPE_UINT64, label=kind.LABEL_OPTIONAL)
    add("counts", 9, kind.TYPE_MESSAGE, kind.LABEL_REPEATED, type_name=".shop.Outer.Ride.CountsEntry")
    add("cash", 10, kind.TYPE_BOOL)
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Outer.Ride"))


PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Unused {}
message Outer {
  enum Note { NONE = 0; SHORT = 1; LONG = 2; }
  message Ride {
    sint64 id = 1;
    google.protobuf.Timestamp ts = 2;
    google.protobuf.FloatValue fare = 3;
    optional string exact = 4;
    Note note = 5;
    google.protobuf.Timestamp day = 6;
    bytes raw = 7;
    repeated string stops = 8;
    map<string, uint64> counts = 9;
    bool cash = 10;
  }
}
"""


def test_protobuf_is_read_by_the_text_of_its_schema(broker, make_server, registry, monkeypatch):
    monkeypatch.setenv("RIDES_REGISTRY", PASSWORD)
    make_topic(broker, "protobuf")
    Ride = proto_class()
    full = Ride(id=1, exact="1.10", note=2, raw=b"\0\xff", stops=["a", "ü"], counts={"x": 1, "y": 2**40}, cash=True)
    full.ts.FromDatetime(T)
    full.day.FromDatetime(datetime(2026, 1, 15))
    full.fare.value = 0.5
    empty = Ride(id=-2)
    empty.ts.FromDatetime(T + timedelta(microseconds=5))
    too_large = Ride(id=3, counts={"x": 2**64 - 1})
    too_large.ts.FromDatetime(T)
    no_time = Ride(id=4)
    serializer = ProtobufSerializer(Ride, registry.client(), {"use.deprecated.format": False})
    values = [serializer(ride, context("protobuf")) for ride in (full, empty, too_large, no_time)]
    # This serializer registers the descriptor as bytes, and Confluent's registry tells it as text.
    number = int.from_bytes(values[0][1:5], "big")
    registry.schemas[number - 1] = {"schema": PROTO, "schemaType": "PROTOBUF"}
    send(broker, "protobuf", values)
    running = make_server(clock="wall")
    running.start()
    assert running.commit(definition("protobuf", broker, registry, "protobuf")).returncode == 0
    with running.client() as api:
        wait_accepted(api, "Ride", 2)
        wait_for(lambda: source_of(api)["rejected"] == 2, lambda: source_of(api))
        expected = [
            {
                "ts": T, "fare": 0.5, "exact": Decimal("1.1"), "note": "LONG",
                "day": datetime(2026, 1, 15, tzinfo=timezone.utc), "raw": b"\0\xff",
                "stops": ["a", "ü"], "counts": {"x": 1, "y": 2**40}, "cash": True,
            },
            {
                "ts": T + timedelta(microseconds=5), "fare": None, "exact": None, "note": "NONE", "day": None,
                "raw": b"", "stops": [], "counts": {}, "cash": False,
            },
        ]  # fmt: skip
        assert [normal(row) for row in rides(api, 1, -2)] == [normal(row) for row in expected]
        # Read as another format: each record is told, and when it is put right, those behind them are read.
        assert running.commit(definition("protobuf", broker, registry, "avro")).returncode == 0
        send(broker, "protobuf", values[:1])
        wait_for(lambda: source_of(api)["rejected"] == 1, lambda: source_of(api))
        reason = "it is of type PROTOBUF, and the source reads avro"
        wait_for(lambda: reason in json.dumps(api.events(limit=50), default=str), lambda: api.events(limit=50))
        assert running.commit(definition("protobuf", broker, registry, "protobuf")).returncode == 0
        five = Ride(id=5)
        five.ts.FromDatetime(T)
        send(broker, "protobuf", [serializer(five, context("protobuf"))])
        wait_accepted(api, "Ride", 3)
        assert source_of(api)["rejected"] == 0, source_of(api)


def test_json_with_the_header_of_its_serializer_needs_no_registry(broker, make_server, registry, monkeypatch):
    make_topic(broker, "json")
    schema = {"type": "object", "title": "Ride", "properties": {"id": {"type": "integer"}, "ts": {"type": "string"}}}
    serializer = JSONSerializer(json.dumps(schema), registry.client())
    send(broker, "json", [serializer({"id": 1, "ts": "2026-01-15T12:00:00.123Z"}, context("json"))])
    reads = registry.reads
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.address)
    running = make_server(clock="wall")
    running.start()
    before, rest = DATASET.split("@source(", 1)
    text = before + '@source(KafkaSource("json"))\n' + rest[rest.index("@dataset") :]
    assert running.commit(text).returncode == 0
    with running.client() as api:
        wait_accepted(api, "Ride", 1)
        assert utc(rides(api, 1)[0]["ts"]) == utc(T)
    assert registry.reads == reads


def test_the_servers_own_password_goes_to_its_own_registry_only(broker, make_server, registry, monkeypatch):
    make_topic(broker, "own")
    serializer = AvroSerializer(registry.client(), json.dumps(AVRO))
    send(broker, "own", [serializer(avro_ride(1), context("own"))])
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", registry.url.replace("127.0.0.1", "localhost"))
    monkeypatch.setenv("SCHEMA_REGISTRY_USERNAME", "ann")
    monkeypatch.setenv("SCHEMA_REGISTRY_PASSWORD", PASSWORD)
    running = make_server(clock="wall")
    running.start()
    named = running.commit(definition("own", broker, registry, "avro", "SCHEMA_REGISTRY_PASSWORD"))
    assert named.returncode == 4, named.stderr
    assert "names SCHEMA_REGISTRY_PASSWORD, which holds a secret of the server's own" in named.stderr, named.stderr
    text = definition("own", broker, registry, "avro")
    whom = text[text.index("schema_registry_username") : text.index("),\n)")]
    registry.logins.clear()
    assert running.commit(text.replace(whom, "")).returncode == 0
    with running.client() as api:
        wait_for(lambda: source_of(api)["state"] == "failed", lambda: source_of(api))
        assert "is sent to the registry of SCHEMA_REGISTRY_URL only" in source_of(api)["error"], source_of(api)
    assert set(registry.logins) == {None}
    running.stop()
    running.env["SCHEMA_REGISTRY_URL"] = registry.url
    running.start()
    with running.client() as api:
        wait_accepted(api, "Ride", 1)
