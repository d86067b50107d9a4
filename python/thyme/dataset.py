"""`@dataset`: a stream of events of one type, raw (from a source or `log`) or filled by pipelines."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as data_field
from typing import Any, TypeVar

from thyme import registry
from thyme.arguments import checked_flag, checked_version, refuse_unknown
from thyme.duration import checked_duration
from thyme.errors import Location, ThymeDefinitionError
from thyme.location import caller_frame, caller_location, class_member_location
from thyme.metadata import NAMES as METADATA_NAMES
from thyme.metadata import Metadata, take_metadata
from thyme.pipeline import PipelineDefinition, trace_pipelines
from thyme.suggest import suggestion
from thyme.types import ColumnType, column_type, evaluate, own_annotations

Class = TypeVar("Class", bound=type)
_ARGUMENTS = (
    "index", "version", "max_lateness", "max_future", "dedup_window", "partitions", "history", "emit", *METADATA_NAMES
)  # fmt: skip
_RESERVED = ("lookup",)


class FieldDeclaration:
    """What `field(...)` returns until the class is decorated."""

    def __init__(self, key: bool, timestamp: bool, description: str, location: Location | None) -> None:
        self.key = key
        self.timestamp = timestamp
        self.description = description
        self.location = location


def field(*, key: bool = False, timestamp: bool = False, description: str = "", **unknown: object) -> Any:
    """A field of a dataset: `user_id: str = field(key=True)`. A bare annotation is a plain field.

    Raises:
        ThymeDefinitionError: unknown argument, or both key and timestamp.
    """
    location = caller_location()
    refuse_unknown("field", unknown, ("key", "timestamp", "description"), location)
    checked_flag("field", "key", key, location)
    checked_flag("field", "timestamp", timestamp, location)
    if key and timestamp:
        raise ThymeDefinitionError("a field cannot be both key and timestamp", location=location)
    return FieldDeclaration(key, timestamp, description, location)


@dataclass(frozen=True)
class FieldDefinition:
    """A field as declared, its type resolved."""

    name: str
    type: ColumnType
    key: bool = False
    timestamp: bool = False
    description: str = ""

    def to_json(self) -> dict[str, object]:
        found: dict[str, object] = {
            "name": self.name,
            "type": self.type.name,
            "nullable": self.type.nullable,
            "key": self.key,
            "timestamp": self.timestamp,
        }
        return {**found, "description": self.description} if self.description else found


@dataclass(frozen=True)
class FieldReference:
    """`Dataset.field`, for `feature(ref=...)`."""

    dataset: str
    field: str

    def __repr__(self) -> str:
        return f"{self.dataset}.{self.field}"


@dataclass
class DatasetDefinition:
    """A dataset as declared; `source` is set by `@source`."""

    cls: type
    name: str
    version: int
    index: bool
    fields: list[FieldDefinition]
    max_lateness: str | None = None
    max_future: str | None = None
    dedup_window: str | None = None
    history: str | None = None
    partitions: int | None = None
    emit: bool = False
    metadata: Metadata = data_field(default_factory=Metadata)
    location: Location | None = None
    pipelines: list[PipelineDefinition] = data_field(default_factory=list)
    source: Any = None

    @property
    def keys(self) -> list[str]:
        """Names of the key fields in class order."""
        return [found.name for found in self.fields if found.key]


def dataset(cls: Class | None = None, **arguments: Any) -> Class | Callable[[Class], Class]:
    """Declares a dataset.

    Args:
        index: whether rows can be looked up (default False).
        version: raise it for a breaking change (default 1).
        max_lateness: how far behind the newest event an event may be and still count, such as `"1h"`; unset: any. The
            source's own value wins.
        max_future: how far ahead of its arrival an event time may be (default one day).
        dedup_window: how long event ids are remembered (default 7 days of arrival time; at least "1d" with a source).
        partitions: number of log partitions.
        history: how far below the watermark a question may ask, such as `"90d"`: an earlier one is an error that names
            the horizon, and the state lets go of what no answer needs. Needs max_lateness. Unset: everything is kept.
        emit: whether the pipeline that fills it writes each row to a topic for other consumers (default False).
        description, owner, tags, project, deprecated, replacement: shown in the catalog.

    Raises:
        ThymeDefinitionError: anything that does not hold together, with file and line.
    """
    location = caller_location()
    refuse_unknown("@dataset", {name: 0 for name in arguments if name not in _ARGUMENTS}, _ARGUMENTS, location)
    if cls is not None and not isinstance(cls, type):
        raise ThymeDefinitionError(f"@dataset decorates a class, got {cls!r}", location=location)

    def decorate(decorated: Class) -> Class:
        frame = caller_frame()
        local_names = frame.f_locals if frame is not None else {}
        return _declare(decorated, dict(arguments), local_names, location)

    return decorate if cls is None else decorate(cls)


def dataset_of(value: object) -> DatasetDefinition | None:
    """The definition behind a decorated class, else None."""
    return value.__dict__.get("__thyme_dataset__") if isinstance(value, type) else None


def _declare(cls: Class, arguments: dict[str, Any], local_names: dict[str, object], location: Location | None) -> Class:
    where = f"dataset {cls.__name__}"
    metadata = take_metadata(where, arguments, location, cls)
    lengths = {
        name: None if arguments.get(name) is None else checked_duration(arguments[name], name, location)
        for name in ("max_lateness", "max_future", "dedup_window", "history")
    }
    definition = DatasetDefinition(
        cls=cls,
        name=cls.__name__,
        version=checked_version(where, arguments.get("version", 1), location),
        index=checked_flag(where, "index", arguments.get("index", False), location),
        fields=_fields(cls, local_names, location),
        partitions=_partitions(where, arguments.get("partitions"), location),
        emit=checked_flag(where, "emit", arguments.get("emit", False), location),
        metadata=metadata,
        location=location,
        **lengths,
    )
    trace_pipelines(definition)
    registry.current().add_dataset(definition)
    cls.__thyme_dataset__ = definition
    for declared in definition.fields:
        setattr(cls, declared.name, FieldReference(definition.name, declared.name))
    cls.lookup = _lookup_method(definition)
    return cls


def _partitions(where: str, value: object, location: Location | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 256):
        raise ThymeDefinitionError(
            f"{where}: partitions must be an integer from 1 to 256, got {value!r}",
            field="partitions",
            location=location,
        )
    return value


def _fields(cls: type, local_names: dict[str, object], location: Location | None) -> list[FieldDefinition]:
    annotations = own_annotations(cls)
    for name, value in vars(cls).items():
        if isinstance(value, FieldDeclaration) and name not in annotations:
            raise ThymeDefinitionError(
                f"{cls.__name__}.{name} has no type", hint=f"write {name}: int = field(...)", location=value.location
            )
    found: list[FieldDefinition] = []
    for name, annotation in annotations.items():
        place = class_member_location(cls, name, location)
        evaluated = evaluate(annotation, cls, local_names, place)
        if typing.get_origin(evaluated) is typing.ClassVar or evaluated is typing.ClassVar:
            continue
        declared = getattr(cls, name, None)
        if declared is None:
            declared = FieldDeclaration(False, False, "", place)
        if not isinstance(declared, FieldDeclaration):
            raise ThymeDefinitionError(
                f"{cls.__name__}.{name}: a dataset field takes no value, got {declared!r}",
                hint=f"write {name}: {getattr(annotation, '__name__', annotation)}, or use field(...)",
                location=place,
            )
        column = column_type(evaluated, f"{cls.__name__}.{name}", place)
        found.append(FieldDefinition(name, column, declared.key, declared.timestamp, declared.description))
        _check_field(cls, found[-1], place)
    _check_fields(cls, found, location)
    return found


def _check_field(cls: type, declared: FieldDefinition, place: Location | None) -> None:
    where = f"{cls.__name__}.{declared.name}"
    if declared.name in _RESERVED:
        raise ThymeDefinitionError(f"{where}: the name '{declared.name}' is reserved", location=place)
    if (declared.key or declared.timestamp) and declared.type.nullable:
        kind = "key" if declared.key else "timestamp"
        raise ThymeDefinitionError(f"{where}: a {kind} field cannot be Optional", location=place)
    if declared.timestamp and declared.type.name != "datetime":
        raise ThymeDefinitionError(
            f"{where}: the timestamp field is a datetime, not {declared.type.name}", location=place
        )


def _check_fields(cls: type, fields: list[FieldDefinition], location: Location | None) -> None:
    timestamps = [found.name for found in fields if found.timestamp]
    if len(timestamps) != 1:
        has = "no timestamp field" if not timestamps else f"several timestamp fields: {', '.join(timestamps)}"
        raise ThymeDefinitionError(
            f"dataset {cls.__name__} has {has}",
            hint="mark exactly one: ts: datetime = field(timestamp=True)",
            location=location,
        )
    if not any(found.key for found in fields):
        raise ThymeDefinitionError(
            f"dataset {cls.__name__} has no key field",
            hint="mark one or more: user_id: str = field(key=True)",
            location=location,
        )


def _lookup_method(definition: DatasetDefinition) -> classmethod:
    def lookup(cls: type, ts: Any, **keys: Any) -> dict[str, Any] | None:
        """The row of a key as of `ts`, in an extractor.

        An aggregated dataset always has a row; a raw one gives the newest row at or before `ts`, or None.

        Raises:
            ThymeError: unknown or missing key, no index, a `ts` later than the query's, or no query running.
        """
        for name in keys:
            if name not in definition.keys:
                raise ThymeDefinitionError(
                    f"{definition.name} has no key '{name}'",
                    hint=suggestion(name, definition.keys),
                    location=caller_location(),
                )
        for name in definition.keys:
            if name not in keys:
                raise ThymeDefinitionError(
                    f"{definition.name}.lookup needs the key '{name}'",
                    hint=f"write {definition.name}.lookup(ts, {', '.join(f'{key}=...' for key in definition.keys)})",
                    location=caller_location(),
                )
        from thyme._runtime import current as runtime

        active = runtime()
        if active is None:
            raise ThymeDefinitionError(
                f"{definition.name}.lookup works only inside an extractor",
                hint="outside of one use thyme.Client().lookup(...) or MockContext().get_aggregates(...)",
                location=caller_location(),
            )
        return active.lookup(definition.name, ts, keys)

    return classmethod(lookup)
