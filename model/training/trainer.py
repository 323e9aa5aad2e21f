"""The training loop: a small LLaVA on groups of trajectories, with the masked loss.

Everything a step depends on is a function of the recipe and the step's number, and a checkpoint
holds weights, optimiser state and step. So a run can be stopped at any time and goes on as if
it had not been.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ...skills.calls import SkillSpec
from ..conversation import AssistantMessage, Conversation
from ..rendering import ChatRenderer, Rendered
from ..shortlist import Likely, Shortlist
from ..small_weights import LANGUAGE, rounded_weights
from .batches import Batch, PackedGroup, collate, pack_group
from .examples import Example
from .recipe import Recipe
from .runs import Progress, Run, finish_run, open_run, save_run

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["train"]


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    aligned: Callable[[int], None] = lambda step: None,
    stop_after: float = math.inf,
) -> bool:
    """Run or go on with a recipe in `folder`; true when it is finished.

    The finished model is saved to `folder/model` with its processor and chat template.
    Stops cleanly, to be gone on with, after `stop_after` seconds. `report` hears of every step,
    `aligned` of those of stage 1 before.
    """
    run = open_run(recipe, folder, device, aligned)
    packer = _Packer(run)
    validation = [packer.batch_of([packer.pack(group)]) for group in _held_out(run)]
    started = time.monotonic()
    # The thread that prepares batches takes one core's share, not all of them.
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for batch in _batches(run, packer, pool):
            progress = _step(run, batch, device)
            if _due(run.step, recipe.validate_every, recipe.steps):
                measured = _validate(run, validation, device)
                progress = Progress(**{**progress.__dict__, "validation_loss": measured})
            run.log.append(progress)
            report(progress)
            over = time.monotonic() - started > stop_after
            if over or _due(run.step, recipe.save_every, recipe.steps):
                save_run(run)
            if over and run.step < recipe.steps:
                return False
    finish_run(run)
    return True


class _Packer:
    """Renders, packs and batches the examples of a run."""

    def __init__(self, run: Run) -> None:
        self._wanted: dict[str, str] = {}
        self._shortlist = Shortlist() if run.recipe.shortlist else None
        self._renderer = ChatRenderer(run.processor, self._likely)
        self._processor = run.processor
        config = run.model.config
        self._image_tokens = [config.image_token_id] * config.image_seq_length

    def pack(self, examples: list[Example]) -> PackedGroup:
        return pack_group(examples, self._render)

    def _render(self, example: Example) -> Rendered:
        self._wanted = dict(_single_calls(example.conversation))
        return self._renderer.training(example.conversation, lambda handle: self._image_tokens)

    def _likely(self, request: str, skills: Sequence[SkillSpec], *, image: bool) -> list[Likely]:
        """The shortlist, mostly; one request in seven goes without.

        The bank's requests are harder for the encoder than people's, so that a model which saw
        its plain advice would trust it too little: where it is wrong, it is put right four times
        in ten. Plans keep theirs, which mostly names a later step.
        """
        draw = zlib.crc32(request.encode())
        if self._shortlist is None or draw % 7 == 0:
            return []
        likely = self._shortlist(request, skills, image=image)
        wanted = self._wanted.get(request)
        if wanted and likely[0].name != wanted and draw % 10 < 4:
            others = [one for one in likely if one.name != wanted]
            likely = [Likely(wanted, likely[0].tenths), *others][: len(likely)]
        return likely

    def batch_of(self, groups: list[PackedGroup]) -> Batch:
        return collate(groups, self._pixels_of)

    def _pixels_of(self, images: list[Image]) -> torch.Tensor:
        processed = self._processor.image_processor(images, return_tensors="pt")
        return torch.as_tensor(processed["pixel_values"])


def _single_calls(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """Every request that takes one call, with the name of the skill."""
    for asked, called, _, after in zip(
        *(conversation.messages[i:] for i in range(4)), strict=False
    ):
        if isinstance(called, AssistantMessage) and isinstance(after, AssistantMessage):
            single = len(called.skill_uses) == 1 and not after.skill_uses
            if asked.role == "user" and single:
                yield asked.text, called.skill_uses[0].name


def _batches(run: Run, packer: _Packer, pool: ThreadPoolExecutor) -> Iterator[Batch]:
    """The batches of the steps that are left; the next is made while one is learned from."""
    size = run.recipe.groups_per_step

    def make(step: int) -> Batch:
        indices = range(step * size, (step + 1) * size)
        return packer.batch_of([packer.pack(run.source.group(index)) for index in indices])

    upcoming: Future[Batch] = pool.submit(make, run.step)
    for step in range(run.step, run.recipe.steps):
        batch = upcoming.result()
        if step + 1 < run.recipe.steps:
            upcoming = pool.submit(make, step + 1)
        yield batch


def _held_out(run: Run) -> list[list[Example]]:
    return run.source.held_out(run.recipe.validation_groups)


def _step(run: Run, batch: Batch, device: str) -> Progress:
    started = time.monotonic()
    rate = learning_rate(run.recipe, run.step)
    run.model.train()
    run.optimizers.zero_grad()
    with _weights(run):
        total, count = _loss(run, batch, device)
        loss = total / count
        loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.gradient_norm)
    run.optimizers.step(rate)
    run.step += 1
    seconds = time.monotonic() - started
    return Progress(run.step, loss.item(), rate, batch.ids.numel(), seconds)


def _weights(run: Run) -> AbstractContextManager[None]:
    """The weights that a step computes with: the exact ones, or in the end the rounded ones."""
    begin = run.recipe.round_from
    if begin is None or run.step < begin:
        return nullcontext()
    return rounded_weights(run.model, LANGUAGE)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm-up, a long flat stretch, then a straight fall to zero (Hu et al. 2024, MiniCPM)."""
    decay = max(1, round(recipe.steps * recipe.decay_fraction))
    rise = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    fall = min(1.0, (recipe.steps - step) / decay)
    return recipe.learning_rate * min(rise, fall)


def _loss(run: Run, batch: Batch, device: str) -> tuple[torch.Tensor, int]:
    """Summed cross-entropy of the learned tokens, and how many there are.

    The language head is computed at those positions alone.
    """
    dtype = torch.bfloat16 if run.recipe.precision == "bfloat16" else torch.float32
    with torch.autocast(device.split(":")[0], dtype=dtype, enabled=dtype != torch.float32):
        hidden = run.model.model(
            input_ids=batch.ids.to(device),
            pixel_values=None if batch.pixels is None else batch.pixels.to(device),
            # transformers would build a causal mask; any mask of four axes is left as it is.
            attention_mask=torch.ones(1, 1, 1, 1, device=device),
            position_ids=batch.positions.to(device),
            layout=batch.layout,
            use_cache=False,
        ).last_hidden_state
        learned = (batch.targets != -100).to(device)
        logits = run.model.lm_head(hidden[learned])
    targets = batch.targets.to(device)[learned]
    return functional.cross_entropy(logits.float(), targets, reduction="sum"), len(targets)


@torch.no_grad()
def _validate(run: Run, batches: list[Batch], device: str) -> float:
    """Mean cross-entropy over the learned tokens of the held-out groups."""
    run.model.eval()
    with _weights(run):
        sums = [_loss(run, batch, device) for batch in batches]
    return sum(total.item() for total, _ in sums) / sum(count for _, count in sums)


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last
