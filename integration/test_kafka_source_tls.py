"""Brokers and a schema registry behind TLS, with a certificate authority of the test's own."""

from __future__ import annotations

import json
import ssl
import subprocess

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer

from load import check_rows
from shop import SOURCE, rows
from test_kafka_source import source_of, wait_for
from test_kafka_source_formats import PASSWORD, Registry, context
from test_sources import accepted, files_with, wait_accepted

KEY_PASSWORD = "correct-horse-key"
WRONG_PASSWORD = "wrong-horse-key"
AUTHORITY = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = an authority
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
"""
CERTIFICATE = """
subjectAltName = IP:127.0.0.1
extendedKeyUsage = serverAuth, clientAuth
authorityKeyIdentifier = keyid
"""
SCHEMA = {
    "type": "record",
    "name": "Ride",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
DATASET = """
from datetime import datetime

from thyme import KafkaSource, Secret, dataset, field, source


@source(
    KafkaSource("rides", bootstrap_servers="{broker}", security_protocol="{protocol}", properties={{{properties}}},
                format="avro", schema_registry="{registry}", schema_registry_username="ann",
                schema_registry_password=Secret(env="RIDES_REGISTRY")),
)
@dataset(index=True, version=1)
class Ride:
    id: int = field(key=True)
    ts: datetime = field(timestamp=True)
