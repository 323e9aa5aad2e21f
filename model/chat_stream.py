"""Reading a reply off the stream of an OpenAI-compatible server: bytes, events, chunks, calls."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import BaseModel

from ..skills.calls import SkillUse
from ..skills.errors import BadReply, WorkerUnavailable
from .lmm import Usage

__all__ = ["Chunk", "Heard", "read_chunk", "read_events", "told"]

_LONGEST_EVENT = 16 * 1024 * 1024


class _Function(BaseModel):
    name: str | None = None
    arguments: str | None = None


class _CallDelta(BaseModel):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(BaseModel):
    content: str | None = None
    tool_calls: list[_CallDelta] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(BaseModel):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class _PromptDetails(BaseModel):
    cached_tokens: int | None = None


class _Tokens(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class Chunk(BaseModel):
    """One `chat.completion.chunk`, as far as it is read here."""

    choices: list[_Choice]
    usage: _Tokens | None = None


@dataclass
class _Call:
    """A call whose pieces are still coming in."""

    index: int | None
    id: str
    name: str = ""
    arguments: str = ""

    def skill_use(self) -> SkillUse:
        """The whole call. Raises `BadReply` when its arguments are not a JSON object."""
        try:
            arguments = json.loads(self.arguments, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            told = f"the arguments of {self.name!r} are not JSON ({error}): {self.arguments!r}"
            raise BadReply(told) from error
        if not self.name or not isinstance(arguments, dict):
            raise BadReply(f"not a call with a name and an object: {self.name!r} {self.arguments}")
        return SkillUse(id=self.id, name=self.name, arguments=arguments)


@dataclass
class Heard:
    """What has been said of a reply so far, since `begun`."""

    begun: float = field(default_factory=time.monotonic)
    finished: bool = False
    cut_off: bool = False
    first_token_seconds: float | None = None
    _texts: list[str] = field(default_factory=list)
    _calls: list[_Call] = field(default_factory=list)
    _tokens: _Tokens = field(default_factory=_Tokens)

    def take(self, chunk: Chunk) -> str:
        """Keep what a chunk brings, and return the text in it."""
        if chunk.usage:
            self._tokens = chunk.usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        delta = choice.delta
        self.finished |= choice.finish_reason is not None
        self.cut_off |= choice.finish_reason == "length"
        said = delta.content or delta.tool_calls or delta.reasoning_content or delta.reasoning
        if said and self.first_token_seconds is None:
            self.first_token_seconds = time.monotonic() - self.begun
        for piece in delta.tool_calls or ():
            self._take_call(piece)
        self._texts.append(delta.content or "")
        return self._texts[-1]

    def _take_call(self, piece: _CallDelta) -> None:
        function = piece.function or _Function()
        call = next((call for call in reversed(self._calls) if call.index == piece.index), None)
        # Some servers give every call the index 0, and only its id tells it from the last.
        if call is None or (piece.id and call.id and piece.id != call.id):
            call = _Call(piece.index, piece.id or "")
            self._calls.append(call)
        call.id = call.id or piece.id or ""
        call.name = call.name or function.name or ""
        call.arguments += function.arguments or ""

    @property
    def text(self) -> str:
        """The text of the reply."""
        return "".join(self._texts)

    def skill_uses(self) -> tuple[SkillUse, ...]:
        """The calls of the reply, each with an id of its own. Raises `BadReply`."""
        known: set[str] = set()
        for call in self._calls:
            if not call.id or call.id in known:
                call.id = f"call_{uuid.uuid4().hex[:24]}"
            known.add(call.id)
        return tuple(call.skill_use() for call in self._calls)

    def usage(self) -> Usage:
        """What the reply cost, in tokens as far as the server says it."""
        seconds = time.monotonic() - self.begun
        details = self._tokens.prompt_tokens_details or _PromptDetails()
        first = self.first_token_seconds
        return Usage(
            prompt_tokens=self._tokens.prompt_tokens,
            cached_tokens=details.cached_tokens or 0,
            completion_tokens=self._tokens.completion_tokens,
            first_token_seconds=seconds if first is None else first,
            seconds=seconds,
            cut_off=self.cut_off,
        )


def read_chunk(event: str) -> Chunk:
    """One event's data. Raises `BadReply`, or `WorkerUnavailable` when it tells of an error."""
    try:
        value = json.loads(event)
        if isinstance(value, dict) and (problem := value.get("error")):
            raise WorkerUnavailable(f"failed while it replied: {told(problem)}")
        return Chunk.model_validate(value)
    except (ValueError, RecursionError) as error:
        raise BadReply(f"sent what is not a chat chunk: {event[:500]!r}") from error


def told(problem: Any) -> str:
    """The words in a server's error, which comes in one of several forms."""
    for key in ("error", "message", "detail"):
        if isinstance(problem, dict) and problem.get(key):
            return told(problem[key])
    return (problem if isinstance(problem, str) else json.dumps(problem))[:500]


async def read_events(stream: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """The data of each server-sent event, up to `[DONE]`. Raises `BadReply`.

    Lines are split as bytes: `str.splitlines` would also split at U+2028, which JSON may hold.
    """
    data: list[str] = []
    async for line in _lines(stream):
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            event = "\n".join(data)
            data = []
            if event == "[DONE]":
                return
            yield event


async def _lines(stream: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    rest = bytearray()
    async for piece in stream:
        searched = len(rest)
        rest += piece
        while (end := rest.find(b"\n", searched)) >= 0:
            yield _decoded(bytes(rest[:end]).removesuffix(b"\r"))
            del rest[: end + 1]
            searched = 0
        if len(rest) > _LONGEST_EVENT:
            raise BadReply(f"sent a line of more than {_LONGEST_EVENT:,} bytes")


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise BadReply(f"sent a line that is not UTF-8: {line[:200]!r}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
