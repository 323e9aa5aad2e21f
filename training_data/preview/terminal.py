"""A record as a person reads it in a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ...agent.report import plain
from ...model.conversation import AssistantMessage, Message, SkillMessage, UserMessage
from ...skills.calls import SkillUse
from .shown import Picture, Shown
from .tokens import Stretch

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.console import Console, RenderableType
    from rich.text import Text

__all__ = ["print_record", "print_tokens"]

_COLUMNS = 48
"""Width of a thumbnail, in letters."""

_STYLES = {
    "thought": "black on dark_sea_green1",
    "call": "black on spring_green3",
    "answer": "black on pale_green1",
    "stop": "white on dark_green",
}


def print_record(console: Console, shown: Shown) -> None:
    """Who said what, with calls, results, and images as thumbnails where colours can be shown."""
    from rich.table import Table

    record = shown.record
    name = " ".join(part for part in (shown.place, record.id, record.source) if part)
    console.rule(_plain(name), align="left")
    offered = ", ".join(spec.name for spec in record.skills) or "none"
    console.print(
        f"skills on offer: {plain(offered)}", style="bright_black", markup=False, highlight=False
    )
    table = Table.grid(padding=(0, 2, 1, 0))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for message in record.messages:
        for who, what in _rows(message, shown, thumbnails=console.color_system is not None):
            table.add_row(_plain(who), what)
    console.print(table)


def print_tokens(console: Console, stretches: Sequence[Stretch]) -> None:
    """The training sequence: what is learned in shades of green, the rest grey."""
    from rich.text import Text

    text = Text()
    for stretch in stretches:
        if stretch.image:
            text.append(f"[{stretch.image}: {len(stretch.tokens)} tokens]", "magenta")
            continue
        style = _STYLES[stretch.part] if stretch.part else "bright_black"
        for token in stretch.tokens:
            text.append(plain(token.text), style)
    console.print(text)
    legend = Text("learned: ")
    for part, style in _STYLES.items():
        legend.append(f" {part} ", style).append(" ")
    console.print(legend.append("not learned", "bright_black"))


def _rows(
    message: Message, shown: Shown, *, thumbnails: bool
) -> Iterator[tuple[str, RenderableType]]:
    match message:
        case UserMessage():
            yield "user", _plain(message.words)
        case AssistantMessage():
            if message.thoughts:
                yield "thoughts", _plain(message.thoughts, "italic bright_black")
            if message.text:
                yield "assistant", _plain(message.text)
            for use in message.skill_uses:
                yield "call", _call(use)
        case SkillMessage():
            style = "red" if message.result.error else "yellow"
            yield f"result {message.result.name}", _plain(message.text, style)
    for picture in shown.beside(message):
        yield "", _about(picture)
        if picture.image and thumbnails:
            yield "", _thumbnail(picture.image)


def _plain(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(plain(text), style)


def _call(use: SkillUse) -> Text:
    text = _plain(use.name, "bold green").append("(")
    for place, (name, value) in enumerate(use.arguments.items()):
        text.append(", " if place else "").append(plain(name)).append("=")
        text.append(plain(json.dumps(value, ensure_ascii=False)), "green")
    return text.append(")")


def _about(picture: Picture) -> Text:
    told = "{} x {}".format(*picture.size) if picture.size else picture.problem
    return _plain(f"{picture.name}  {picture.file}  {told}", "bright_black")


def _thumbnail(image: Image) -> Text:
    """The image in half blocks: the colour of a letter is its upper pixel, its ground the lower."""
    from rich.text import Text

    columns = min(_COLUMNS, image.width)
    rows = max(1, round(image.height / image.width * columns / 2))
    small = image.resize((columns, 2 * rows))
    pixels = [
        f"rgb({red},{green},{blue})"
        for red, green, blue in zip(*[iter(small.tobytes())] * 3, strict=True)
    ]
    lines = []
    for row in range(rows):
        upper = pixels[2 * row * columns : (2 * row + 1) * columns]
        lower = pixels[(2 * row + 1) * columns : (2 * row + 2) * columns]
        lines.append(
            Text.assemble(*(("▀", f"{a} on {b}") for a, b in zip(upper, lower, strict=True)))
        )
    return Text("\n").join(lines)
