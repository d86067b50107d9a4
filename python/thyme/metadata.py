"""What people read in the catalog: description, owner, tags, project, deprecated, replacement. No effect on values."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

from thyme.errors import Location, ThymeDefinitionError

NAMES = ("description", "owner", "tags", "project", "deprecated", "replacement")


@dataclass(frozen=True)
class Metadata:
    """The catalog entry of a dataset, source or featureset."""

    description: str = ""
    owner: str = ""
    tags: list[str] = field(default_factory=list)
    project: str = ""
    deprecated: bool = False
    replacement: str | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "description": self.description,
            "owner": self.owner,
            "tags": list(self.tags),
            "project": self.project,
            "deprecated": self.deprecated,
            "replacement": self.replacement,
        }


def take_metadata(
    where: str, arguments: dict[str, object], location: Location | None, documented: type | None = None
) -> Metadata:
    """Removes the metadata names from `arguments`. The description defaults to the docstring of `documented`.

    Raises:
        ThymeDefinitionError: a value of the wrong type.
    """
    given = {name: arguments.pop(name) for name in NAMES if name in arguments and arguments[name] is not None}
    arguments_left = [name for name in NAMES if name in arguments]
    for name in arguments_left:
        del arguments[name]
    replacement = given.get("replacement")
    if isinstance(replacement, type):
        given["replacement"] = replacement.__name__
    if isinstance(given.get("tags"), (tuple, set, frozenset)):
        given["tags"] = sorted(given["tags"]) if isinstance(given["tags"], (set, frozenset)) else list(given["tags"])
    expected = {"tags": list, "deprecated": bool}
    for name, value in given.items():
        wanted = expected.get(name, str)
        if not isinstance(value, wanted) or (wanted is list and not all(isinstance(tag, str) for tag in value)):
            spelled = "a list of str" if wanted is list else wanted.__name__
            raise ThymeDefinitionError(
                f"{where}: {name} must be {spelled}, got {value!r}", field=name, location=location
            )
    if "description" not in given and documented is not None and documented.__dict__.get("__doc__"):
        given["description"] = inspect.cleandoc(documented.__dict__["__doc__"])
    return Metadata(**given)
