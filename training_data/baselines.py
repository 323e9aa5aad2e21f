"""Two plain ways to pick a skill, as LMMs: what a model has to beat to be worth its weight."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator
from functools import cache

from ..model.conversation import AssistantMessage, Conversation
from ..model.lmm import Event, Replied, Usage
from ..skills.calls import SkillUse
from ..skills.images import ImageStore
from ..skills.wording import singular
from .bank import Bank
from .slots import Filler

__all__ = ["BagOfWords", "WordOverlap"]

_STOP_WORDS = frozenset(
    "a an the this that these those it its i you he she we they me my your his her our their is "
    "are was were be been do does did can could will would should may might must have has had to "
    "of in on at by for from with into as and or but not no so if then than what which who how "
    "when where why there here please any some all im its just one".split()
)


class _Picker:
    """An LMM that picks a skill once, with no arguments, and then says it is done."""

    name = "picker"

    def pick(self, conversation: Conversation, request: str) -> str | None:
        """The name of the skill to call, or None."""
        raise NotImplementedError

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Call the picked skill, or answer."""
        last = conversation.messages[-1]
        name = self.pick(conversation, last.text) if last.role == "user" else None
        use = (SkillUse(id="call_1", name=name, arguments={}),) if name and calls_allowed else ()
        yield Replied(AssistantMessage(text="" if use else "Done.", skill_uses=use), Usage())

    async def aclose(self) -> None:
        """Nothing is held."""


class WordOverlap(_Picker):
    """The skill whose name and description share most words with the request."""

    name = "word-overlap"

    def pick(self, conversation: Conversation, request: str) -> str | None:
        """The skill with most words in common; None when none has any."""
        asked = set(_words(request))
        shared = {
            spec.name: len(asked & set(_words(f"{spec.name.replace('_', ' ')} {spec.description}")))
            for spec in conversation.skills
        }
        best = max(shared, key=lambda name: shared[name], default=None)
        return best if best and shared[best] else None


class BagOfWords(_Picker):
    """Multinomial naive Bayes on the words of the bank's requests (McCallum and Nigam 1998)."""

    name = "bag-of-words"

    def pick(self, conversation: Conversation, request: str) -> str | None:
        """The likeliest of the known skills on offer and none; unknown skills are never picked."""
        model = _counted()
        offered = [spec.name for spec in conversation.skills if spec.name in model]
        scores = {name: _likelihood(model[name], _words(request)) for name in [*offered, ""]}
        return max(scores, key=lambda name: scores[name]) or None


@cache
def _counted() -> dict[str, Counter[str]]:
    """How often each word stands in the requests for each skill, and in those for none (``)."""
    bank = Bank()
    requests = {name: [r.text for r in several] for name, several in bank.skills.items()}
    requests[""] = [text for text, _ in bank.none]
    rng = random.Random(0)
    counted: dict[str, Counter[str]] = {}
    for name, texts in requests.items():
        filled = (Filler.of(bank, rng).fill(text) for text in texts)
        counted[name] = Counter(word for text in filled for word in _words(text))
    return counted


def _likelihood(counts: Counter[str], words: list[str]) -> float:
    total, known = sum(counts.values()), 10_000
    return sum(math.log((counts[word] + 1) / (total + known)) for word in words)


def _words(text: str) -> list[str]:
    found = re.findall(r"[a-z0-9]+", text.lower())
    return [singular(word) for word in found if word not in _STOP_WORDS]
