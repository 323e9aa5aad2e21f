"""The texts that a labeler is asked with: files that can be read, and replaced by one's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...model.conversation import AssistantMessage, Conversation, UserMessage
from ...skills.calls import SkillSpec
from ...skills.errors import BadConfiguration

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import SandboxedEnvironment

__all__ = ["PROMPTS", "Prompts"]

PROMPTS = Path(__file__).parent / "prompts"
"""The prompts that ship."""

_HEADING = re.compile(r"^# (Instructions|Example|Reply|Given)[ \t]*$", re.MULTILINE)
_PLAIN = {"again", "seen", "detail-requests"}
"""Files without headings; the others have instructions, examples, and what is given."""


@dataclass(frozen=True)
class Prompts:
    """The text of each prompt, by the name of its file."""

    texts: Mapping[str, str]

    @classmethod
    def load(cls, own: Path | None = None) -> Prompts:
        """The prompts that ship, and those in the folder `own` in their place.

        Raises `BadConfiguration` when one there has another name, lacks a heading, or is no
        template.
        """
        texts = _read(PROMPTS)
        if own:
            found = _read(own)
            if unknown := sorted(found.keys() - texts.keys()):
                known = ", ".join(f"{name}.md" for name in texts)
                raise BadConfiguration(
                    f"{own}: no prompt is named {unknown[0]}.md; there is {known}"
                )
            texts |= found
        prompts = cls(texts)
        prompts._check()
        return prompts

    def text(self, name: str, **values: object) -> str:
        """A prompt without headings, filled in; what is put in stays as it is."""
        return _filled(name, self.texts[name], values)

    def lines(self, name: str) -> list[str]:
        """The lines of a prompt that is a list."""
        return [line.strip() for line in self.texts[name].splitlines() if line.strip()]

    def ask(
        self, name: str, *, offered: tuple[SkillSpec, ...] = (), **values: object
    ) -> Conversation:
        """What the labeler is asked: instructions, examples in their order, and what is given."""
        instructions, examples, given = _parts(name, self.texts[name])
        opening = f"{_filled(name, instructions, values)}\n\n"
        conversation = Conversation(skills=offered)
        for example, reply in examples:
            conversation = conversation.ask(opening + example)
            conversation = conversation.reply(AssistantMessage(text=reply))
            opening = ""
        return conversation.ask(opening + _filled(name, given, values))

    def ask_again(
        self, asked: Conversation, *, attempt: int, reply: str, problem: str
    ) -> Conversation:
        """The same once more, with the last reply and what was wrong with it.

        Told in one message with the question, because some chat templates refuse two in a row.
        """
        last = asked.messages[-1]
        assert isinstance(last, UserMessage)
        told = self.text("again", attempt=attempt, reply=reply, problem=problem)
        again = last.model_copy(update={"text": f"{last.text}\n\n{told}"})
        return asked.model_copy(update={"messages": (*asked.messages[:-1], again)})

    def _check(self) -> None:
        """Raises `BadConfiguration` for what would only show when something has been spent."""
        if not self.lines("detail-requests"):
            raise BadConfiguration("the prompt detail-requests.md has no line")
        for name in sorted(self.texts):
            parts = [self.texts[name]]
            if name not in _PLAIN:
                instructions, _, given = _parts(name, self.texts[name])
                parts = [instructions, given]
            for part in parts:
                _template(name, part)


def _read(folder: Path) -> dict[str, str]:
    try:
        files = sorted(folder.glob("*.md"))
        return {file.stem: file.read_text(encoding="utf-8").strip() for file in files}
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"the prompts in {folder} cannot be read: {error}") from error


@cache
def _parts(name: str, text: str) -> tuple[str, tuple[tuple[str, str], ...], str]:
    """Instructions, examples with their replies, and what is given. Raises `BadConfiguration`.

    A template is split before it is filled in, so that nothing put in can pass for a heading.
    """
    before, *pieces = _HEADING.split(text)
    headings, bodies = pieces[::2], [body.strip() for body in pieces[1::2]]
    shown = headings[1:-1]
    pairs = list(zip(shown[::2], shown[1::2], strict=False))
    if (
        before.strip()
        or headings[:1] + headings[-1:] != ["Instructions", "Given"]
        or len(shown) % 2
        or any(pair != ("Example", "Reply") for pair in pairs)
    ):
        raise BadConfiguration(
            f"the prompt {name}.md needs the headings '# Instructions', any number of "
            "'# Example' with '# Reply', and '# Given', in this order"
        )
    examples = bodies[1:-1]
    return bodies[0], tuple(zip(examples[::2], examples[1::2], strict=True)), bodies[-1]


def _filled(name: str, template: str, values: Mapping[str, object]) -> str:
    from jinja2 import TemplateError

    try:
        return _template(name, template).render(**values).strip()
    except TemplateError as error:
        raise BadConfiguration(f"the prompt {name}.md cannot be filled in: {error}") from error


@cache
def _template(name: str, text: str) -> Template:
    from jinja2 import TemplateError

    try:
        return _environment().from_string(text)
    except TemplateError as error:
        raise BadConfiguration(f"the prompt {name}.md is no template: {error}") from error


@cache
def _environment() -> SandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
