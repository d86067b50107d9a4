"""The command `thyme`: one file per group of commands. Data goes to stdout, everything else to stderr.

Modules are imported when a command runs, so that `thyme --help` starts fast.
"""

from __future__ import annotations

import click
import typer

from thyme.cli import catalog, data, definitions, explain, offline, project, query, runs, server, sources

app = typer.Typer(
    name="thyme",
    help="Define features once in Python, stream events, serve the same number online and point-in-time.",
    no_args_is_help=True,
    add_completion=False,
    # Newer click does that by itself.
    suggest_commands=not hasattr(click.exceptions, "NoSuchCommand"),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _group in (project, server, definitions, data, query, offline, explain, catalog):
    _group.register(app)
app.add_typer(runs.app, name="runs")
app.add_typer(sources.app, name="sources")


def main() -> None:
    """Entry point of the console script."""
    app(prog_name="thyme")
