"""What a client wants answered, in whichever of OpenAI's protocols it asks, as a turn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ...model.conversation import AssistantMessage
from ...model.sampling import Sampling
from ..chats import Asked, ChatEvent, Chats, TurnOptions
from .errors import BadField, UnknownModel
from .inbound import History, ImageReader, client_specs, read_request, results_in
from .wire import ClientTool, CompletionRequest, Said, ToolSaid, UserSaid

__all__ = ["HasOptions", "Wanted", "completion_options", "options_of", "turn_wanted"]


class HasOptions(Protocol):
    """A request, as far as it says how its turn is to be taken."""

    @property
    def model(self) -> str | None: ...
    @property
    def tool_choice(self) -> Literal["none", "auto"] | None: ...
    @property
    def skills(self) -> list[str] | None: ...
    @property
    def store(self) -> bool | None: ...


@dataclass(frozen=True)
class Wanted:
    """An answer to the last of `messages`.

    In a kept `conversation` the others are passed over; it goes on behind its last turn, or
    behind the turn `parent`. `preface` is put before a request that goes on. `root` is where in
    the client's request the messages are.
    """

    messages: Sequence[Said]
    options: TurnOptions
    conversation: str | None = None
    parent: str | None = None
    preface: str = ""
    root: str = "messages"


async def turn_wanted(
    chats: Chats, wanted: Wanted, reader: ImageReader
) -> AsyncGenerator[ChatEvent, None]:
    """The turn. Raises what is wrong with the request before its first event."""
    owner = reader.caller.owner
    if wanted.conversation is None:
        history = History(reader, wanted.root)
        await history.read(wanted.messages)
        turn = chats.go_on(owner, history.value, history.images, options=wanted.options)
    else:
        turn = await _next_turn(chats, wanted, wanted.conversation, reader)
    async with aclosing(turn):
        async for event in turn:
            yield event


async def _next_turn(
    chats: Chats, wanted: Wanted, conversation: str, reader: ImageReader
) -> AsyncGenerator[ChatEvent, None]:
    """The next turn of a kept conversation: a request, or results that it waits for."""
    owner, options = reader.caller.owner, wanted.options
    match wanted.messages[-1]:
        case UserSaid(content=content):
            param = f"{wanted.root}.{len(wanted.messages) - 1}"
            text, images = await read_request(reader, content, param)
            text = f"{wanted.preface}\n\n{text}" if wanted.preface and text.strip() else text
            asked = Asked(text, tuple(images))
            return chats.ask(
                owner, asked, conversation=conversation, parent=wanted.parent, options=options
            )
        case ToolSaid():
            names = await _called(chats, owner, conversation, wanted.parent)
            results = results_in(_last_results(wanted.messages), names)
            return chats.bring(owner, conversation, results, parent=wanted.parent, options=options)
        case _:
            raise BadField("the last message must be a request or a result", param=wanted.root)


def _last_results(messages: Sequence[Said]) -> list[ToolSaid]:
    results: list[ToolSaid] = []
    for message in reversed(messages):
        if not isinstance(message, ToolSaid):
            break
        results.insert(0, message)
    return results


async def _called(
    chats: Chats, owner: str, conversation: str, parent: str | None
) -> dict[str, str]:
    """The names of all that has been called up to a turn, by the ids of calls."""
    last = parent or (await chats.store.conversation(conversation, owner)).head
    path = await chats.store.path(last, owner) if last else []
    said = [m for turn in path for m in turn.messages if isinstance(m, AssistantMessage)]
    return {use.id: use.name for message in said for use in message.skill_uses}


def options_of(chats: Chats, body: HasOptions, tools: Sequence[ClientTool]) -> TurnOptions:
    """How the turn is taken. Raises `UnknownModel` and `BadField`."""
    if body.model is not None and body.model not in chats.lmms:
        known = ", ".join(chats.lmms)
        raise UnknownModel(f"there is no model {body.model!r}; there is: {known}", param="model")
    none = body.tool_choice == "none"
    return TurnOptions(
        lmm=body.model,
        skills=() if none else _skills(chats, body.skills),
        client_tools=() if none else client_specs(tools),
        keep=body.store is not False,
    )


def completion_options(chats: Chats, body: CompletionRequest) -> TurnOptions:
    """How the turn of a chat completion is taken. Raises `UnknownModel` and `BadField`."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    sampling = Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        max_tokens=body.max_tokens,
        max_completion_tokens=body.max_completion_tokens,
        stop=tuple(stop),
        seed=body.seed,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
    )
    return replace(options_of(chats, body, body.tools or ()), sampling=sampling)


def _skills(chats: Chats, names: list[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    known = {spec.name for spec in chats.skills}
    for number, name in enumerate(names):
        if name not in known:
            told = ", ".join(sorted(known)) or "none"
            raise BadField(
                f"there is no skill {name!r}; there is: {told}", param=f"skills.{number}"
            )
    return tuple(dict.fromkeys(names))