"""


class Authority:
    """Signs certificates, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "authority.cnf").write_text(AUTHORITY)
        self.run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "authority.key", "-out", "authority.pem",
                 "-days", "2", "-config", "authority.cnf")  # fmt: skip

    def run(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def path(self, name):
        return str(self.folder / name)

    def sign(self, name, key_password=None):
        """`NAME.key`, `NAME.crt`, and `NAME.pem` with both, for 127.0.0.1 and no other name."""
        key = ["-passout", f"pass:{key_password}"] if key_password else ["-nodes"]
        self.run("req", "-newkey", "rsa:2048", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr",
                 "-subj", f"/CN={name}")  # fmt: skip
        (self.folder / f"{name}.ext").write_text(CERTIFICATE)
        self.run("x509", "-req", "-in", f"{name}.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
                 "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip
        whole = (self.folder / f"{name}.key").read_text() + (self.folder / f"{name}.crt").read_text()
        (self.folder / f"{name}.pem").write_text(whole)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.sign("server")
    made.sign("client", KEY_PASSWORD)
    return made


@pytest.fixture(scope="module")
def broker(authority, start_broker):
    """Whoever comes shows a certificate of the authority's."""
    running = start_broker(
        "listener.security.protocol.map=PLAINTEXT:SSL,CONTROLLER:PLAINTEXT",
        "ssl.keystore.type=PEM", f"ssl.keystore.location={authority.path('server.pem')}",
        "ssl.truststore.type=PEM", f"ssl.truststore.location={authority.path('authority.pem')}",
        "ssl.client.auth=required",
    )  # fmt: skip
    yield running
    running.close()


@pytest.fixture
def registry(authority):
    running = Registry()
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(authority.path("server.crt"), authority.path("server.key"))
    running.socket = secure.wrap_socket(running.socket, server_side=True)
    yield running
    running.shutdown()


def properties_of(authority, **more):
    return {
        "ssl.ca.location": authority.path("authority.pem"),
        "ssl.certificate.location": authority.path("client.crt"),
        "ssl.key.location": authority.path("client.key"),
        **more,
    }


def test_brokers_and_registry_are_checked_by_their_certificates(make_server, authority, broker, registry, monkeypatch):
    url = registry.url.replace("http:", "https:")
    monkeypatch.setenv("RIDES_REGISTRY", PASSWORD)
    monkeypatch.setenv("CLIENT_KEY", KEY_PASSWORD)
    monkeypatch.setenv("WRONG_KEY", WRONG_PASSWORD)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    mine = {"bootstrap.servers": broker.address, "security.protocol": "ssl"}
    mine |= properties_of(authority, **{"ssl.key.password": KEY_PASSWORD})
    admin = AdminClient(mine)  # its futures end with it
    admin.create_topics([NewTopic("rides", 1, 1)])["rides"].result(30)
    client = SchemaRegistryClient(
        {"url": url, "basic.auth.user.info": f"ann:{PASSWORD}", "ssl.ca.location": authority.path("authority.pem")}
    )
    serializer = AvroSerializer(client, json.dumps(SCHEMA))
    producer = Producer(mine)
    for number in (1, 2):
        producer.produce("rides", serializer({"id": number, "ts": 1_700_000_000_000}, context("rides")))
    assert producer.flush(30) == 0

    running = make_server(clock="wall")
    running.start()

    def commit(properties, protocol="SSL", address=broker.address, variable="CLIENT_KEY"):
        given = ", ".join(f'"{name}": "{value}"' for name, value in properties.items())
        given += f', "ssl.key.password": Secret(env="{variable}")' if "ssl.key.location" in properties else ""
        text = DATASET.format(broker=address, protocol=protocol, properties=given, registry=url)
        done = running.commit(text)
        assert done.returncode == 0, done.stderr

    def told(*parts):
        with running.client() as api:
            wait_for(
                lambda: all(part in (source_of(api)["error"] or "") for part in parts),
                lambda: (parts, source_of(api)["error"]),
            )
            assert accepted(api, "Ride") == 0

    right = properties_of(authority)
    hint = 'check security_protocol and the "ssl.…" properties'
    # Whom the server does not know, whom the broker does not know, and a key that does not open.
    commit({name: value for name, value in right.items() if name != "ssl.ca.location"})
    told("certificate", hint)
    commit({"ssl.ca.location": right["ssl.ca.location"]})
    # A broker that misses the server's certificate hangs up after the handshake, and says nothing.
    told("looking for topic 'rides'", broker.address, '"ssl.certificate.location"')
    commit(right, variable="WRONG_KEY")
    told("ssl.key.location")
    # A broker of another name than the certificate's, and one that is not spoken to as it speaks.
    commit(right, address=broker.address.replace("127.0.0.1", "localhost"))
    told("certificate", hint)
    commit(right, protocol="PLAINTEXT")
    told("check bootstrap_servers and security_protocol")
    # The broker is right, and the registry's certificate is nobody's.
    commit(right)
    told(f"the schema registry at {url}/ does not answer", "certificate", "SSL_CERT_FILE")
    running.stop()
    running.env["SSL_CERT_FILE"] = authority.path("authority.pem")
    running.start()
    with running.client() as api:
        wait_accepted(api, "Ride", 2)
        assert source_of(api)["error"] == "", source_of(api)
    running.stop()
    for secret in (PASSWORD, KEY_PASSWORD, WRONG_PASSWORD):
        assert files_with(running.directory, secret) == []


def test_a_server_has_its_log_behind_tls(make_server, authority, broker, tmp_path_factory):
    def server_of(name, **properties):
        named = {"security.protocol": "SSL", **properties}
        env = {f"THYME_LOG__KAFKA__{name.replace('.', '_').upper()}": value for name, value in named.items()}
        return make_server(name, env=broker.log("shop") | env)

    right = properties_of(authority, **{"ssl.key.password": KEY_PASSWORD})
    server = server_of("right", **right).start()
    done = server.commit(SOURCE)
    assert done.returncode == 0, done.stderr
    sent = rows(100, 1)
    with server.client() as client:
        position = client.log("Order", sent).position
    check_rows(server, sent, position)
    server.stop()
    server.lose_state()
    server.start()
    check_rows(server, sent, position)
    server.stop()

    def refused(name, *parts, **wrong):
        given = {name: value for name, value in {**right, **wrong}.items() if value is not None}
        done = server_of(name, **given).serve_to_end()
        assert done.returncode != 0, done.stdout
        for part in parts:
            assert part in done.stderr, (part, done.stderr)
        assert KEY_PASSWORD not in done.stderr and WRONG_PASSWORD not in done.stderr

    # Another authority's certificate, and a broker that asks for one and is shown none: it hangs up, and says nothing.
    other = Authority(tmp_path_factory.mktemp("other"))
    wrong = {"ssl.ca.location": other.path("authority.pem")}
    refused("stranger", broker.address, "certificate verify failed", '"security.protocol" and the "ssl.*"', **wrong)
    nothing = dict.fromkeys(("ssl.certificate.location", "ssl.key.location", "ssl.key.password"))
    refused("nameless", broker.address, '"security.protocol"', '"ssl.certificate.location"', **nothing)
    refused("locked", "ssl.key.location", **{"ssl.key.password": WRONG_PASSWORD})
    for secret in (KEY_PASSWORD, WRONG_PASSWORD):
        assert files_with(server.directory.parent, secret) == []
