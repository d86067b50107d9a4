"""`thyme init` and `thyme version`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thyme.cli.options import Json
from thyme.cli.output import note, reports_errors, say, say_json


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("init")(init)
    app.command("version")(version)


@reports_errors
def init(
    directory: Annotated[Path, typer.Argument(help="Where to write it; made if it is not there.")] = Path("."),
    as_json: Json = False,
) -> None:
    """Write a small working project: definitions and sample events."""
    from thyme.cli.templates import write_project

    written = write_project(directory)
    if as_json:
        say_json({"files": [str(path) for path in written]})
        return
    for path in written:
        say(str(path))
    place = "" if directory == Path(".") else f"cd {directory} && "
    note("")
    note("next, in two terminals:")
    note(f"  {place}thyme serve")
    note(f"  {place}thyme commit features.py && thyme ingest Order orders.jsonl && thyme query UserFeatures -e user_7")


@reports_errors
def version(as_json: Json = False) -> None:
    """Show the version."""
    import platform

    from thyme.version import __version__

    if as_json:
        say_json({"thyme": __version__, "python": platform.python_version()})
        return
    say(f"thyme {__version__} (Python {platform.python_version()})")
