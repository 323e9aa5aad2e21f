"""`llava-plus config`: which settings are in force."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from .overrides import settings_of, with_database_options

__all__ = ["command"]

_PASSWORD = re.compile(r"(?<=://)([^/@\s]*):[^/@\s]*(?=@)")
_QUERY = re.compile(r"\?\S+")
_MASK = "***"


@click.group("config")
def command() -> None:
    """Show the settings in force, and where each comes from."""


@command.command("show")
@with_database_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(config: Path | None, database: str | None, as_json: bool) -> None:
    """Print every setting with its value, and whether a default, file or variable gave it.

    Secrets, and passwords in addresses, are not shown.
    """
    overrides = {"database.url": database} if database else {}
    settings = settings_of(config, overrides)
    from ..settings import origins

    came_from = origins(overrides)
    values = {key: _masked(_at(settings, key)) for key in came_from}
    if as_json:
        rows = [{"key": key, "value": values[key], "from": came_from[key]} for key in values]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    shown = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    widths = max(map(len, shown)), max(map(len, shown.values()))
    for key, value in shown.items():
        click.echo(f"{key:{widths[0]}}  {value:{widths[1]}}  {came_from[key]}")


def _at(settings: object, key: str) -> Any:
    for name in key.split("."):
        settings = getattr(settings, name)
    return settings


def _masked(value: Any) -> Any:
    """The value as it may be shown, in JSON's types."""
    if hasattr(value, "get_secret_value"):
        return _MASK
    if isinstance(value, str):
        return _QUERY.sub(f"?{_MASK}", _PASSWORD.sub(rf"\1:{_MASK}", value))
    if isinstance(value, tuple):
        return [_masked(part) for part in value]
    if isinstance(value, dict):
        return {_masked(key): _masked(part) for key, part in value.items()}
    return value
