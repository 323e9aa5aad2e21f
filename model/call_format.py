"""How a model writes skill calls: read off its own chat template, then used both ways.

A template is shown a made-up call and what it writes around the JSON is taken as the format,
so one template is the single source for prompts, the grammar and the parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from ..skills.calls import SkillSpec, SkillUse
from ..skills.errors import BadConfiguration, BadReply
from .conversation import AssistantMessage, Conversation
from .lark import LarkTexts

__all__ = ["BegunValue", "CallFormat", "Part", "Render"]

Part = Literal["thought", "call", "answer", "stop"]
"""What a stretch of a reply is: thoughts, skill calls, words for the person, its end."""

Render = Callable[[list[dict[str, Any]], bool], str]
"""Messages and whether to open a reply, to the text of the prompt."""

_ASK: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "probe question"}]}


class BegunValue(NamedTuple):
    """A string among a call's arguments as far as it is written; `listed` is an item of a list."""

    text: str
    listed: bool


@dataclass(frozen=True)
class CallFormat:
    """What stands around the JSON of the calls in one reply.

    `lead` opens every text and every string in the JSON (a space for models whose tokens
    begin with one), `end` closes the turn. `thinks` opens thoughts and `thought` closes them;
    where it is empty they go on until calls begin.
    """

    begin: str
    separator: str
    tail: str
    end: str
    lead: str
    name_key: str
    arguments_key: str
    thinks: str = ""
    thought: str = ""

    @classmethod
    def probe(cls, render: Render, end_tokens: tuple[str, ...]) -> CallFormat:
        """Find the format of a template. Raises `BadConfiguration` when it writes no JSON calls."""
        opened = render([_ASK], True)

        def written(message: dict[str, Any]) -> str:
            whole = render([_ASK, {"role": "assistant", **message}], False)
            if not whole.startswith(opened):
                raise BadConfiguration(
                    "the chat template rewrites the prompt once the reply is there, so what is "
                    "served would not be what is trained: use one that keeps earlier text"
                )
            return whole[len(opened) :]

        text = written({"content": "probe answer"})
        lead, found, end = text.partition("probe answer")
        if not found:
            raise BadConfiguration("the chat template does not show what the assistant says")
        call = {"type": "function", "id": "probe00ab"}
        function = {"name": "probe_skill", "arguments": {"probe_key": "probe_value"}}
        calls = [{**call, "function": function}] * 2
        one = written({"content": "", "tool_calls": calls[:1]})
        two = written({"content": "", "tool_calls": calls})
        begin, body, rest = _find_json(one)
        separator = _find_json(two[len(begin) + len(body) :])[0] if two != one else ""
        tail = rest.removesuffix(end) if end else rest
        name_key, arguments_key, string_lead = _read_keys(json.loads(body))
        if lead.strip():
            raise BadConfiguration(f"the chat template writes {lead!r} before every answer")
        for token in end_tokens:
            if token in end:
                end = end[: end.index(token) + len(token)]
        thoughts = {"reasoning_content": "probe thoughts"}
        told = written({**thoughts, "content": "probe answer"})
        called = written({**thoughts, "content": "", "tool_calls": calls[:1]})
        thinks, thought = _around_thoughts(told, called, begin, lead)
        return cls(
            begin, separator, tail, end, string_lead, name_key, arguments_key, thinks, thought
        )

    @classmethod
    def without_calls(cls, render: Render) -> CallFormat:
        """The format of a template in replies of words alone; it need not know of calls."""
        opened = render([_ASK], True)
        whole = render([_ASK, {"role": "assistant", "content": "probe answer"}], False)
        lead, _, end = whole.removeprefix(opened).partition("probe answer")
        return cls("", "", "", end, lead if lead.isspace() else "", "", "")

    def shown(self, reply: str) -> str:
        """The words of a reply, as far as those are certain which are written of it."""
        words, calls = self._split(reply)
        begun = 0 if calls else _begun(self.begin, words)
        return words[: len(words) - begun].removeprefix(self.lead)

    def unfinished(self, reply: str) -> bool:
        """Whether a reply that was broken off may have been so within its calls."""
        return bool(self._split(reply)[1])

    def _split(self, reply: str) -> tuple[str, str]:
        """The words of a reply, and its calls with what opens them; either may be empty."""
        start = reply.find(self.begin) if self.begin else -1
        return (reply[:start], reply[start:]) if start >= 0 else (reply, "")

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The messages in the OpenAI form, as the template is to write them."""
        return conversation.chat_messages()

    def described(self, skills: Sequence[SkillSpec]) -> tuple[SkillSpec, ...]:
        """The skills on offer that the model is told of."""
        return tuple(skills)

    def signatures(self, spec: SkillSpec) -> list[tuple[str, dict[str, Any]]]:
        """The names by which a skill is called, each with the JSON schema of what it takes."""
        return [(spec.name, spec.parameters)]

    def understood(self, message: AssistantMessage, conversation: Conversation) -> AssistantMessage:
        """A parsed reply to a conversation, with its calls as calls of skills."""
        return message

    def rules(self, texts: LarkTexts, *, calls: bool) -> str:
        """The Lark grammar of a reply; where there are `calls`, `call` is the JSON of one."""
        # Words may hold nothing that would open a call where its opening is ordinary text.
        text = f"TEXT: {texts.words(self.begin.strip())}\n"
        if not calls:
            return f"start: TEXT\n{text}"
        more = f"({texts.literal(self.separator)} call)*" if self.separator else ""
        listed = f"{texts.literal(self.begin)} call {more} {texts.literal(self.tail)}"
        return f"start: TEXT | calls | TEXT calls\ncalls: {listed}\n{text}"

    def parts(self, reply: str) -> list[tuple[int, int, Part]]:
        """The parts of a whole reply, its end with it: where each begins and stops."""
        stop = reply.rfind(self.end) if self.end else -1
        body = reply[:stop] if stop >= 0 else reply
        thought = self._thought_stop(body)
        called = body.find(self.begin, thought) if self.begin else -1
        words = len(body) if called < 0 else called
        after = self._calls_stop(body, words)
        found: list[tuple[int, int, Part]] = [
            (0, thought, "thought"),
            (thought, words, "answer"),
            (words, after, "call"),
            (after, len(body), "answer"),
            (len(body), len(reply), "stop"),
        ]
        return [part for part in found if part[0] < part[1]]

    def _thought_stop(self, body: str) -> int:
        if not self.thinks or not body.startswith(self.thinks):
            return 0
        closing = self.thought or self.begin
        found = body.find(closing, len(self.thinks))
        return found + len(self.thought) if found >= 0 else len(body)

    def _calls_stop(self, body: str, start: int) -> int:
        """Where the calls end that begin at `start`; what cannot be read belongs to them."""
        at = start + len(self.begin)
        more = start < len(body) and not (self.tail and body.startswith(self.tail, at))
        while more:
            try:
                _, at = json.JSONDecoder().raw_decode(body, at)
            except ValueError:
                return len(body)
            more = bool(self.separator) and body.startswith(self.separator, at)
            at += len(self.separator) if more else 0
        return min(at + len(self.tail), len(body))

    def begun_name(self, reply: str) -> str | None:
        """The skill's name as far as it is written, where the reply breaks off within one."""
        _, found, call = reply.rpartition(self.begin)
        begun = re.fullmatch(rf'\s*\{{"{re.escape(self.name_key)}": "([^"]*)', call)
        return begun[1] if found and begun else None

    def begun_value(self, reply: str) -> BegunValue | None:
        """The argument's string within which the reply breaks off, if it does."""
        _, found, call = reply.rpartition(self.begin)
        pieces = re.split(r'(?<!\\)"', call)
        if not found or len(pieces) % 2:
            return None
        around = "".join(pieces[:-1:2]).rstrip()
        listed = around.count("[") > around.count("]")
        return BegunValue(pieces[-1], listed) if listed or around.endswith(":") else None

    def parse(self, reply: str, new_id: Callable[[], str]) -> AssistantMessage:
        """Read a reply without its end token. Raises `BadReply` when a call in it is broken."""
        text, found = self._split(reply)
        rest = found[len(self.begin) :]
        uses: list[SkillUse] = []
        decoder = json.JSONDecoder()
        while found:
            try:
                call, stop = decoder.raw_decode(rest)
                arguments = call[self.arguments_key]
                uses.append(
                    SkillUse(
                        id=new_id(),
                        name=self._strip(call[self.name_key]),
                        arguments=self._strip(arguments),
                    )
                )
            except (ValueError, KeyError, TypeError) as error:
                raise BadReply(f"the model wrote a call that cannot be read: {reply!r}") from error
            rest = rest[stop:]
            found = self.separator if rest.startswith(self.separator) else ""
            rest = rest.removeprefix(self.separator)
        return AssistantMessage(text=text.removeprefix(self.lead), skill_uses=tuple(uses))

    def _strip(self, value: Any) -> Any:
        if isinstance(value, str):
            return value.removeprefix(self.lead)
        if isinstance(value, list):
            return [self._strip(item) for item in value]
        if isinstance(value, dict):
            return {key: self._strip(item) for key, item in value.items()}
        return value


