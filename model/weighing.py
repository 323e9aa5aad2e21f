"""Weighing the next token of a reply by what the advisor and the copied texts say."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import torch

from .advice import Advice
from .advisor import Advisor
from .conversation import Conversation, SkillMessage, UserMessage
from .copying import Copying
from .rendering import ChatRenderer

__all__ = ["Weighing"]

_LIKELIEST = 40
"""Among so many tokens those that go on a name are looked for."""
_WITHIN_A_LETTER = 20.0
"""So many nats for the rest of a letter: a model says little of bytes that it has seldom seen."""
_FREE = 1000
"""Where the grammar allows so many tokens, any text may stand."""


@dataclass(frozen=True)
class Weighing:
    """What is added to the log-odds of one reply's tokens.

    `for_calls` is what the strings of a call may copy (the request, the results since), `for_words`
    what an answer may (the results). `for_labels` is for the strings in lists, which are the short
    names of things: those may end within a clause.
    """

    renderer: ChatRenderer
    end_ids: AbstractSet[int]
    advice: Advice
    for_calls: Copying
    for_labels: Copying
    for_words: Copying

    @classmethod
    def of(
        cls,
        conversation: Conversation,
        advisor: Advisor,
        renderer: ChatRenderer,
        end_ids: AbstractSet[int],
    ) -> Weighing:
        """For the reply that comes next."""
        asked, *since = conversation.turn
        assert isinstance(asked, UserMessage)
        results = [message.text for message in since if isinstance(message, SkillMessage)]
        for_labels = Copying("\n".join([asked.words, *results]), opening=2.0)
        for_calls = replace(for_labels, going_on=2.0)
        for_words = Copying("\n".join(results))
        return cls(renderer, end_ids, advisor(conversation), for_calls, for_labels, for_words)

    def for_call(self) -> float:
        """What is added to the log-odds of a call, where the reply begins."""
        return self.advice.for_call()

    def __call__(self, logits: torch.Tensor, written: Sequence[int]) -> torch.Tensor:
        """Weigh `logits` [vocabulary], -inf where the grammar forbids, after `written`."""
        half = self.renderer.vocabulary.broken_off(written)
        text = self._text(written)
        if half:
            text = text.rstrip("\ufffd")
        form = self.renderer.format
        if form.begin not in text:
            return self._copied(logits, text, half, self.for_words, ends="")
        name = form.begun_name(text)
        if name is not None:
            return self._named(logits, name)
        value = form.begun_value(text)
        if value is None:
            return logits
        if not value.text.strip():
            return self._opened(logits, value.text, half)
        source = self.for_labels if value.listed else self.for_calls
        return self._copied(logits, value.text, half, source, ends='"')

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.renderer.tokenizer.decode(list(tokens), skip_special_tokens=False))

    def _named(self, logits: torch.Tensor, begun: str) -> torch.Tensor:
        """Favour what the advice favours, among the likeliest tokens that go on a name."""
        if not self.advice.favoured:
            return logits
        logits = logits.clone()
        for token in logits.topk(min(_LIKELIEST, len(logits))).indices.tolist():
            logits[token] += self.advice.for_name(begun, self._text([token]))
        return logits

    def _copied(
        self, logits: torch.Tensor, begun: str, half: bytes, source: Copying, *, ends: str
    ) -> torch.Tensor:
        """Favour what follows in the source; less so where the model would rather end."""
        rests = [rest for rest in source.following(begun) if rest.strip()]
        if not rests:
            return logits
        best = int(logits.argmax())
        if best in self.end_ids:
            return logits
        if ends and ends in self._text([best]):
            return self._favour(logits, half, source.clause(rests), source.going_on)
        return self._favour(logits, half, rests, source.weight)

    def _opened(self, logits: torch.Tensor, begun: str, half: bytes) -> torch.Tensor:
        """Favour the words of the source where an argument begins that may be any text."""
        if not self.for_calls.opening or not (half or int(logits.isfinite().sum()) >= _FREE):
            return logits
        words = self.for_calls.beginnings(begun)
        return self._favour(logits, half, words, self.for_calls.opening)

    def _favour(
        self, logits: torch.Tensor, half: bytes, rests: Sequence[str], nats: float
    ) -> torch.Tensor:
        """Add `nats` to the tokens that begin a rest, or go on its first letter after `half`."""
        wanted = [rest.encode("utf-8", "replace") for rest in rests]
        going_on = [rest.removeprefix(half) for rest in wanted if rest.startswith(half)]
        logits = logits.clone()
        logits[self.renderer.vocabulary.beginning(going_on)] += _WITHIN_A_LETTER if half else nats
        return logits
