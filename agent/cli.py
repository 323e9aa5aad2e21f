"""The command line. Each command is a module of its own, imported when it is called.

Nothing but click is imported here, not even pydantic: help and completion are to be instant.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

import click

__all__ = ["GROUP", "cli", "main"]

GROUP = "llava_plus.commands"
"""Entry-point group by which other packages, and other floors, add commands."""

_COMMANDS = {
    "ask": "Answer requests about images, using skills.",
    "bridge": "Serve skills to LLaVA-Plus and OpenThinkIMG clients.",
    "caption": "Describe images in words, without skills.",
    "chat": "Talk with the model about images.",
    "config": "Show the settings in force, and where each comes from.",
    "convert": "Bring LLaVA's checkpoints into transformers' layout, or back.",
    "deploy": "Run skills on more than one machine.",
    "index": "Make pictures searchable for the skill retrieve.",
    "keys": "Make, list and revoke the keys of the gateway.",
    "mcp": "Serve skills to clients of the Model Context Protocol.",
    "new-skill": "Write a plugin package with a new skill in it.",
    "serve": "Serve the chat: its page, and APIs for programs.",
    "skills": "List the installed skills.",
    "vqa": "Answer a question about images, without skills.",
    "worker": "Serve skills over HTTP.",
}


class _Commands(click.Group):
    """Commands by name; the module of one is imported only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_COMMANDS, *_added()})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in _COMMANDS:
            module = name.replace("-", "_")
            command = import_module(f"{__package__}.commands.{module}").command
        elif name in (added := _added()):
            command = _load(added[name])
        else:
            return None
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List what each command does without importing it."""
        added = _added()
        rows = [
            (name, _COMMANDS.get(name) or _first_line(added[name]))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _added() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _load(entry: EntryPoint) -> click.Command:
    try:
        command = entry.load()
    except Exception as error:  # it is another package's, and must be named
        raise click.ClickException(
            f"command {entry.name!r} ({entry.value}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(command, click.Command):
        raise click.ClickException(f"command {entry.name!r}: {entry.value} is no click command")
    return command


def _first_line(entry: EntryPoint) -> str:
    """The first line of the docstring of a command's module, read without running the module."""
    origin = None
    try:
        spec = find_spec(entry.module)
        origin = spec.origin if spec else None
        source = Path(origin).read_text(encoding="utf-8") if origin else ""
        docstring = ast.get_docstring(ast.parse(source)) or ""
    except Exception as error:  # it is another package's; the list must stand without it
        return f"(cannot be read: {type(error).__name__}: {error})"
    return docstring.partition("\n")[0]


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="llava-plus", message="%(version)s")
def cli() -> None:
    """A multimodal chat that calls vision skills by itself.

    Exit codes: 0 done, 1 failed, 2 wrong usage or bad input.
    """
    import logging  # not for --help, which does not come here

    logging.addLevelName(logging.WARNING, "warning")
    logging.basicConfig(format="%(levelname)s: %(message)s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code; an error is told in one line, or as JSON."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = cli.main(given, prog_name="llava-plus", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        from .exits import report

        return report(error, as_json="--json" in given)
    return code if isinstance(code, int) else 0
