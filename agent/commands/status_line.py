"""The last line of a terminal, written anew for as long as something goes on."""

from __future__ import annotations

import shutil
import sys

import click

__all__ = ["StatusLine"]

_ERASE = "\r\x1b[K"


class StatusLine:
    """What goes on now, in one line of standard output; nothing where that is no terminal."""

    def __init__(self) -> None:
        self._shown = False

    def show(self, text: str) -> None:
        """Show `text` in place of what was there, cut to what fits."""
        if text and sys.stdout.isatty():
            room = shutil.get_terminal_size().columns - 1
            line = " ".join(text.split())[:room]
            click.echo(_ERASE + click.style(line, dim=True), nl=False)
            self._shown = True
        else:
            self.clear()

    def clear(self) -> None:
        """Make room for other output."""
        if self._shown:
            click.echo(_ERASE, nl=False)
        self._shown = False
