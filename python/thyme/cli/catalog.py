"""`thyme inspect`: what the catalog holds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thyme.cli.options import ControlUrl, Json, Url, connect
from thyme.cli.output import note, reports_errors, say, say_json, say_table, text_of
from thyme.errors import NotFoundError
from thyme.suggest import suggestion

SHOWN_REJECTED = 5
_KINDS = ("datasets", "pipelines", "featuresets", "sources")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("inspect")(inspect)


@reports_errors
def inspect(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A dataset, pipeline or featureset.")] = None,
    url: Url = None,
    control_url: ControlUrl = None,
    as_json: Json = False,
) -> None:
    """Show what the catalog holds, or all about one dataset, pipeline or featureset."""
    with connect(url, control_url) as client:
        held = {kind: client.list(kind) for kind in _KINDS}
        raw = any(found["name"] == name and not found["pipelines"] for found in held["datasets"])
        held["rejected"] = client.rejected(name, SHOWN_REJECTED) if name is not None and raw else []
    if name is None:
        del held["rejected"]
        say_json(held) if as_json else _overview(held)
        return
    for kind in ("datasets", "featuresets", "pipelines"):
        for found in held[kind]:
            if found["name"] == name:
                more = {"sources": _sources_of(found, held), "rejected": held["rejected"]} if kind == "datasets" else {}
                say_json({"kind": kind[:-1], **found, **more}) if as_json else _SHOW[kind](found, held)
                return
    names = [found["name"] for kind in ("datasets", "featuresets", "pipelines") for found in held[kind]]
    raise NotFoundError(f"nothing is called '{name}'", hint=suggestion(name, names), field=name)


def _overview(held: dict[str, list[dict[str, Any]]]) -> None:
    if not any(held.values()):
        note("nothing is defined yet; write thyme commit features.py")
        return
    if held["datasets"]:
        names = ["dataset", "version", "keys", "index", "accepted", "late", "watermark", "filled by"]
        say_table(names, [_dataset_row(found, held) for found in held["datasets"]])
        say("")
    if held["pipelines"]:
        rows = [[p["name"], p["version"], p["input"], ", ".join(p["group_by"]), p["lag"]] for p in held["pipelines"]]
        say_table(["pipeline", "version", "reads", "groups by", "lag"], rows)
        say("")
    if held["featuresets"]:
        rows = [[f["name"], ", ".join(f["keys"]), len(f["features"]), f["available"]] for f in held["featuresets"]]
        say_table(["featureset", "keys", "features", "available"], rows)


def _dataset_row(found: dict[str, Any], held: dict[str, list[dict[str, Any]]]) -> list[Any]:
    keys = ", ".join(field["name"] for field in found["fields"] if field["key"])
    counts = found["counts"] or {}
    origin = ", ".join(found["pipelines"]) or (f"source {found['source']}" if found["source"] else "ingest")
    numbers = [counts.get("accepted", 0), counts.get("late_dropped", 0)]
    return [found["name"], found["version"], keys, found["index"], *numbers, found["watermark"], origin]


def _show_dataset(found: dict[str, Any], held: dict[str, list[dict[str, Any]]]) -> None:
    index = ", index" if found["index"] else ""
    say(f"dataset {found['name']}, version {found['version']}{index}, {found['partitions']} partitions")
    _show_metadata(found["metadata"])
    late = f"{found['max_lateness']} late at most" if found["max_lateness"] else "nothing is ever late"
    kept = f"; history {found['history']}" if found["history"] else ""
    say(f"{late}{kept}; watermark {text_of(found['watermark'])}")
    if found["counts"]:
        say(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in found["counts"].items()))
    say("")
    say_table(
        ["field", "type", "role", "description"],
        [
            [
                field["name"],
                f"Optional[{field['type']}]" if field["nullable"] else field["type"],
                "key" if field["key"] else "timestamp" if field["timestamp"] else "",
                field["description"],
            ]
            for field in found["fields"]
        ],
    )
    for source in _sources_of(found, held):
        say("")
        _show_source(source)
    if held["rejected"]:
        say("")
        say(f"did not become events (at most {SHOWN_REJECTED} of each kind):")
        for row in held["rejected"]:
            place = "" if row["partition"] is None else f", partition {row['partition']} offset {row['offset']}"
            say(f"  {row['kind']}, arrived {text_of(row['arrived'])}{place}: {row['reason']}")
            say(f"    {text_of(row['row'])}")
    for pipeline in held["pipelines"]:
        if pipeline["dataset"] == found["name"]:
            say("")
            _show_pipeline(pipeline, held)


def _sources_of(dataset: dict[str, Any], held: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [source for source in held["sources"] if source["dataset"] == dataset["name"]]


def _show_source(source: dict[str, Any]) -> None:
    place = source["cursor"] or "the start"
    counted = f"{source['rows']} rows" + (f", {source['rejected']} rejected" if source["rejected"] else "")
    say(f"source {source['kind']}: {source['state']}, {counted}, at {place}")
    _show_metadata(source["metadata"], indent="  ")
    if source["error"]:
        say(f"  error: {source['error']}")


def _show_pipeline(found: dict[str, Any], held: dict[str, list[dict[str, Any]]]) -> None:
    say(f"pipeline {found['name']}, version {found['version']}: {found['input']} by {', '.join(found['group_by'])}")
    say_table(
        ["aggregate", "type", "definition"],
        [[aggregate["name"], aggregate["type"], aggregate["definition"]] for aggregate in found["aggregates"]],
    )
    counts = found["counts"]
    if counts:
        left_out = f"{counts['filtered']} filtered, {counts['null_key']} without a group key"
        say(f"rows: {counts['accepted']} accepted, {left_out}; expressions that came to null: {counts['warnings']}")


def _show_featureset(found: dict[str, Any], held: dict[str, list[dict[str, Any]]]) -> None:
    state = "" if found["available"] else ", being built"
    say(f"featureset {found['name']}, keys {', '.join(found['keys'])}{state}")
    _show_metadata(found["metadata"])
    say("")
    say_table(
        ["feature", "id", "type", "kind", "origin", "description"],
        [
            [
                feature["name"] + (" (deprecated)" if feature["deprecated"] else ""),
                feature["id"] or None,
                feature["type"],
                feature["kind"] + (", native" if feature["native"] else ""),
                feature["origin"],
                feature["description"],
            ]
            for feature in found["features"]
        ],
    )


def _show_metadata(metadata: dict[str, Any] | None, *, indent: str = "") -> None:
    for name, value in (metadata or {}).items():
        if value:
            say(f"{indent}{name}: {text_of(value) if not isinstance(value, list) else ', '.join(value)}")


_SHOW = {"datasets": _show_dataset, "featuresets": _show_featureset, "pipelines": _show_pipeline}
