"""`@featureset` and `feature`: the named values that a model asks for."""

from __future__ import annotations

import decimal
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from thyme import registry
from thyme.arguments import checked_flag, refuse_unknown
from thyme.dataset import FieldReference, dataset_of
from thyme.errors import Location, ThymeDefinitionError
from thyme.extractor import ExtractorDefinition, FeatureReference, collect_extractors
from thyme.literals import literal
from thyme.location import caller_frame, caller_location, class_member_location
from thyme.metadata import NAMES as METADATA_NAMES
from thyme.metadata import Metadata, take_metadata
from thyme.suggest import suggestion
from thyme.types import ColumnType, column_type, evaluate, own_annotations

Class = TypeVar("Class", bound=type)
_FEATURE_ARGUMENTS = ("id", "ref", "default", "request", "on", "deprecated", "description")


class FeatureDeclaration:
    """What `feature(...)` returns until the class is decorated."""

    def __init__(self, location: Location | None, arguments: dict[str, Any]) -> None:
        self.location = location
        self.arguments = arguments


def feature(
    id: int | None = None,
    *,
    ref: Any = None,
    default: Any = None,
    request: bool = False,
    on: Mapping[str, str] | None = None,
    deprecated: bool = False,
    description: str = "",
    **unknown: Any,
) -> Any:
    """A feature: `orders_1h: int = feature(id=2, ref=UserStats.orders_1h, default=0)`.

    Args:
        id: stable number, unique in the featureset, never reused; a new name for the same id is a rename.
        ref: the dataset field that it reads, as of the query's time.
        default: replaces the value of an empty window.
        request: supplied with each query.
        on: dataset key -> feature that holds it, where names do not match.

    A feature without `ref`, that no extractor gives and that is not `request=True`, is a key.

    Raises:
        ThymeDefinitionError: an unknown argument, or ones that exclude each other.
    """
    location = caller_location()
    refuse_unknown("feature", unknown, _FEATURE_ARGUMENTS, location)
    checked_flag("feature", "request", request, location)
    checked_flag("feature", "deprecated", deprecated, location)

    def refuse(message: str, hint: str | None, name: str) -> ThymeDefinitionError:
        return ThymeDefinitionError(f"feature: {message}", hint=hint, field=name, location=location)

    if id is not None and (isinstance(id, bool) or not isinstance(id, int) or not 0 < id < 2**32):
        raise refuse(f"id must be an integer from 1 on, got {id!r}", None, "id")
    if ref is not None and not isinstance(ref, FieldReference):
        hint = f"write ref={ref.__name__}.some_field" if dataset_of(ref) else "write ref=UserStats.orders_1h"
        raise refuse(f"ref takes a field of a dataset, got {ref!r}", hint, "ref")
    if ref is not None and request:
        raise refuse("ref and request=True exclude each other", None, "request")
    if on is not None and ref is None:
        raise refuse("on= needs ref=", "on= says which feature holds each key of the dataset of ref=", "on")
    if default is not None and ref is None:
        raise refuse("default= needs ref=", "an extractor returns its own default", "default")
    if on is not None and not (
        isinstance(on, Mapping) and on and all(isinstance(a, str) and isinstance(b, str) for a, b in on.items())
    ):
        raise refuse(f"on takes a dict of names, got {on!r}", 'such as on={"carrier": "carrier_code"}', "on")
    arguments = {
        "id": id, "ref": ref, "default": default, "request": request, "on": dict(on or {}), "deprecated": deprecated,
        "description": description,
    }  # fmt: skip
    return FeatureDeclaration(location, arguments)


@dataclass(frozen=True)
class FeatureDefinition:
    """A feature as declared, its type resolved."""

    name: str
    type: ColumnType
    id: int | None = None
    request: bool = False
    ref: FieldReference | None = None
    on: dict[str, str] = field(default_factory=dict)
    default: dict[str, object] | None = None
    deprecated: bool = False
    description: str = ""
    location: Location | None = None


@dataclass
class FeaturesetDefinition:
    """A featureset as declared."""

    cls: type
    name: str
    features: list[FeatureDefinition]
    extractors: list[ExtractorDefinition] = field(default_factory=list)
    metadata: Metadata = field(default_factory=Metadata)
    location: Location | None = None

    @property
    def keys(self) -> list[str]:
        """Names of the features that identify an entity: neither produced nor `request=True`."""
        produced = {output for extractor in self.extractors for output in extractor.outputs}
        return [f.name for f in self.features if f.ref is None and not f.request and f.name not in produced]


