"""Plans of exports as plain data, in the form in which summaries of exports have them."""

from __future__ import annotations

from typing import Any


def plan_of_message(plan: Any) -> dict[str, Any]:
    """A `thyme.v1.ExportPlan`."""
    return {
        "reads": [_read(read) for read in plan.reads],
        "calls": [_call(call) for call in plan.calls],
        "chunk_rows": plan.chunk_rows,
    }


def _read(read: Any) -> dict[str, Any]:
    return {
        "table": read.table,
        "key": list(read.key),
        "windows": list(read.windows),
        "features": list(read.features),
        "one_by_one": list(read.one_by_one),
        "done": _done(read.done) if read.HasField("done") else None,
    }


def _done(done: Any) -> dict[str, int]:
    return {field.name: getattr(done, field.name) for field in done.DESCRIPTOR.fields}


def _call(call: Any) -> dict[str, Any]:
    return {
        "extractor": call.extractor,
        "native": call.native,
        "batch": call.batch,
        "inputs": list(call.inputs),
        "outputs": list(call.outputs),
    }
