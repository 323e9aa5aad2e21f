"""Hundreds of skills for any LMM: it is shown the likely ones, and can look for more.

A prompt with every spec is slow and confuses most models. So the shortlist's encoder picks the
skills that are nearest to the last requests, those that were called stay, and one more skill,
`find_skills`, looks through all the others. Its calls are answered here and not by a worker.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from copy import copy
from heapq import nlargest
from typing import TYPE_CHECKING

from ..model.conversation import AssistantMessage, Conversation, UserMessage
from ..model.lmm import LMM, Event, Replied, SkillUseDelta, TextDelta, Usage
from ..model.sampling import Sampling, sampled
from ..skills.calls import SkillProblem, SkillResult, SkillSpec, SkillUse
from ..skills.errors import BadConfiguration, BadReply
from ..skills.extras import needing
from ..skills.images import ImageStore

if TYPE_CHECKING:
    from ..model.shortlist import Shortlist

__all__ = ["FIND_SKILLS", "FocusedLMM", "open_shortlist"]

FIND_SKILLS = SkillSpec(
    name="find_skills",
    description="Look for skills that are not listed here, when none of these fits.",
    parameters={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "description": "What the skill should do, in a few words.",
            }
        },
        "required": ["query"],
        "additionalProperties": False,
    },
)
_REQUESTS = 3
"""So many of the last requests say what is likely."""
_SEARCHES = 2
"""So often an LMM may look for more skills before one reply."""
_FOUND = 5
"""So many skills a search brings."""


def open_shortlist() -> Shortlist:
    """The shortlist that ships. Raises `BadConfiguration` where its packages are missing."""
    with needing("local", "offering only the likely skills"):
        from ..model.shortlist import Shortlist
    return Shortlist()


class FocusedLMM:
    """An LMM that is shown the `offered` likeliest skills, and those that it called or found.

    Raises `BadConfiguration` when `offered` is less than 2.
    """

    def __init__(self, lmm: LMM, shortlist: Shortlist, *, offered: int) -> None:
        if offered < 2:
            raise BadConfiguration(f"an LMM has to be offered 2 skills or more, not {offered}")
        self.name = lmm.name
        self._lmm = lmm
        self._shortlist = shortlist
        self._offered = offered

    def with_sampling(self, wanted: Sampling) -> FocusedLMM:
        """The same, around the LMM with its replies made as is `wanted`."""
        other = copy(self)
        other._lmm = sampled(self._lmm, wanted)
        return other

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Stream a reply as the LMM gives it, without its searches for skills.

        Raises `BadConfiguration` when a skill has the name of the search.
        """
        skills = conversation.skills
        if any(spec.name == FIND_SKILLS.name for spec in skills):
            raise BadConfiguration(f"a skill is called {FIND_SKILLS.name!r}, as the search is")
        names = set(await asyncio.to_thread(self._likely, conversation))
        searches = _SEARCHES if calls_allowed and len(names) < len(skills) else 0
        usage, said = Usage(), ""
        while True:
            view = _offering(conversation, skills, names, more=searches > 0)
            stream = self._lmm.reply(view, store, calls_allowed=calls_allowed)
            async with aclosing(stream) as events:
                async for event in events:
                    if isinstance(event, Replied):
                        message, usage = event.message, _sum(usage, event.usage)
                        break
                    if not (isinstance(event, SkillUseDelta) and _is_search(event.use)):
                        yield event
                else:
                    raise BadReply(f"{self.name} stopped without an end to its reply")
            others = tuple(use for use in message.skill_uses if not _is_search(use))
            if others or not message.skill_uses:
                whole = {"skill_uses": others, "text": said + message.text}
                yield Replied(message.model_copy(update=whole), usage)
                return
            if not searches:
                raise BadReply(f"{self.name} looks for skills once more, after {_SEARCHES} times")
            if message.text:
                said += f"{message.text}\n\n"
                yield TextDelta("\n\n")
            # Some servers count calls anew in every reply.
            uses = tuple(
                use.model_copy(update={"id": f"find_{searches}_{number}"})
                for number, use in enumerate(message.skill_uses)
            )
            searches -= 1
            conversation = conversation.reply(AssistantMessage(skill_uses=uses))
            for use in uses:
                result, found = await asyncio.to_thread(self._search, use, skills, names)
                names |= found
                conversation = conversation.add_result(result)

    async def aclose(self) -> None:
        """Close the LMM behind it."""
        await self._lmm.aclose()

    def _likely(self, conversation: Conversation) -> list[str]:
        """The names of the skills near to the last requests, and of those called before."""
        said = conversation.messages
        requests = [n for n, message in enumerate(said) if isinstance(message, UserMessage)]
        nearest: dict[str, float] = defaultdict(float)
        for place in requests[-_REQUESTS:]:
            image = conversation.has_image(place)
            likeness = self._shortlist.nearness(said[place].text, conversation.skills, image=image)
            for name, near in likeness.items():
                nearest[name] = max(nearest[name], near)
        called = [
            use.name
            for message in conversation.messages
            if isinstance(message, AssistantMessage)
            for use in message.skill_uses
        ]
        return [*called, *nlargest(self._offered, nearest, key=nearest.__getitem__)]

    def _search(
        self, use: SkillUse, skills: Sequence[SkillSpec], listed: set[str]
    ) -> tuple[SkillResult, set[str]]:
        """What a search brings: a result that tells of it, and the names."""
        query = use.arguments.get("query")
        if not isinstance(query, str) or not query.strip():
            told = f"find_skills: query is {query!r}; say in words what the skill should do"
            problem = SkillProblem(kind="BadSkillUse", message=told)
            return SkillResult(id=use.id, name=use.name, error=problem), set()
        near = self._shortlist.nearness(query, [s for s in skills if s.name not in listed])
        found = nlargest(_FOUND, near, key=near.__getitem__)
        text = f"Found {len(found)} more: {', '.join(found)}."
        return SkillResult(id=use.id, name=use.name, text=text), set(found)


def _offering(
    seen: Conversation, skills: Iterable[SkillSpec], names: set[str], *, more: bool
) -> Conversation:
    """What the LMM sees: the chosen skills in their own order, so that prompts stay alike."""
    chosen = [spec for spec in skills if spec.name in names]
    return seen.model_copy(update={"skills": (*chosen, *([FIND_SKILLS] if more else []))})


def _is_search(use: SkillUse) -> bool:
    return use.name == FIND_SKILLS.name


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        first_token_seconds=one.first_token_seconds or other.first_token_seconds,
        seconds=one.seconds + other.seconds,
        cut_off=other.cut_off,
    )
