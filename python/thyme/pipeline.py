"""`@pipeline` and `@inputs`: how an aggregated dataset is computed. The body runs once, with symbolic rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thyme.arguments import checked_version, not_in_this_release, refuse_unknown
from thyme.errors import Location, ThymeDefinitionError, ThymeError
from thyme.frame import AggregatedFrame, Frame
from thyme.location import caller_location, error_location, function_location
from thyme.suggest import suggestion

if TYPE_CHECKING:
    from thyme.dataset import DatasetDefinition


@dataclass
class PipelineDefinition:
    """A pipeline after its body has run."""

    name: str
    version: int
    dataset: str
    input: str
    location: Location | None
    steps: list[dict[str, object]] = field(default_factory=list)
    group_by: list[str] = field(default_factory=list)
    aggregates: list[dict[str, object]] = field(default_factory=list)


def pipeline(function: Callable[..., Any] | None = None, **arguments: Any) -> Any:
    """Marks a method of a dataset class as the pipeline that fills it: `@pipeline(version=1)` above `@inputs(Order)`.

    Raises:
        ThymeDefinitionError: an unknown argument.
    """
    location = caller_location()
    refuse_unknown("@pipeline", {name: 0 for name in arguments if name != "version"}, ("version",), location)
    version = checked_version("@pipeline", arguments.get("version", 1), location)
    if function is not None and not inspect.isfunction(function):
        raise ThymeDefinitionError(
            f"@pipeline decorates a function, got {function!r}", hint="write @pipeline(version=1)", location=location
        )

    def decorate(decorated: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.isfunction(decorated):
            raise ThymeDefinitionError(
                f"@pipeline decorates a plain function, got {decorated!r}",
                hint="leave out @classmethod and @staticmethod",
                location=location,
            )
        decorated.__thyme_pipeline__ = version
        return decorated

    return decorate if function is None else decorate(function)


def inputs(*datasets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Names the dataset that a pipeline reads: `@inputs(Order)`.

    Raises:
        ThymeDefinitionError: not a dataset, none, or more than one.
    """
    location = caller_location()
    from thyme.dataset import dataset_of

    for given in datasets:
        if dataset_of(given) is None:
            what = f"the function {given.__name__}" if inspect.isfunction(given) else repr(given)
            raise ThymeDefinitionError(
                f"@inputs takes dataset classes, got {what}", hint="write @inputs(Order)", location=location
            )
    if not datasets:
        raise ThymeDefinitionError("@inputs names no dataset", hint="write @inputs(Order)", location=location)
    if len(datasets) > 1:
        raise not_in_this_release("@inputs with several datasets", "a pipeline reads one dataset", location)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__thyme_inputs__ = datasets[0]
        return function

    return decorate


def trace_pipelines(target: DatasetDefinition) -> None:
    """Runs the bodies of the pipelines of a dataset and keeps what they describe.

    Raises:
        ThymeDefinitionError: a body that raises, at its line; an unknown column, field or method.
    """
    for name, function in list(vars(target.cls).items()):
        is_pipeline = hasattr(function, "__thyme_pipeline__")
        if hasattr(function, "__thyme_inputs__") and not is_pipeline:
            raise ThymeDefinitionError(
                f"{target.name}.{name} has @inputs but no @pipeline",
                hint="put @pipeline(version=1) above @inputs(...)",
                location=function_location(function),
            )
        if is_pipeline:
            target.pipelines.append(_trace(target, name, function))
    _check_filled(target)


def _trace(target: DatasetDefinition, name: str, function: Any) -> PipelineDefinition:
    from thyme.dataset import dataset_of

    where = f"{target.name}.{name}"
    location = function_location(function)
    given = getattr(function, "__thyme_inputs__", None)
    if given is None:
        raise ThymeDefinitionError(
            f"pipeline {where} has no @inputs", hint="put @inputs(Order) between @pipeline and def", location=location
        )
    source = dataset_of(given)
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2:
        raise ThymeDefinitionError(
            f"pipeline {where} takes {len(parameters)} parameters, needs 2",
            hint=f"write def {name}(cls, {source.name.lower()}):",
            location=location,
        )
    try:
        result = function(target.cls, Frame(where, source))
    except ThymeError as error:
        error.location = error.location or error_location(error) or location
        raise
    except Exception as error:
        raise ThymeDefinitionError(
            f"pipeline {where} raised {type(error).__name__}: {error}",
            field=where,
            location=error_location(error) or location,
        ) from error
    if not isinstance(result, AggregatedFrame):
        got = "nothing" if result is None else f"a {type(result).__name__}"
        raise ThymeDefinitionError(
            f"pipeline {where} returned {got}",
            hint="return rows.groupby(...).aggregate(...)" + (" (is there a return?)" if result is None else ""),
            location=location,
        )
    _check_output(target, where, result, location)
    return PipelineDefinition(
        name=name,
        version=function.__thyme_pipeline__,
        dataset=target.name,
        input=source.name,
        location=location,
        steps=result.steps,
        group_by=result.group_by,
        aggregates=[aggregate.to_json(field_name) for field_name, aggregate in result.aggregates.items()],
    )


def _check_output(target: DatasetDefinition, where: str, result: AggregatedFrame, location: Location | None) -> None:
    if set(result.group_by) != set(target.keys):
        raise ThymeDefinitionError(
            f"pipeline {where} groups by {', '.join(result.group_by)}, but the keys of {target.name} are "
            f"{', '.join(target.keys)}",
            hint="group by columns named like the key fields; rename with .assign(user_id=col(...))",
            field="groupby",
            location=location,
        )
    fillable = [found.name for found in target.fields if not found.key and not found.timestamp]
    for name, aggregate in result.aggregates.items():
        if name not in fillable:
            raise ThymeDefinitionError(
                f"pipeline {where}: {target.name} has no field '{name}' to fill",
                hint=suggestion(name, fillable),
                field=name,
                location=aggregate.location or location,
            )


def _check_filled(target: DatasetDefinition) -> None:
    if not target.pipelines:
        return
    filled = {aggregate["name"] for found in target.pipelines for aggregate in found.aggregates}
    for declared in target.fields:
        if not declared.key and not declared.timestamp and declared.name not in filled:
            raise ThymeDefinitionError(
                f"no pipeline fills {target.name}.{declared.name}",
                hint=f"add {declared.name}=... to aggregate(...), or remove the field",
                field=declared.name,
                location=target.pipelines[0].location,
            )
