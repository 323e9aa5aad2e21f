"""`llava-plus skills`: what is installed, from which package, and what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import click

from ...skills.backends import BACKENDS
from ...skills.discovery import InstalledSkill, installed_skills
from ...skills.errors import BadConfiguration
from ...skills.settings import skill_settings
from ..report import plain

__all__ = ["command"]


@click.command("skills")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, with every spec.")
def command(as_json: bool) -> None:
    """List the installed skills with their package and backend.

    A plugin that cannot be imported is listed with its error.
    """
    rows = [_describe(skill) for skill in installed_skills().values()]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        name = click.style(row["name"], fg="red" if "error" in row else "cyan", bold=True)
        backend = f", backend {row['backend']}" if "backend" in row else ""
        origin = click.style(f"({row['package']}{backend})", dim=True)
        click.echo(f"{name} {origin}")
        told = f"cannot be used: {row['error']}" if "error" in row else row["description"]
        click.echo(f"  {plain(told)}")
    if not rows:
        click.echo("no skill is installed")


def _describe(installed: InstalledSkill) -> dict[str, Any]:
    row: dict[str, Any] = {"name": installed.name, "package": installed.package}
    try:
        spec = installed.load().spec
        if backends := BACKENDS.get(installed.name):
            settings = skill_settings(installed.name)
            row["backend"] = settings.get("backend", next(iter(backends)))
        row |= {"description": spec.description, "parameters": spec.parameters}
    except BadConfiguration as error:
        row["error"] = str(error)
    return row
