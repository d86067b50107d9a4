"""Checks of decorator arguments: a mistyped one is an error that names the nearest valid one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from thyme.errors import Location, ThymeDefinitionError
from thyme.suggest import suggestion


def refuse_unknown(
    where: str, unknown: Mapping[str, object], allowed: Iterable[str], location: Location | None
) -> None:
    """Raises if there is any argument in `unknown`."""
    for name in unknown:
        raise ThymeDefinitionError(
            f"{where} has no argument '{name}'", hint=suggestion(name, allowed), field=name, location=location
        )


def not_in_this_release(what: str, hint: str | None, location: Location | None) -> ThymeDefinitionError:
    """The error for something that is designed but not built yet."""
    return ThymeDefinitionError(f"{what} is not available in this release", hint=hint, location=location)


def checked_version(where: str, version: object, location: Location | None) -> int:
    """A version number: an integer from 1 on."""
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 2**32:
        raise ThymeDefinitionError(
            f"{where}: version must be an integer from 1 on, got {version!r}", field="version", location=location
        )
    return version


def checked_flag(where: str, name: str, value: object, location: Location | None) -> bool:
    """True or False and nothing else."""
    if not isinstance(value, bool):
        raise ThymeDefinitionError(
            f"{where}: {name} must be True or False, got {value!r}", field=name, location=location
        )
    return value