def featureset(cls: Class | None = None, **arguments: Any) -> Class | Callable[[Class], Class]:
    """Declares a featureset; accepts description, owner, tags, project, deprecated, replacement.

    Raises:
        ThymeDefinitionError: anything that does not hold together, with file and line.
    """
    location = caller_location()
    refuse_unknown(
        "@featureset", {name: 0 for name in arguments if name not in METADATA_NAMES}, METADATA_NAMES, location
    )
    if cls is not None and not isinstance(cls, type):
        raise ThymeDefinitionError(f"@featureset decorates a class, got {cls!r}", location=location)

    def decorate(decorated: Class) -> Class:
        frame = caller_frame()
        return _declare(decorated, dict(arguments), frame.f_locals if frame is not None else {}, location)

    return decorate if cls is None else decorate(cls)


def featureset_of(value: object) -> FeaturesetDefinition | None:
    """The definition behind a decorated class, else None."""
    return value.__dict__.get("__thyme_featureset__") if isinstance(value, type) else None


def _declare(
    cls: Class, arguments: dict[str, Any], local_names: Mapping[str, object], location: Location | None
) -> Class:
    metadata = take_metadata(f"featureset {cls.__name__}", arguments, location, cls)
    features = _features(cls, local_names, location)
    definition = FeaturesetDefinition(cls, cls.__name__, features, metadata=metadata, location=location)
    declared = {name: value for name, value in vars(cls).items() if isinstance(value, FeatureDeclaration)}
    definition.extractors = collect_extractors(cls, [found.name for found in features], declared)
    _check_kinds(definition)
    registry.current().add_featureset(definition)
    cls.__thyme_featureset__ = definition
    for found in features:
        setattr(cls, found.name, FeatureReference(definition.name, found.name))
    return cls


def _features(cls: type, local_names: Mapping[str, object], location: Location | None) -> list[FeatureDefinition]:
    annotations = own_annotations(cls)
    for name, value in vars(cls).items():
        if isinstance(value, FeatureDeclaration) and name not in annotations:
            raise ThymeDefinitionError(
                f"{cls.__name__}.{name} has no type", hint=f"write {name}: int = feature(...)", location=value.location
            )
    found: list[FeatureDefinition] = []
    for name, annotation in annotations.items():
        place = class_member_location(cls, name, location)
        evaluated = evaluate(annotation, cls, local_names, place)
        if typing.get_origin(evaluated) is typing.ClassVar or evaluated is typing.ClassVar:
            continue
        declared = getattr(cls, name, None)
        if declared is not None and not isinstance(declared, FeatureDeclaration):
            raise ThymeDefinitionError(
                f"{cls.__name__}.{name}: a feature takes no value, got {declared!r}",
                hint="write feature(ref=..., default=...)",
                location=place,
            )
        given = {} if declared is None else dict(declared.arguments)
        column = column_type(evaluated, f"{cls.__name__}.{name}", place)
        default = given.pop("default", None)
        checked = None if default is None else _default(f"{cls.__name__}.{name}", default, column, place)
        found.append(FeatureDefinition(name, column, default=checked, location=place, **given))
    if not found:
        raise ThymeDefinitionError(f"featureset {cls.__name__} has no features", location=location)
    _check_ids(cls, found)
    return found


def _default(where: str, value: object, column: ColumnType, place: Location | None) -> dict[str, object]:
    if column.name in ("float", "Decimal") and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if column.name == "float" else decimal.Decimal(value)
    found = literal(value, place)
    kind = next(iter(found))
    if kind != column.name.lower() and not (kind == "list" and column.name.startswith("list[")):
        raise ThymeDefinitionError(
            f"{where}: the default {value!r} is not of type {column.name}", field="default", location=place
        )
    return found


def _check_ids(cls: type, features: list[FeatureDefinition]) -> None:
    seen: dict[int, str] = {}
    for found in features:
        if found.id is None:
            continue
        if found.id in seen:
            raise ThymeDefinitionError(
                f"{cls.__name__}: features {seen[found.id]} and {found.name} have the same id {found.id}",
                hint="ids are unique within a featureset",
                field="id",
                location=found.location,
            )
        seen[found.id] = found.name


def _check_kinds(definition: FeaturesetDefinition) -> None:
    by_name = {found.name: found for found in definition.features}
    for extractor in definition.extractors:
        for output in extractor.outputs:
            found = by_name[output]
            if found.ref is not None or found.request:
                kind = f"ref={found.ref}" if found.ref is not None else "request=True"
                raise ThymeDefinitionError(
                    f"{definition.name}.{output} has {kind} and the extractor {extractor.name} gives it too",
                    hint="a feature comes from one place",
                    field=output,
                    location=extractor.location,
                )
    for found in definition.features:
        for feature_name in found.on.values():
            if feature_name not in by_name:
                raise ThymeDefinitionError(
                    f"{definition.name}.{found.name}: on= names the unknown feature '{feature_name}'",
                    hint=suggestion(feature_name, by_name),
                    field="on",
                    location=found.location,
                )
