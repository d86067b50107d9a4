"""`KafkaSource`: a topic of Kafka that the server follows."""

from __future__ import annotations

from collections.abc import Mapping

from thyme.arguments import refuse_unknown
from thyme.errors import Location, ThymeDefinitionError
from thyme.location import caller_location
from thyme.secret import Secret
from thyme.suggest import suggestion

_ARGUMENTS = (
    "topic", "format", "bootstrap_servers", "security_protocol", "sasl_mechanism", "username", "password", "properties",
    "schema_registry", "schema_registry_username", "schema_registry_password",
)  # fmt: skip
_FORMATS = ("json", "avro", "protobuf")
_PROTOCOLS = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")


class KafkaSource:
    """A topic that the server follows: every committed record is one event. `@source` takes no `cursor` and no `every`
    with it: a topic has an order of its own.

    What is left out comes from the server's environment: `KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_SECURITY_PROTOCOL`,
    `KAFKA_SASL_MECHANISM`, `KAFKA_SASL_USERNAME`, `KAFKA_SASL_PASSWORD`, `SCHEMA_REGISTRY_URL`,
    `SCHEMA_REGISTRY_USERNAME`, `SCHEMA_REGISTRY_PASSWORD`. A password goes to the brokers and the registry that the
    environment names beside it, and to no others.

    Args:
        topic: its name.
        format: what the values are: `json` (with or without the header of Confluent's serializers), or `avro` or
            `protobuf` as those serializers write them.
        bootstrap_servers: `host:port`, several separated by commas.
        security_protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        sasl_mechanism: such as `PLAIN` or `SCRAM-SHA-512`.
        username: as whom.
        password: `Secret(env="NAME")`, a variable of the server; never the password itself.
        properties: further properties of librdkafka that say how to connect, such as
            `{"ssl.ca.location": "/etc/ca.pem"}`; values that are secret are each a `Secret(env="NAME")`.
        schema_registry: the address of a registry with Confluent's HTTP interface, for `avro` and `protobuf`.
        schema_registry_username: as whom.
        schema_registry_password: `Secret(env="NAME")`.
    """

    kind = "kafka"

    def __init__(
        self,
        topic: str,
        *,
        format: str = "json",
        bootstrap_servers: str | None = None,
        security_protocol: str | None = None,
        sasl_mechanism: str | None = None,
        username: str | None = None,
        password: Secret | None = None,
        properties: Mapping[str, str | Secret] | None = None,
        schema_registry: str | None = None,
        schema_registry_username: str | None = None,
        schema_registry_password: Secret | None = None,
        **unknown: object,
    ) -> None:
        location = caller_location()
        refuse_unknown("KafkaSource", unknown, _ARGUMENTS, location)
        texts = {
            "topic": topic,
            "format": format,
            "bootstrap_servers": bootstrap_servers,
            "security_protocol": security_protocol,
            "sasl_mechanism": sasl_mechanism,
            "username": username,
            "schema_registry": schema_registry,
            "schema_registry_username": schema_registry_username,
        }
        for name, text in texts.items():
            if (text is not None or name in ("topic", "format")) and (not isinstance(text, str) or not text):
                raise _wrong(f"KafkaSource: {name} must be a text, got {text!r}", None, name, location)
        _one_of("format", format, format, _FORMATS, location)
        if security_protocol is not None:
            _one_of("security_protocol", security_protocol, security_protocol.lower(), _PROTOCOLS, location)
        secrets = {"password": password, "schema_registry_password": schema_registry_password}
        for name, secret in secrets.items():
            if secret is not None and not isinstance(secret, Secret):
                hint = f'write {name}=Secret(env="NAME_OF_A_VARIABLE"); a commit is kept for everybody to read'
                raise _wrong("KafkaSource: a password is not written into a definition", hint, name, location)
        if format == "json" and any((schema_registry, schema_registry_username, schema_registry_password)):
            hint = "leave it out: JSON is read without its schema"
            raise _wrong('KafkaSource: format="json" takes no schema registry', hint, "schema_registry", location)
        given = {
            **texts,
            **{name: None if secret is None else secret.to_json() for name, secret in secrets.items()},
            "properties": _properties(properties, location) or None,
        }
        self._settings = {name: given[name] for name in _ARGUMENTS if given[name] is not None}

    def settings(self) -> dict[str, object]:
        """The connector's own settings; of a secret the name of its variable."""
        return dict(self._settings)


def _properties(given: Mapping[str, str | Secret] | None, location: Location | None) -> dict[str, object]:
    """Which properties may be set is checked by the server, which knows them all."""
    if given is not None and not isinstance(given, Mapping):
        raise _wrong(f"KafkaSource: properties must be a dict, got {given!r}", None, "properties", location)
    read: dict[str, object] = {}
    for name, value in (given or {}).items():
        if not isinstance(name, str) or not isinstance(value, (str, Secret)):
            shown = type(value).__name__
            message = f"KafkaSource: property {name!r} must be a text or a Secret, got {shown}"
            raise _wrong(message, None, "properties", location)
        read[name] = value.to_json() if isinstance(value, Secret) else value
    return read


def _one_of(name: str, given: str, compared: str, allowed: tuple[str, ...], location: Location | None) -> None:
    if compared not in allowed:
        message = f"KafkaSource: unknown {name} {given!r}"
        raise _wrong(message, suggestion(compared, allowed), name, location)


def _wrong(message: str, hint: str | None, field: str, location: Location | None) -> ThymeDefinitionError:
    return ThymeDefinitionError(message, hint=hint, field=field, location=location)