def _begun(opening: str, words: str) -> int:
    """How much of `opening` may have been begun at the end of some words."""
    return max((n for n in range(1, len(opening)) if words.endswith(opening[:n])), default=0)


def _around_thoughts(told: str, called: str, begin: str, lead: str) -> tuple[str, str]:
    """What opens thoughts and what closes them; twice nothing where they are not written.

    `told` are thoughts and words, `called` thoughts and a call: what stands before words alone,
    their `lead` above all, closes nothing.
    """
    thinks, found, rest = told.partition("probe thoughts")
    thought, answered, _ = rest.partition("probe answer")
    if not (found and answered):
        return "", ""
    if begin in thought:
        return thinks, ""
    _, found, rest = called.partition("probe thoughts")
    if found:
        same = takewhile(lambda pair: pair[0] == pair[1], zip(thought, rest, strict=False))
        thought = "".join(character for character, _ in same)
    return thinks, thought.removesuffix(lead)


def _find_json(text: str) -> tuple[str, str, str]:
    """Split `text` into what stands before, in and after its first whole JSON call."""
    decoder = json.JSONDecoder()
    for start, character in enumerate(text):
        if character != "{":
            continue
        try:
            value, stop = decoder.raw_decode(text, start)
        except ValueError:
            continue
        if isinstance(value, dict) and "probe_skill" in json.dumps(value):
            return text[:start], text[start:stop], text[stop:]
    raise BadConfiguration(
        "the chat template does not write calls as JSON with a name and arguments; it wrote "
        f"{text[:200]!r}"
    )


def _read_keys(call: dict[str, Any]) -> tuple[str, str, str]:
    """The keys of name and arguments, and what stands before a string's own text."""
    for name_key, name in call.items():
        if isinstance(name, str) and name.endswith("probe_skill"):
            for arguments_key, arguments in call.items():
                if isinstance(arguments, dict) and "probe_key" in arguments:
                    return name_key, arguments_key, name.removesuffix("probe_skill")
    raise BadConfiguration(f"the chat template writes calls in an unknown form: {call!r}")
