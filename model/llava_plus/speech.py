"""How a LLaVA-Plus writes its replies, and how it is told of calls and results.

Every turn is thoughts, actions and a value; calls name the APIs that it was trained on, whose
answers it reads as Python wrote them (Liu et al. 2023). A chat template says by a mark that its
model speaks so; the conversion of such checkpoints writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from ...skills.calls import SkillSpec, SkillUse
from ...skills.errors import BadReply
from ...skills.peer_wire import INTERNAL_ERROR
from ..call_format import CallFormat, Render
from ..conversation import (
    AssistantMessage,
    Conversation,
    Message,
    SkillMessage,
    UserMessage,
)
from ..lark import LarkTexts
from .calls import (
    APIS,
    Said,
    Scene,
    UnreadableCall,
    api_params,
    call_of,
    read_params,
    said_as_api,
)
from .responses import as_response
from .turns import EMOJI_KEYS, places_text, read_actions, read_turn

__all__ = ["DIALECT", "PARTS", "LlavaPlusFormat", "speaks_llava_plus"]

DIALECT = "llava-plus"
"""What the template of a model that speaks so sets `dialect` to."""

PARTS = {
    "thoughts": '"thoughts🤔" ',
    "calls": '\n"actions🚀" [',
    "between": ", ",
    "called": ']\n"value👉" ',
    "value": '"value👉" ',
    "name": "API_name",
    "arguments": "API_params",
}
"""What stands around the parts of a turn, as its trainer writes it, by what templates call it."""

_MARK = re.compile(rf'\{{%-? set dialect = "{DIALECT}" -?%\}}')
_VALUE = re.compile(rf'"?{EMOJI_KEYS[2]}"?')


def speaks_llava_plus(template: str) -> bool:
    """Whether a chat template says that its model speaks as LLaVA-Plus does."""
    return _MARK.search(template) is not None


class LlavaPlusFormat(CallFormat):
    """The turns of LLaVA-Plus; skills that it has APIs for are called and answered as these."""

    @classmethod
    def of(cls, render: Render) -> LlavaPlusFormat:
        """The format of a template that has the mark, which says how turns end."""
        return cls(
            begin=PARTS["calls"],
            separator=PARTS["between"],
            tail=PARTS["called"],
            end=CallFormat.without_calls(render).end.removeprefix("\n"),
            lead="",
            name_key=PARTS["name"],
            arguments_key=PARTS["arguments"],
            thinks=" " + PARTS["thoughts"],
        )

    def shown(self, reply: str) -> str:
        """The value as far as it is written: thoughts and calls are not said to the person."""
        found = _VALUE.search(reply)
        return reply[found.end() :].strip() if found else ""

    def unfinished(self, reply: str) -> bool:
        """Whether a reply breaks off within its calls."""
        return self.begin in reply and not _VALUE.search(reply)

    def parse(self, reply: str, new_id: Callable[[], str]) -> AssistantMessage:
        """Read a reply, whose calls are of APIs. Raises `BadReply` when one is broken."""
        turn = read_turn(reply) or read_turn(reply + PARTS["value"])
        if turn is None:
            return AssistantMessage(text=reply.strip())
        try:
            actions = read_actions(turn["actions"]).calls
        except UnreadableCall as error:
            raise BadReply(f"the model wrote a call that cannot be read: {reply!r}") from error
        uses = [SkillUse(id=new_id(), name=a.api, arguments=dict(a.params)) for a in actions]
        return AssistantMessage(
            text=turn["value"], thoughts=turn["thoughts"], skill_uses=tuple(uses)
        )

    def understood(self, message: AssistantMessage, conversation: Conversation) -> AssistantMessage:
        """A reply with the calls of skills that its APIs stand for.

        What cannot be read as such a call keeps its parameters, so that checking them against the
        skill's schema tells the model what is wrong.
        """
        scene, offered = Scene(), {spec.name for spec in conversation.skills}
        for said in conversation.messages:
            scene = _after(scene, said)
        uses = tuple(
            use if use.name in offered - set(APIS) else _as_skill(use, scene)
            for use in message.skill_uses
        )
        return message.model_copy(update={"skill_uses": uses})

    def signatures(self, spec: SkillSpec) -> list[tuple[str, dict[str, Any]]]:
        """The APIs that stand for a skill, or else the skill itself."""
        return list(api_params(spec).items()) or super().signatures(spec)

    def described(self, skills: Sequence[SkillSpec]) -> tuple[SkillSpec, ...]:
        """The skills that it has no API for: of the others its prompts never told."""
        return tuple(spec for spec in skills if not api_params(spec))

    def messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        """The messages in its words; images have names where a described skill can take them."""
        telling = _Telling(named=bool(self.described(conversation.skills)))
        told = conversation.chat_messages()
        for message, plain in zip(conversation.messages, told, strict=True):
            telling.retell(message, plain)
        return told

    def rules(self, texts: LarkTexts, *, calls: bool) -> str:
        """Words alone, or thoughts, calls or none, and words; no part holds another's mark."""
        thoughts, actions, value = EMOJI_KEYS
        listed = f"(call ({texts.literal(self.separator)} call)*)?" if calls else ""
        return (
            "start: plain | full\n"
            f"plain: {texts.literal(' ' + PARTS['value'])} TEXT?\n"
            f"full: {texts.literal(self.thinks)} thoughts {listed} "
            f"{texts.literal(self.tail)} TEXT?\n"
            "thoughts[lazy]: THOUGHTS\n"
            f"THOUGHTS: {texts.words(thoughts, value, until=self.begin)}\n"
            f"TEXT: {texts.words(thoughts, actions, value)}\n"
        )


