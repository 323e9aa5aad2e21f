"""How the tokens of a reply are chosen, as far as whoever asks has a say in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from .lmm import LMM

__all__ = ["Sampling", "TakesSampling", "sampled"]


@dataclass(frozen=True)
class Sampling:
    """What OpenAI's chat protocol calls by these names; None and no `stop` leave it to the LMM.

    `max_tokens` and `max_completion_tokens` are one thing by its older and its newer name: tokens
    of one reply.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None

    @property
    def longest(self) -> int | None:
        """Tokens that a reply may have."""
        given = [n for n in (self.max_tokens, self.max_completion_tokens) if n is not None]
        return min(given, default=None)

    def fields(self) -> dict[str, Any]:
        """What has been given, as fields of a request."""
        given = {name: value for name, value in asdict(self).items() if value not in (None, ())}
        return given | ({"stop": list(self.stop)} if self.stop else {})


@runtime_checkable
class TakesSampling(Protocol):
    """An LMM that lets whoever asks have a say."""

    def with_sampling(self, wanted: Sampling) -> LMM:
        """The same model, whose replies are made as far as it can as is `wanted`."""


def sampled(lmm: LMM, wanted: Sampling) -> LMM:
    """The LMM with its replies made as is `wanted`; itself where nothing is, or it takes no say."""
    if wanted == Sampling() or not isinstance(lmm, TakesSampling):
        return lmm
    return lmm.with_sampling(wanted)
