"""Records as one page that needs nothing else: the conversation, and its training sequence."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...model.conversation import AssistantMessage, Message, SkillMessage, UserMessage
from ...skills.images import shrunk
from .shown import Picture, Shown
from .tokens import Stretch, parts_of, stretches

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..sequences import Sequences

__all__ = ["write_page"]

_SIDE, _DRAWN_SIDE = 480, 720
"""Pixels of the longer side of a picture, and of one with labels that are to be read."""

_LONG, _ENDS = 240, 60
"""A stretch of more tokens that nobody learns is folded, but for its first and last ones."""


def write_page(path: Path, title: str, records: Iterable[Shown], sequences: Sequences) -> int:
    """Write one HTML file with these records, and say how many there are.

    Nothing that a record holds can run in it: all text is escaped, and its policy allows no
    scripts and nothing from elsewhere.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    shown = [_record(one, sequences) for one in records]
    page = environment.get_template("page.html.jinja").render(
        title=title, lmm=sequences.name, records=shown
    )
    path.write_text(page, encoding="utf-8")
    return len(shown)


def _record(shown: Shown, sequences: Sequences) -> dict[str, Any]:
    rendered = sequences.of(shown.record, shown.sizes)
    parts = parts_of(rendered)
    pictures = {name: _data(one.image) for name, one in shown.pictures.items() if one.image}
    return {
        "place": shown.place,
        "id": shown.record.id,
        "source": shown.record.source,
        "skills": shown.record.skills,
        "messages": [_message(message, shown, pictures) for message in shown.record.messages],
        "pictures": pictures,
        "parts": parts,
        "thinks": any(getattr(message, "thoughts", "") for message in shown.record.messages),
        "tokens": len(rendered.ids),
        "learned": len(rendered.ids) - parts["other"],
        "stretches": [_stretch(one) for one in stretches(rendered, sequences.renderer.tokenizer)],
    }


def _message(message: Message, shown: Shown, pictures: dict[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "role": message.role,
        "who": message.role,
        "text": message.words if isinstance(message, UserMessage) else message.text,
        "thoughts": "",
        "calls": [],
        "error": False,
        "pictures": [_picture(one, pictures) for one in shown.beside(message)],
    }
    if isinstance(message, AssistantMessage):
        calls = [(use.name, list(_pairs(use.arguments))) for use in message.skill_uses]
        return {**told, "thoughts": message.thoughts, "calls": calls}
    if isinstance(message, SkillMessage):
        failed = message.result.error is not None
        told |= {"who": message.result.name, "error": failed}
        if drawn := shown.annotated(message):
            data = _data(drawn.image, _DRAWN_SIDE)
            first = {"name": drawn.name, "about": "", "data": data, "drawn": True}
            told["pictures"].insert(0, first)
    return told


def _pairs(arguments: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in arguments.items():
        yield name, json.dumps(value, ensure_ascii=False)


def _picture(picture: Picture, data: dict[str, str]) -> dict[str, Any]:
    size = "{} x {}".format(*picture.size) if picture.size else picture.problem
    return {
        "name": picture.name,
        "about": f"{picture.file}, {size}",
        "data": data.get(picture.name, ""),
        "drawn": False,
    }


def _data(image: Image | None, side: int = _SIDE) -> str:
    if image is None:
        return ""
    data = io.BytesIO()
    shrunk(image, side).save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _stretch(stretch: Stretch) -> dict[str, Any]:
    """A stretch in up to three pieces, of which the middle one is folded."""
    tokens = stretch.tokens
    folds = stretch.part is None and not stretch.image and len(tokens) > _LONG
    head, folded, tail = (
        (tokens[:_ENDS], tokens[_ENDS:-_ENDS], tokens[-_ENDS:]) if folds else (tokens, [], [])
    )
    return {
        "kind": stretch.part or "other",
        "image": stretch.image,
        "count": len(tokens),
        "head": head,
        "folded": folded,
        "tail": tail,
    }
