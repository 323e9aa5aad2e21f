"""What one browser tab is looking at, and what it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .history import Choices
from .transcript import Row

__all__ = ["Around", "Frame", "View"]


@dataclass(frozen=True)
class View:
    """What the tab is looking at; `turn` is the last one on it.

    `editing` is the turn that is being reworded, `voted` the one last voted on; `rows` names the
    turn of every message shown.
    """

    conversation: str | None = None
    turn: str | None = None
    running: str | None = None
    editing: str | None = None
    voted: str | None = None
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Around:
    """What stands beside the messages, which changes when a turn begins or ends."""

    history: Choices | None = None
    """None where it stays as it is: somebody may be searching in it."""
    branches: Choices = ()
    title: str = ""
    failed: bool = False
    """Whether the last turn has no answer."""
    newest: Path | None = None
    """The picture that marks are for."""
    change: tuple[Path, Path] | None = None
    """Before and after, when the last turn changed a picture."""


@dataclass(frozen=True)
class Frame:
    """One state of the page; where `around` is None, that stays as it is."""

    view: View
    rows: list[Row] = field(default_factory=list)
    votes: tuple[str | None, ...] = ()
    notice: str = ""
    around: Around | None = None
