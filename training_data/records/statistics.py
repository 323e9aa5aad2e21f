"""What is in a file of records: calls, steps, lengths, images, and what of it is learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from ...model.conversation import AssistantMessage, SkillMessage, UserMessage
from ...model.record import Record
from ...model.rendering import Rendered

__all__ = ["Statistics"]

_READ = "read"
"""What is no part of a reply, and so not learned."""


class Statistics:
    """Counts that take no more memory for a million records than for a hundred.

    A step is a reply of the LMM; a length is that of all texts of a record, in characters, or of
    its training sequence, in tokens, kept to two digits.
    """

    def __init__(self) -> None:
        self.records = self.with_image = self.with_calls = self.with_thoughts = 0
        self.requests = self.results = self.errors = 0
        self.calls: Counter[str] = Counter()
        self.steps: Counter[int] = Counter()
        self.lengths: Counter[int] = Counter()
        self.tokens: Counter[int] = Counter()
        self.parts: Counter[str] = Counter()

    def add(self, record: Record, sequence: Rendered | None = None) -> None:
        """Count one record, and its training sequence where there is one."""
        replies = [m for m in record.messages if isinstance(m, AssistantMessage)]
        results = [m.result for m in record.messages if isinstance(m, SkillMessage)]
        uses = [use for reply in replies for use in reply.skill_uses]
        self.records += 1
        self.with_image += bool(record.images)
        self.with_calls += bool(uses)
        self.with_thoughts += any(reply.thoughts for reply in replies)
        self.requests += sum(isinstance(m, UserMessage) for m in record.messages)
        self.results += len(results)
        self.errors += sum(result.error is not None for result in results)
        self.calls.update(use.name for use in uses)
        self.steps[len(replies)] += 1
        thoughts = sum(len(reply.thoughts) for reply in replies)
        self.lengths[_two_digits(thoughts + sum(len(m.text) for m in record.messages))] += 1
        if sequence:
            self.tokens[_two_digits(len(sequence.ids))] += 1
            self.parts.update(part or _READ for part in sequence.parts)

    def figures(self) -> dict[str, Any]:
        """The counts as one object; shares are of all records, from 0 to 1."""
        return {
            "records": self.records,
            "with_image": self._share(self.with_image),
            "with_calls": self._share(self.with_calls),
            "with_thoughts": self._share(self.with_thoughts),
            "requests": self.requests,
            "results": self.results,
            "errors": self.errors,
            "calls": dict(self.calls.most_common()),
            "steps": _quantiles(self.steps),
            "characters": _quantiles(self.lengths),
            **({"tokens": _quantiles(self.tokens)} if self.tokens else {}),
            **({"learned": self._learned()} if self.parts else {}),
        }

    def draw(self, path: Path) -> None:
        """Draw calls, steps, lengths and what is learned. Raises `ImportError` and `OSError`."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(17 if self.parts else 13, 4.5), layout="constrained")
        calls, steps, lengths, *learned = figure.subplots(1, 4 if self.parts else 3)
        _draw_bars(calls, dict(self.calls.most_common(20)))
        calls.set(xlabel="calls")
        steps.bar(list(self.steps), list(self.steps.values()), width=0.6)
        steps.set(xlabel="replies in a record", ylabel="records")
        steps.xaxis.set_major_locator(MaxNLocator(integer=True))
        counted, unit = (self.tokens, "tokens") if self.tokens else (self.lengths, "characters")
        lengths.hist(list(counted), weights=list(counted.values()), bins=40)
        lengths.set(xlabel=f"{unit} in a record", ylabel="records")
        for axes in learned:
            shares = {name: round(100 * share, 1) for name, share in self._learned().items()}
            _draw_bars(axes, shares)
            axes.set(xlabel="learned tokens, % of all")
        for axes in (calls, steps, lengths, *learned):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=120)

    def _learned(self) -> dict[str, float]:
        """The share of all tokens that each part of the replies has, the largest first."""
        total = sum(self.parts.values())
        return {
            part: round(count / total, 4)
            for part, count in self.parts.most_common()
            if part != _READ
        }

    def _share(self, count: int) -> float:
        return round(count / self.records, 4) if self.records else 0.0


def _draw_bars(axes: Any, counts: Mapping[str, float]) -> None:
    """A bar for each name, the first one on top."""
    names = list(counts)[::-1]
    bars = axes.barh(names, [counts[name] for name in names], height=0.6)
    axes.bar_label(bars, padding=3)
    # A few bars stay bars and do not fill the height.
    axes.set(ylim=(min(0, len(names) - 8) - 0.5, len(names) - 0.5))


def _two_digits(number: int) -> int:
    return round(number, 2 - len(str(number))) if number >= 100 else number


def _quantiles(counts: Counter[int]) -> dict[str, int]:
    """The least, median, 95th percentile and largest of what was counted."""
    if not counts:
        return {}
    values = sorted(counts)
    passed = list(accumulate(counts[value] for value in values))

    def at(share: float) -> int:
        return next(v for v, p in zip(values, passed, strict=True) if p >= share * passed[-1])

    return {"least": values[0], "median": at(0.5), "p95": at(0.95), "most": values[-1]}
