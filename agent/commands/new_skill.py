"""`llava-plus new-skill`: a plugin package to start from."""

from __future__ import annotations

from pathlib import Path

import click

from ..plugin import write_plugin

__all__ = ["command"]


@click.command("new-skill")
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def command(name: str, folder: Path) -> None:
    """Write a package with the skill NAME into DIR: it works, and its test passes.

    NAME is lower case with underscores, such as count_people.
    """
    for path in write_plugin(name, folder):
        click.echo(f"wrote {path}")
    click.echo(f"\nnext: pip install -e {folder} && llava-plus skills")
