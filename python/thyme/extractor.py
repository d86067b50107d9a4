"""`@extractor`: a plain function that computes features of a featureset from others and from lookups."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from thyme.arguments import checked_flag, checked_version, refuse_unknown
from thyme.dataset import dataset_of
from thyme.duration import micros
from thyme.errors import Location, ThymeDefinitionError
from thyme.location import caller_location, function_location
from thyme.suggest import suggestion

_ARGUMENTS = ("deps", "version", "batch", "deadline")


@dataclass(frozen=True)
class FeatureReference:
    """`Featureset.feature`, for `@extractor_inputs`."""

    featureset: str
    feature: str

    def __repr__(self) -> str:
        return f"{self.featureset}.{self.feature}"


@dataclass
class ExtractorDefinition:
    """An extractor as declared. `style` is `dict` (a parameter named `inputs`) or `arguments` (one per input)."""

    name: str
    version: int
    function: Callable[..., Any]
    inputs: list[FeatureReference]
    outputs: list[str]
    deps: list[str]
    style: str
    batch: bool
    deadline_ms: int | None
    location: Location | None


def extractor(function: Callable[..., Any] | None = None, **arguments: Any) -> Any:
    """Marks a method of a featureset as an extractor: `@extractor(deps=[UserStats], version=1)`.

    Args:
        deps: datasets that it looks up.
        version: raise it when its meaning changes (default 1).
        batch: it receives and returns columns.
        deadline: the longest it may run, such as `"2s"` or a number of seconds; unset: the server's default.

    Raises:
        ThymeDefinitionError: an unknown argument or one of the wrong type.
    """
    location = caller_location()
    refuse_unknown("@extractor", {name: 0 for name in arguments if name not in _ARGUMENTS}, _ARGUMENTS, location)
    settings = {
        "version": checked_version("@extractor", arguments.get("version", 1), location),
        "batch": checked_flag("@extractor", "batch", arguments.get("batch", False), location),
        "deps": _deps(arguments.get("deps", ()), location),
        "deadline_ms": _deadline(arguments.get("deadline"), location),
    }
    if function is not None and not callable(function):
        raise ThymeDefinitionError(f"@extractor decorates a function, got {function!r}", location=location)

    def decorate(decorated: Callable[..., Any]) -> Callable[..., Any]:
        return _mark(decorated, "__thyme_extractor__", settings, location)

    return decorate if function is None else decorate(function)


def extractor_inputs(*features: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The features that an extractor takes: names of its own featureset, or `Other.feature`."""
    location = caller_location()
    _refuse_bare(features, "extractor_inputs", location)
    return lambda function: _mark(function, "__thyme_extractor_inputs__", features, location)


