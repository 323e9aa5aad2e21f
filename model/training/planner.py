"""Teaching the planner: what each request of the bank wants next, at every point of its plan."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ..planner import LAYERS, Asked, PlanNetwork, as_states
from ..sentences import SentenceEncoder

__all__ = ["Planned", "train_planner"]

_BATCH = 128
_SORTED = 20 * _BATCH
"""So many requests are sorted by length, so that a batch has little padding."""
_LEARNING_RATE = 1.5e-3
_SMOOTHING = 0.05


@dataclass(frozen=True)
class Planned:
    """A request, and the skills that it wants in order; None where it wants another one."""

    asked: Asked
    skills: tuple[str, ...] | None
    weight: float = 1.0


def train_planner(
    encoder: SentenceEncoder,
    lessons: Sequence[Planned],
    skills: Sequence[str],
    *,
    layers: Sequence[int] = LAYERS,
    epochs: int = 4,
    seed: int = 0,
    report: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> PlanNetwork:
    """A network for `skills`, taught on what `layers` of a frozen encoder say of words.

    `report` hears of every step, of how many, and its loss.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    words = encoder.states([lesson.asked.read for lesson in lessons], layers)
    network = PlanNetwork(skills, read=words[0].shape[-1], layers=layers)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=0.05)
    steps = epochs * -(-len(lessons) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATE, total_steps=steps + 1, pct_start=0.1
    )
    batches = (batch for _ in range(epochs) for batch in _batches([*map(len, words)], rng))
    for step, batch in enumerate(batches, 1):
        loss = _loss(network, [lessons[i] for i in batch], [words[i].float() for i in batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        report(step, steps, loss.item())
    return network.eval()


def _batches(lengths: Sequence[int], rng: random.Random) -> Iterator[list[int]]:
    """Every index once, those of a batch of about one length."""
    order = rng.sample(range(len(lengths)), len(lengths))
    batches = []
    for start in range(0, len(order), _SORTED):
        part = sorted(order[start : start + _SORTED], key=lengths.__getitem__)
        batches += [part[at : at + _BATCH] for at in range(0, len(part), _BATCH)]
    return iter(rng.sample(batches, len(batches)))


def _loss(
    network: PlanNetwork, lessons: Sequence[Planned], words: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Cross-entropy of what comes next, the mean over all points of all plans."""
    padded = pad_sequence([torch.ones(len(word)) for word in words], batch_first=True) == 0
    told = [
        torch.tensor(as_states(network.skills, lesson.asked, lesson.skills or ()))
        for lesson in lessons
    ]
    wanted = [torch.tensor(_targets(network.skills, lesson)) for lesson in lessons]
    weights = [torch.full((len(told[i]),), lesson.weight) for i, lesson in enumerate(lessons)]
    states = pad_sequence(told, batch_first=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        odds = network(pad_sequence(list(words), batch_first=True), padded, states)
    losses = functional.cross_entropy(
        odds.float().flatten(0, 1),
        pad_sequence(wanted, batch_first=True).flatten(),
        reduction="none",
        label_smoothing=_SMOOTHING,
    )
    counted = pad_sequence(weights, batch_first=True).flatten()
    return (losses * counted).sum() / counted.sum()


def _targets(skills: Sequence[str], lesson: Planned) -> list[int]:
    if lesson.skills is None:
        return [len(skills)]
    return [*map(skills.index, lesson.skills), len(skills) + 1]
