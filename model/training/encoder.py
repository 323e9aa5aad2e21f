"""Teaching a sentence encoder which skill a request needs: the encoder of the shortlist.

Every batch holds requests for different skills, one each, and requests that need none; a request
should be nearer to its own skill than to all others of the batch, and a skill nearer to its own
request than to all others (InfoNCE; van den Oord et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from ..sentences import SentenceEncoder, save_small_encoder

__all__ = ["Lesson", "Pair", "train_encoder"]

Pair = tuple[str, str]
"""A request, and the text of the skill that it needs (`shortlist.skill_text`)."""


@dataclass(frozen=True)
class Lesson:
    """One batch: pairs of different skills, and requests that need no skill."""

    pairs: Sequence[Pair]
    idle: Sequence[str] = ()


_TEMPERATURE = 0.05


def train_encoder(
    name: str,
    lesson: Callable[[int], Lesson],
    folder: Path,
    *,
    steps: int,
    learning_rate: float = 6e-5,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Go on training the encoder `name` for `steps` batches, and save it small in `folder`.

    Raises `BadConfiguration` when there is no such encoder.
    """
    # On a CPU the gradient of PyTorch's fused attention takes longer than all the rest.
    encoder = SentenceEncoder(name, attention="eager")
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=learning_rate, weight_decay=0.01)
    for step in range(steps):
        rise, fall = (step + 1) / max(1, steps // 10), (steps - step) / steps
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(rise, fall)
        now = lesson(step)
        requests, skills = zip(*now.pairs, strict=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near = encoder.embed([*requests, *now.idle]) @ encoder.embed(list(skills)).T
        right = torch.arange(len(skills))
        scores = near.float() / _TEMPERATURE
        loss = functional.cross_entropy(scores[: len(right)], right)
        loss += functional.cross_entropy(scores.T, right)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        report(step + 1, loss.item() / 2)
    encoder.save(folder / "full")
    save_small_encoder(str(folder / "full"), folder / "small")
