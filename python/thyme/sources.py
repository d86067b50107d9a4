"""`@source`: where the rows of a dataset come from. This release reads files, topics of Kafka and tables of
PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, TypeVar

from thyme.arguments import not_in_this_release, refuse_unknown
from thyme.dataset import dataset_of
from thyme.duration import checked_duration
from thyme.errors import Location, ThymeDefinitionError
from thyme.kafka_source import KafkaSource
from thyme.location import caller_location
from thyme.metadata import NAMES as METADATA_NAMES
from thyme.metadata import Metadata, take_metadata
from thyme.postgres_source import PostgresSource
from thyme.suggest import suggestion

Class = TypeVar("Class", bound=type)
_ARGUMENTS = ("cursor", "every", "max_lateness", "cdc", *METADATA_NAMES)
_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
LATER = ("KinesisSource", "IcebergSource", "S3Source", "BigQuerySource", "SnowflakeSource")
_STREAMING = (KafkaSource,)


class FileSource:
    """A file that the server reads and then follows as it grows: JSON lines, CSV or Parquet.

    Args:
        path: as the server sees it; a relative one starts from the directory where the server was started.
        format: `jsonl`, `csv` or `parquet`; from the file's ending when left out.
    """

    kind = "file"

    def __init__(self, path: str | os.PathLike[str], *, format: str | None = None, **unknown: object) -> None:
        location = caller_location()
        refuse_unknown("FileSource", unknown, ("path", "format"), location)
        self.path = os.fspath(path)
        ending = PurePath(self.path).suffix.lower()
        if format is None and ending not in _FORMATS:
            raise ThymeDefinitionError(
                f"cannot tell the format of '{self.path}' from its ending",
                hint='say format="jsonl", "csv" or "parquet"',
                field="format",
                location=location,
            )
        if format is not None and format not in _FORMATS.values():
            raise ThymeDefinitionError(
                f"unknown file format {format!r}",
                hint=suggestion(str(format), set(_FORMATS.values())),
                field="format",
                location=location,
            )
        self.format = format or _FORMATS[ending]

    def settings(self) -> dict[str, object]:
        """The connector's own settings."""
        return {"path": self.path, "format": self.format}


@dataclass
class SourceDefinition:
    """A source as declared."""

    connector: FileSource | KafkaSource | PostgresSource
    cursor: str | None = None
    every: str | None = None
    max_lateness: str | None = None
    cdc: str = "append"
    metadata: Metadata = field(default_factory=Metadata)
    location: Location | None = None


def source(connector: Any = None, **arguments: Any) -> Callable[[Class], Class]:
    """Attaches a source to a dataset: `@source(FileSource("orders.jsonl"), max_lateness="1h")` above `@dataset`.

    Args:
        connector: a `FileSource`, a `KafkaSource` or a `PostgresSource`.
        cursor: the field in whose order a table is read.
        every: how often it is looked at, such as `"5s"`. A topic is followed and takes neither.
        max_lateness: wins over the dataset's own.
        cdc: `"append"`: each row is an event.
        description, owner, tags, project, deprecated, replacement: shown in the catalog.

    Raises:
        ThymeDefinitionError: an unknown argument, field or connector.
    """
    location = caller_location()
    refuse_unknown("@source", {name: 0 for name in arguments if name not in _ARGUMENTS}, _ARGUMENTS, location)
    if not isinstance(connector, (FileSource, KafkaSource, PostgresSource)):
        raise ThymeDefinitionError(
            f"@source takes a connector, got {connector!r}",
            hint='write @source(FileSource("orders.jsonl"))',
            location=location,
        )
    for name in ("cursor", "every"):
        if isinstance(connector, _STREAMING) and arguments.get(name) is not None:
            raise ThymeDefinitionError(
                f"@source: a {type(connector).__name__} takes no {name}",
                hint=f"leave {name} out: a topic has an order of its own and is followed as it grows",
                field=name,
                location=location,
            )
    cdc = arguments.get("cdc", "append")
    if cdc in ("upsert", "debezium", "native"):
        raise not_in_this_release(f'cdc="{cdc}"', 'use cdc="append": each row is an event', location)
    if cdc != "append":
        raise ThymeDefinitionError(f"unknown cdc {cdc!r}", hint='allowed: "append"', field="cdc", location=location)
    lengths = {
        name: None if arguments.get(name) is None else checked_duration(arguments[name], name, location)
        for name in ("every", "max_lateness")
    }

    def decorate(cls: Class) -> Class:
        definition = dataset_of(cls)
        if definition is None:
            raise ThymeDefinitionError(
                f"@source decorates a dataset, got {cls!r}", hint="put @source above @dataset", location=location
            )
        where = f"dataset {definition.name}"
        if definition.pipelines:
            raise ThymeDefinitionError(f"{where} is filled by a pipeline and takes no source", location=location)
        if definition.source is not None:
            raise ThymeDefinitionError(f"{where} has two sources", location=location)
        cursor = arguments.get("cursor")
        names = [found.name for found in definition.fields]
        if cursor is not None and cursor not in names:
            raise ThymeDefinitionError(
                f"{where} has no field '{cursor}' for cursor",
                hint=suggestion(str(cursor), names),
                field="cursor",
                location=location,
            )
        metadata = take_metadata(f"source of {definition.name}", dict(arguments), location)
        definition.source = SourceDefinition(
            connector, cursor, cdc=cdc, metadata=metadata, location=location, **lengths
        )
        return cls

    return decorate