def extractor_outputs(*features: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The features that an extractor gives, in the order of the tuple that it returns."""
    location = caller_location()
    _refuse_bare(features, "extractor_outputs", location)
    return lambda function: _mark(function, "__thyme_extractor_outputs__", features, location)


def collect_extractors(cls: type, names: list[str], declared: Mapping[str, object]) -> list[ExtractorDefinition]:
    """The extractors of a featureset class; `declared` maps names to the declarations that stand in its body.

    Raises:
        ThymeDefinitionError: an unknown feature, a wrong signature, two extractors for one feature.
    """
    found: list[ExtractorDefinition] = []
    for name, function in vars(cls).items():
        plain = getattr(function, "__func__", function)
        marks = [mark for mark in ("inputs", "outputs") if hasattr(plain, f"__thyme_extractor_{mark}__")]
        if not hasattr(plain, "__thyme_extractor__"):
            if marks:
                raise ThymeDefinitionError(
                    f"{cls.__name__}.{name} has @extractor_{marks[0]} but no @extractor",
                    hint="put @extractor above it",
                    location=function_location(plain),
                )
            continue
        found.append(_definition(cls, name, function, names, declared))
    giver: dict[str, str] = {}
    for extractor_found in found:
        for output in extractor_found.outputs:
            if output in giver:
                raise ThymeDefinitionError(
                    f"{cls.__name__}.{output} is given by two extractors: {giver[output]} and {extractor_found.name}",
                    field=output,
                    location=extractor_found.location,
                )
            giver[output] = extractor_found.name
    return found


def _definition(
    cls: type, name: str, function: Any, names: list[str], declared: Mapping[str, object]
) -> ExtractorDefinition:
    where = f"{cls.__name__}.{name}"
    location = function_location(function)
    if not hasattr(function, "__thyme_extractor_outputs__"):
        raise ThymeDefinitionError(
            f"extractor {where} has no @extractor_outputs", hint='write @extractor_outputs("score")', location=location
        )
    own = {id(value): member for member, value in declared.items()}

    def reference(given: Any, kind: str) -> FeatureReference:
        if isinstance(given, FeatureReference):
            return given
        member = own.get(id(given), given)
        if isinstance(member, str) and member in names:
            return FeatureReference(cls.__name__, member)
        if isinstance(member, str):
            raise ThymeDefinitionError(
                f"extractor {where}: unknown feature '{member}' in @extractor_{kind}",
                hint=suggestion(member, names),
                field=member,
                location=location,
            )
        raise ThymeDefinitionError(
            f"extractor {where}: @extractor_{kind} takes feature names, got {given!r}",
            hint='write "uid", or Other.feature for a feature of another featureset',
            location=location,
        )

    inputs = [reference(given, "inputs") for given in getattr(function, "__thyme_extractor_inputs__", ())]
    outputs = [reference(given, "outputs") for given in function.__thyme_extractor_outputs__]
    for kind, listed in (("inputs", inputs), ("outputs", outputs)):
        if len(set(listed)) != len(listed):
            raise ThymeDefinitionError(f"extractor {where}: @extractor_{kind} names a feature twice", location=location)
    for output in outputs:
        if output.featureset != cls.__name__:
            raise ThymeDefinitionError(
                f"extractor {where} cannot give {output}: it belongs to another featureset", location=location
            )
    return ExtractorDefinition(
        name=name,
        function=function,
        inputs=inputs,
        outputs=[output.feature for output in outputs],
        style=_style(where, function, inputs, location),
        location=location,
        **function.__thyme_extractor__,
    )


def _style(where: str, function: Any, inputs: list[FeatureReference], location: Location | None) -> str:
    parameters = list(inspect.signature(function).parameters.values())
    names = [parameter.name for parameter in parameters]
    wanted = ["cls", "ts", *(given.feature for given in inputs)]
    hint = f"write def {function.__name__}({', '.join(wanted)}): or def {function.__name__}(cls, ts, inputs):"

    def refuse(message: str) -> ThymeDefinitionError:
        return ThymeDefinitionError(f"extractor {where} {message}", hint=hint, location=location)

    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ThymeDefinitionError(f"extractor {where} must be a plain function", location=location)
    if any(parameter.kind in (parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY) for parameter in parameters):
        raise refuse("has keyword-only parameters")
    if len(names) < 2:
        raise refuse(f"takes ({', '.join(names)})")
    rest = names[2:]
    if rest == ["inputs"] and "inputs" not in [given.feature for given in inputs]:
        return "dict"
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return "arguments"
    if len(rest) != len(inputs):
        raise refuse(f"takes {len(rest)} inputs, but @extractor_inputs names {len(inputs)}")
    in_order = [given.feature for given in inputs]
    if rest != in_order and set(rest) == set(in_order):
        raise refuse("has its parameters in another order than @extractor_inputs")
    return "arguments"


def _mark(function: Any, attribute: str, value: object, location: Location | None) -> Any:
    if not inspect.isfunction(function):
        raise ThymeDefinitionError(
            f"an extractor is a plain function, got {function!r}",
            hint="leave out @classmethod and @staticmethod",
            location=location,
        )
    setattr(function, attribute, value)
    return function


def _refuse_bare(features: tuple[Any, ...], decorator: str, location: Location | None) -> None:
    if len(features) == 1 and inspect.isfunction(features[0]):
        raise ThymeDefinitionError(
            f"@{decorator} needs feature names", hint=f'write @{decorator}("uid")', location=location
        )
    if not features:
        raise ThymeDefinitionError(f"@{decorator} names no feature", hint="leave it out", location=location)


def _deps(deps: Any, location: Location | None) -> list[str]:
    if not isinstance(deps, (list, tuple, set)):
        raise ThymeDefinitionError(
            f"@extractor: deps takes a list of datasets, got {deps!r}", hint="write deps=[UserStats]", location=location
        )
    for given in deps:
        if dataset_of(given) is None:
            raise ThymeDefinitionError(
                f"@extractor: deps takes datasets, got {given!r}",
                hint="write deps=[UserStats]",
                field="deps",
                location=location,
            )
    return [dataset_of(given).name for given in deps]


def _deadline(value: Any, location: Location | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and micros(value) is not None:
        return min(micros(value) // 1000, 2**32 - 1)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.001 <= value <= 86_400:
        return round(value * 1000)
    raise ThymeDefinitionError(
        f"@extractor: deadline takes a length of time, got {value!r}",
        hint='such as "2s", or seconds as a number: 0.1',
        field="deadline",
        location=location,
    )
