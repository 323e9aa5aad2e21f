"""Options of a command that stand for settings, and the settings that they make."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ...skills.settings import CONFIG_VARIABLE
from .options import adding

if TYPE_CHECKING:
    from ..settings import Settings

__all__ = ["settings_of", "with_database_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

with_database_options = adding(
    click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="File of settings. [default: llava-plus.toml, if it is there]",
    ),
    click.option(
        "--database",
        metavar="URL",
        help="Where conversations and keys are: sqlite+aiosqlite:///FILE, or PostgreSQL.",
    ),
)
"""Adds --config and --database."""


def settings_of(config: Path | None, overrides: Mapping[str, Any]) -> Settings:
    """The settings in force, where an option that was not given (None) says nothing.

    The file named by `config` holds for this process and those that it starts. Raises
    `BadConfiguration`.
    """
    if config:
        os.environ[CONFIG_VARIABLE] = str(config.absolute())
    from ..settings import load_settings

    return load_settings({key: value for key, value in overrides.items() if value is not None})
