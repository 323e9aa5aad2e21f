"""The list of conversations, the tree of turns in one, and a conversation as files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from ...model.conversation import Conversation, UserMessage
from ...skills.images import ImageStore
from ...skills.wording import shorten
from ..record import append_record
from ..store.store import ConversationStore
from ..store.values import KeptTurn, TurnState

__all__ = ["Choices", "branches", "history", "write_download"]

Choices = tuple[tuple[str, str], ...]
"""Labels and ids, for a list to choose from."""

_LONGEST_TITLE = 60
_MOST_LISTED = 100
_INDENT = "\u2003"


async def history(store: ConversationStore, owner: str, search: str = "") -> Choices:
    """The owner's conversations, the latest first."""
    kept = await store.conversations(owner, search=search.strip(), limit=_MOST_LISTED)
    return tuple((shorten(one.title, _LONGEST_TITLE) or "Untitled", one.id) for one in kept)


def branches(turns: Sequence[KeptTurn]) -> Choices:
    """Every turn of a conversation, indented where a way forks, in the order of the tree."""
    behind: dict[str | None, list[KeptTurn]] = {}
    for turn in turns:
        behind.setdefault(turn.parent, []).append(turn)
    listed: list[tuple[str, str]] = []
    waiting = [(turn, 0) for turn in reversed(behind.get(None, []))]
    while waiting:
        turn, depth = waiting.pop()
        beside, following = behind[turn.parent], behind.get(turn.id, [])
        listed.append((_label(turn, beside, depth), turn.id))
        deeper = depth + (len(following) > 1)
        waiting += [(later, deeper) for later in reversed(following)]
    return tuple(listed)


def _label(turn: KeptTurn, beside: Sequence[KeptTurn], depth: int) -> str:
    asked = [said.text for said in turn.messages if isinstance(said, UserMessage)]
    notes = [f"{beside.index(turn) + 1} of {len(beside)}"] if len(beside) > 1 else []
    notes += [turn.state.value] if turn.state is not TurnState.FINISHED else []
    told = f" ({', '.join(notes)})" if notes else ""
    return f"{_INDENT * depth}{shorten(asked[-1] if asked else 'Results', 40)}{told}"


def write_download(
    value: Conversation, images: ImageStore, folder: Path, name: str
) -> tuple[Path, Path]:
    """Two files in `folder`: the training record as JSON, and the same in a zip with its images.

    Raises `OSError`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "record.jsonl"
    lines.unlink(missing_ok=True)
    record = append_record(value, images, lines)
    readable = folder / f"{name}.json"
    readable.write_text(json.dumps(record, ensure_ascii=False, indent=2), encoding="utf-8")
    packed = folder / f"{name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(lines, lines.name)
        for image in sorted((folder / "images").iterdir()):
            archive.write(image, f"images/{image.name}", zipfile.ZIP_STORED)
    return readable, packed
