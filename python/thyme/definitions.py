"""The registered definitions as the JSON that a commit carries (format 1; `docs/definition-format.md`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from thyme import registry
from thyme.capture import capture_modules, function_source, module_root, travels
from thyme.dataset import DatasetDefinition
from thyme.errors import Location, ThymeDefinitionError
from thyme.extractor import ExtractorDefinition
from thyme.featureset import FeatureDefinition, FeaturesetDefinition
from thyme.impurity import find_impurities
from thyme.pipeline import PipelineDefinition
from thyme.registry import Registry
from thyme.sources import SourceDefinition
from thyme.suggest import suggestion

FORMAT = 1


def build_definitions(registered: Registry | None = None, root: Path | str | None = None) -> dict[str, Any]:
    """Everything registered, as the JSON object of a commit.

    Args:
        registered: default: what importing has registered in this process.
        root: the committed directory; modules below it travel with the commit. Default: each module's own import root.

    Raises:
        ThymeDefinitionError: an extractor that cannot travel, or a reference to a feature that is not there.
    """
    registered = registered or registry.current()
    builder = _Builder(None if root is None else Path(root).resolve())
    _check_references(registered)
    return {
        "format": FORMAT,
        "datasets": [builder.dataset(found) for found in registered.datasets.values()],
        "pipelines": [builder.pipeline(p) for found in registered.datasets.values() for p in found.pipelines],
        "featuresets": [builder.featureset(found) for found in registered.featuresets.values()],
        "modules": builder.modules(registered),
    }


def definitions_json(registered: Registry | None = None, root: Path | str | None = None) -> str:
    """`build_definitions` as text."""
    return json.dumps(build_definitions(registered, root), ensure_ascii=False, allow_nan=False)


class _Builder:
    def __init__(self, root: Path | None) -> None:
        self.root = root

    def location(self, location: Location | None) -> dict[str, Any] | None:
        """File below the root where it is there, else its bare name: a commit does not depend on where it was made."""
        if location is None:
            return None
        path = Path(location.file)
        resolved = path.resolve()
        if self.root is not None and resolved.is_relative_to(self.root):
            return {"file": resolved.relative_to(self.root).as_posix(), "line": location.line}
        return {"file": path.name, "line": location.line}

    def dataset(self, found: DatasetDefinition) -> dict[str, Any]:
        return {
            "name": found.name,
            "version": found.version,
            "index": found.index,
            "fields": [declared.to_json() for declared in found.fields],
            "max_lateness": found.max_lateness,
            "max_future": found.max_future,
            "dedup_window": found.dedup_window,
            "partitions": found.partitions,
            "history": found.history,
            **({"emit": True} if found.emit else {}),
            "source": None if found.source is None else self.source(found.source),
            "metadata": found.metadata.to_json(),
            "location": self.location(found.location),
        }

    def source(self, found: SourceDefinition) -> dict[str, Any]:
        return {
            "kind": found.connector.kind,
            "settings": found.connector.settings(),
            "cursor": found.cursor,
            "every": found.every,
            "max_lateness": found.max_lateness,
            "cdc": found.cdc,
            "metadata": found.metadata.to_json(),
            "location": self.location(found.location),
        }

    def pipeline(self, found: PipelineDefinition) -> dict[str, Any]:
        return {
            "name": found.name,
            "version": found.version,
            "dataset": found.dataset,
            "input": found.input,
            "steps": found.steps,
            "group_by": found.group_by,
            "aggregates": found.aggregates,
            "location": self.location(found.location),
        }

    def featureset(self, found: FeaturesetDefinition) -> dict[str, Any]:
        return {
            "name": found.name,
            "features": [self.feature(declared) for declared in found.features],
            "extractors": [self.extractor(declared) for declared in found.extractors],
            "metadata": found.metadata.to_json(),
            "location": self.location(found.location),
        }

    def feature(self, found: FeatureDefinition) -> dict[str, Any]:
        body = {
            "name": found.name,
            "type": found.type.name,
            "nullable": found.type.nullable,
            "id": found.id,
            "request": found.request,
            "ref": None if found.ref is None else {"dataset": found.ref.dataset, "field": found.ref.field},
            "default": found.default,
            "deprecated": found.deprecated,
            "description": found.description,
            "location": self.location(found.location),
        }
        return {**body, "on": found.on} if found.on else body

    def extractor(self, found: ExtractorDefinition) -> dict[str, Any]:
        function = found.function
        if self.root is not None and "<locals>" in function.__qualname__:
            raise ThymeDefinitionError(
                f"extractor {function.__qualname__} is defined inside a function, where a server cannot find it",
                hint="define the featureset at the top level of a module",
                location=found.location,
            )
        source, digest = function_source(function)
        return {
            "name": found.name,
            "version": found.version,
            "inputs": [{"featureset": given.featureset, "feature": given.feature} for given in found.inputs],
            "outputs": found.outputs,
            "deps": found.deps,
            "style": found.style,
            "batch": found.batch,
            "module": function.__module__,
            "qualname": function.__qualname__,
            "deadline_ms": found.deadline_ms,
            "source_hash": digest,
            "source": source,
            "impure": find_impurities(function, self.is_local),
            "location": self.location(found.location),
        }

    def is_local(self, module: ModuleType | None) -> bool:
        if module is None:
            return False
        root = self.root or module_root(module)
        return root is not None and travels(module, root)

    def modules(self, registered: Registry) -> list[dict[str, Any]]:
        names = {found.cls.__module__ for found in registered.featuresets.values() if found.extractors}
        captured = {}
        for name in sorted(names):
            module = sys.modules.get(name)
            root = self.root or (module_root(module) if module is not None else None)
            for entry in capture_modules([name], root) if root is not None else []:
                captured[entry.name] = {"name": entry.name, "path": entry.path, "source": entry.source}
        return [captured[name] for name in sorted(captured)]


def _check_references(registered: Registry) -> None:
    """Features of other featuresets that extractors take must be registered, if the featureset is."""
    for found in registered.featuresets.values():
        for extractor in found.extractors:
            for given in extractor.inputs:
                other = registered.featuresets.get(given.featureset)
                names = [] if other is None else [declared.name for declared in other.features]
                if other is not None and given.feature not in names:
                    raise ThymeDefinitionError(
                        f"extractor {found.name}.{extractor.name}: {given.featureset} has no feature '{given.feature}'",
                        hint=suggestion(given.feature, names),
                        field=given.feature,
                        location=extractor.location,
                    )
