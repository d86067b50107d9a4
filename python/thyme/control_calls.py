"""Calls of the control service and of the query runs, as values (see `calls`). Responses become plain dicts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from thyme import _proto
from thyme.calls import Call, moment
from thyme.errors import ThymeError

_PREFIXES = ("COMMIT_STATE_", "CHANGE_KIND_", "STATE_ACTION_", "VALUE_STATUS_")


def plain(message: Any) -> Any:
    """A message as a dict: every field, timestamps as datetimes or None, enum values as lower-case names."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
            found[field.name] = moment(message, field.name)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            found[field.name] = dict(value)
        elif _repeated(field):
            found[field.name] = [
                plain(item) if field.message_type is not None else _scalar(field, item) for item in value
            ]
        elif field.message_type is not None:
            found[field.name] = plain(value) if message.HasField(field.name) else None
        elif field.containing_oneof is not None and not message.HasField(field.name):
            found[field.name] = None
        else:
            found[field.name] = _scalar(field, value)
    return found


def _repeated(field: Any) -> bool:
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def _scalar(field: Any, value: Any) -> Any:
    if field.enum_type is None:
        return value
    name = field.enum_type.values_by_number[value].name
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name.lower()


def status() -> Call:
    """How the server is doing."""
    return Call("GetStatus", _proto.GetStatusRequest(), plain, control=True)


def rebuild(on_progress: Callable[[int, int], None]) -> Call:
    """Builds the state anew from the log, beside the one that answers: both digests."""

    def read(responses: Any) -> dict[str, Any]:
        for response in responses:
            if response.HasField("outcome"):
                return plain(response.outcome)
            on_progress(response.done_records, response.total_records)
        raise ThymeError("the server ended the rebuild without an outcome")

    return Call("Rebuild", _proto.RebuildRequest(), read, control=True, timeout=7 * 86_400.0, stream=True)


def commit(definitions_json: str, *, dry_run: bool, remove: Sequence[str], supersede: bool, message: str) -> Call:
    """Sends definitions. Idempotent by content."""
    request = _proto.CommitRequest(
        definitions_json=definitions_json.encode("utf-8"),
        dry_run=dry_run,
        remove=list(remove),
        supersede=supersede,
        message=message,
    )
    return Call("Commit", request, plain, control=True, timeout=300.0)


def get_commit(commit_id: str) -> Call:
    """A commit with the progress of its build."""
    return Call("GetCommit", _proto.GetCommitRequest(id=commit_id), _member("commit"), control=True)


def plan(definitions_json: str, remove: Sequence[str]) -> Call:
    """What a commit would do."""
    request = _proto.PlanRequest(definitions_json=definitions_json.encode("utf-8"), remove=list(remove))
    return Call("Plan", request, _member("plan"), control=True, timeout=120.0)


def listing(what: str, read: Callable[[Any], Any] | None = None) -> Call:
    """All `datasets`, `pipelines`, `featuresets`, `sources` or `jobs`."""
    method = f"List{what.capitalize()}"
    request = getattr(_proto, f"{method}Request")()
    return Call(method, request, read or _members(what), control=True)


def events(limit: int, cursor: str, severity: str) -> Call:
    """What the server reports, newest first."""
    request = _proto.ListEventsRequest(limit=limit, cursor=cursor, severity=severity)
    return Call("ListEvents", request, plain, control=True)


def rejected(dataset: str, limit: int) -> Call:
    """Rows of a dataset that did not become events."""
    request = _proto.ListRejectedRequest(dataset=dataset, limit=limit)
    return Call("ListRejected", request, _rejected, control=True)


def test_source(dataset: str, limit: int) -> Call:
    """The first rows of a dataset's source, none of which is published."""
    request = _proto.TestSourceRequest(dataset=dataset, limit=limit)
    return Call("TestSource", request, _tested, control=True, timeout=60.0)


def change_source(action: str, dataset: str) -> Call:
    """`pause`, `resume` or `reset` the source of a dataset."""
    method = f"{action.capitalize()}Source"
    request = getattr(_proto, f"{method}Request")(dataset=dataset)
    return Call(method, request, _member("source"), control=True, timeout=60.0)


def _tested(response: Any) -> dict[str, Any]:
    found = plain(response)
    found["rows"] = [json.loads(row) for row in found.pop("rows_json")]
    return {"rows": found.pop("rows"), **found}


def _rejected(response: Any) -> list[dict[str, Any]]:
    found = []
    for message in response.rows:
        row = plain(message)
        row["row"] = json.loads(row.pop("row_json") or "null")
        for name in ("partition", "offset"):
            row[name] = row[name] if message.HasField(name) else None
        found.append(row)
    return found


def runs(limit: int, featureset: str, kind: str, cursor: str) -> Call:
    """Query runs, newest first."""
    request = _proto.ListQueryRunsRequest(limit=limit, featureset=featureset, kind=kind, cursor=cursor)
    return Call("ListQueryRuns", request, _runs)


def run(run_id: str) -> Call:
    """One query run."""
    return Call("GetQueryRun", _proto.GetQueryRunRequest(id=run_id), lambda response: _run(response.run))


def _runs(response: Any) -> dict[str, Any]:
    return {"runs": [_run(found) for found in response.runs], "next_cursor": response.next_cursor}


def _run(message: Any) -> dict[str, Any]:
    """As HTTP shows it: keys as values, the latency in milliseconds too."""
    found = plain(message)
    found["entity_ids"] = [json.loads(entity) for entity in found["entity_ids"]]
    found["latency_ms"] = found["latency_us"] / 1000
    return found


def _member(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda response: plain(getattr(response, name))


def _members(name: str) -> Callable[[Any], list[dict[str, Any]]]:
    return lambda response: [plain(found) for found in getattr(response, name)]