class _Telling:
    """Retells messages one after another; `named` is whether images keep their handles."""

    def __init__(self, *, named: bool) -> None:
        self._named = named
        self._scene = Scene()
        self._calls: dict[str, tuple[SkillUse, Said]] = {}

    def retell(self, message: Message, plain: dict[str, Any]) -> None:
        """Change `plain`, the message in the OpenAI form."""
        if isinstance(message, UserMessage):
            places = places_text(message.marks) if message.marks else ""
            shown = plain["content"][:-1]
            kept = shown if self._named else [part for part in shown if part["type"] == "image"]
            plain["content"] = [*kept, {"type": "text", "text": message.text + places}]
        elif isinstance(message, AssistantMessage):
            for use, call in zip(message.skill_uses, plain.get("tool_calls", ()), strict=True):
                said = said_as_api(use, self._scene)
                self._calls[use.id] = use, said
                params = json.dumps(said.params, ensure_ascii=False)
                call["function"] = {"name": said.api, "arguments": params}
        elif message.result.id in self._calls:
            use, said = self._calls[message.result.id]
            plain["name"] = said.api
            if said.api in APIS:
                plain["content"] = _answer(use, said.api, message)
        self._scene = _after(self._scene, message)


def _after(scene: Scene, message: Message) -> Scene:
    """What a later call may leave out, once a message was said."""
    if isinstance(message, UserMessage):
        return scene.seen(message.images, marks=message.marks)
    return scene.seen(message.images, message.masks) if isinstance(message, SkillMessage) else scene


def _as_skill(use: SkillUse, scene: Scene) -> SkillUse:
    """A call of an API as one of the skill that it stands for."""
    if use.name not in APIS:
        return use
    call = call_of(use.name, use.arguments)
    try:
        arguments = read_params(call, use.arguments, scene).arguments
    except UnreadableCall:
        arguments = use.arguments
    return SkillUse(id=use.id, name=call.skill, arguments=arguments)


def _answer(use: SkillUse, api: str, message: SkillMessage) -> str:
    """A result as the API's worker would have told it, where it has words for it."""
    result = message.result
    if result.error:
        return repr({"text": result.error.message, "error_code": INTERNAL_ERROR})
    try:
        return repr(_rounded(as_response(use.name, api, result.data)))
    except (ValueError, TypeError, KeyError):
        return message.text


def _rounded(value: Any) -> Any:
    """With two decimals, as its web page tells numbers."""
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
