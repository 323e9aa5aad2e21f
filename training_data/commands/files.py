"""What the commands on files of records share: folders that must be there, a bar of bytes read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

__all__ = ["check_apart", "check_folders", "progress"]


def check_folders(*files: Path | None) -> None:
    """Raises `UsageError` when a file is to be written where there is no folder."""
    for file in files:
        if file and not file.parent.is_dir():
            raise click.UsageError(f"there is no folder {file.parent}")


def check_apart(source: Path, *files: Path | None) -> None:
    """Raises `UsageError` when what is written would take the place of what is read."""
    for file in files:
        if file and file.resolve() == source.resolve():
            raise click.UsageError(f"{file} is what is read: name another file to write")


@contextmanager
def progress(sources: Sequence[Path], *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar of the bytes that have been read."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    total = sum(source.stat().st_size for source in sources)
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("reading", total=total)
        yield lambda size: bar.update(task, completed=size)
