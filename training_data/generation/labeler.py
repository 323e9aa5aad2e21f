"""Asking a labeler: once for each question, within its limits, with what it costs counted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from ...model.conversation import Conversation
from ...model.lmm import LMM, Replied
from ...model.remote import API_KEY_VARIABLE, RemoteLMM, Timeouts
from ...skills.calls import SkillUse
from ...skills.errors import BadConfiguration, BadReply
from ...skills.images import ImageStore
from ..suites.answers import content_key
from .kept import Kept
from .pace import Pace

__all__ = [
    "LABELER_KEY_VARIABLE",
    "Labeler",
    "Said",
    "Spent",
    "labeler_key",
    "remote_labeler",
]

LABELER_KEY_VARIABLE = "LLAVA_PLUS_LABELER_API_KEY"
"""The labeler's key, where it is not the one of the LMM."""

_KEY_VARIABLES = (LABELER_KEY_VARIABLE, API_KEY_VARIABLE)

_TIMEOUTS = Timeouts(first_token=900.0, next_token=120.0)
_RETRIES = 6
_LONGEST_PAUSE = 300.0
_UNREAD = 8
"""So many replies that cannot be read, and none that can, and the labeler is no labeler."""

_LETTERS_PER_TOKEN = 4


class Said(BaseModel):
    """One reply of the labeler, or the `problem` for which it could not be read."""

    model_config = ConfigDict(frozen=True)

    text: str = ""
    calls: tuple[SkillUse, ...] = ()
    problem: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def shown(self) -> str:
        """The reply for whoever is told of it."""
        calls = [f"{use.name}({use.tool_call()['function']['arguments']})" for use in self.calls]
        return "\n".join(part for part in (self.text, *calls) if part)


@dataclass
class Spent:
    """Requests and tokens of this run; `known` replies were there already."""

    asked: int = 0
    known: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def money(self, price: tuple[float, float]) -> float:
        """What it comes to, at prices for a million tokens in and out."""
        return (self.prompt_tokens * price[0] + self.completion_tokens * price[1]) / 1e6


class Labeler:
    """The LMM that labels, under the `name` of its model, by which its replies are kept.

    `request` are the sampling settings that it was opened with.
    """

    def __init__(
        self,
        lmm: LMM,
        name: str,
        kept: Kept,
        *,
        request: Mapping[str, Any] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.name = name
        self.spent = Spent()
        self._lmm = lmm
        self._kept = kept
        self._request = dict(request or {})
        self._pace = pace or Pace()
        self._unread = 0

    async def say(self, asked: Conversation) -> Said:
        """The reply to this conversation: from the disk where it was given before.

        Raises `WorkerUnavailable` when the labeler cannot be reached, `BadReply` when nothing
        that it says can be read.
        """
        sent = {"tools": asked.tools(), "messages": asked.chat_messages()}
        key = content_key(labeler=self.name, request=self._request, asked=sent)

        async def ask() -> dict[str, Any]:
            return (await self._ask(asked)).model_dump(mode="json", exclude_defaults=True)

        value, new = await self._kept.get(key, ask)
        self.spent.known += not new
        return Said.model_validate(value)

    async def _ask(self, asked: Conversation) -> Said:
        spent = self.spent
        letters = sum(len(message.text) for message in asked.messages) + len(str(asked.tools()))
        expected = spent.completion_tokens // max(spent.asked, 1)
        admitted = await self._pace.admit(letters // _LETTERS_PER_TOKEN + expected)
        said = await self._reply(asked)
        spent.asked += 1
        spent.prompt_tokens += said.prompt_tokens
        spent.completion_tokens += said.completion_tokens
        admitted.tokens = said.prompt_tokens + said.completion_tokens or admitted.tokens
        return said

    async def _reply(self, asked: Conversation) -> Said:
        try:
            async for event in self._lmm.reply(asked, ImageStore()):
                if isinstance(event, Replied):
                    return _said(event)
            raise BadReply("the reply has no end")
        except BadReply as error:
            self._unread += 1
            if self._unread == self.spent.asked + 1 == _UNREAD:
                raise BadReply(f"no reply of {_UNREAD} can be read; the last: {error}") from error
            return Said(problem=str(error))


def _said(replied: Replied) -> Said:
    """The reply as it is kept. Raises `BadReply` for half a pair of surrogates: no text."""
    said = Said(
        text=replied.message.text,
        calls=replied.message.skill_uses,
        prompt_tokens=replied.usage.prompt_tokens,
        completion_tokens=replied.usage.completion_tokens,
    )
    try:
        said.shown.encode()
    except UnicodeEncodeError as error:
        raise BadReply(f"the reply cannot be written as UTF-8: {error}") from error
    return said


def labeler_key() -> str:
    """The labeler's key: its own, or that of the LMM; empty without either."""
    return next(filter(None, map(os.environ.get, _KEY_VARIABLES)), "")


def remote_labeler(name: str, request: Mapping[str, Any], key: str) -> RemoteLMM:
    """The LMM of the labeler `URL#MODEL`; `request` are further fields of each request.

    It is patient: a server that says when to come back is asked again then. Raises
    `BadConfiguration` for another name.
    """
    url, _, model = name.partition("#")
    if not (model and url.startswith(("http://", "https://"))):
        problem = f"{name!r} is no labeler: give URL#MODEL of an OpenAI-compatible server"
        raise BadConfiguration(problem)
    return RemoteLMM(
        url,
        model,
        api_key=key,
        key_variables=_KEY_VARIABLES,
        timeouts=_TIMEOUTS,
        retries=_RETRIES,
        longest_pause=_LONGEST_PAUSE,
        options=request,
    )
