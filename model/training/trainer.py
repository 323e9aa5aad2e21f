"""The training loop: a small LLaVA from scratch, on groups of trajectories, with the masked loss.

Everything a step depends on is a function of the recipe and the step's number, and a checkpoint
holds weights, optimiser state and step. So a run can be stopped at any time and goes on as if
it had not been.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from ...skills.errors import BadConfiguration
from ..rendering import ChatRenderer, Rendered
from ..scratch import build_model, build_processor, train_tokenizer
from .batches import Batch, PackedGroup, collate, pack_group
from .examples import DataSource, Example, load_source
from .recipe import Recipe
from .sentences import SentenceEncoder, SentenceLesson, sentence_ends

if TYPE_CHECKING:
    from PIL.Image import Image
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

__all__ = ["Progress", "train"]


@dataclass(frozen=True)
class Progress:
    """One line of the run's log."""

    step: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float
    validation_loss: float | None = None
    lesson_loss: float | None = None


@dataclass
class Run:
    """A training run on disk: processor, newest checkpoint and log."""

    recipe: Recipe
    folder: Path
    source: DataSource
    processor: LlavaProcessor
    model: LlavaForConditionalGeneration
    optimizer: torch.optim.Optimizer
    encoder: SentenceEncoder | None = None
    lesson: SentenceLesson | None = None
    step: int = 0
    log: list[Progress] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        """Where the state of the run is kept."""
        return self.folder / "checkpoint.pt"


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    stop_after: float = math.inf,
) -> bool:
    """Run or go on with a recipe in `folder`; true when it is finished.

    The finished model is saved to `folder/model` with its processor and chat template.
    Stops cleanly, to be gone on with, after `stop_after` seconds.
    """
    run = _open_run(recipe, folder, device)
    packer = _Packer(run)
    validation = [packer.batch_of([packer.pack(group)]) for group in _held_out(run)]
    started = time.monotonic()
    # The thread that prepares batches takes one core's share, not all of them.
    with ThreadPoolExecutor(max_workers=1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for batch in _batches(run, packer, pool):
            progress = _step(run, batch, device)
            if _due(run.step, recipe.validate_every, recipe.steps):
                measured = _validate(run, validation, device)
                progress = Progress(**{**progress.__dict__, "validation_loss": measured})
            run.log.append(progress)
            report(progress)
            over = time.monotonic() - started > stop_after
            if over or _due(run.step, recipe.save_every, recipe.steps):
                _save(run)
            if over and run.step < recipe.steps:
                return False
    _finish(run)
    return True


def _open_run(recipe: Recipe, folder: Path, device: str) -> Run:
    """Create a run, or read it back from its folder when it was begun before."""
    from transformers import AutoProcessor

    torch.manual_seed(recipe.seed)
    source = load_source(recipe.data.source, recipe.data.options, recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    noted = folder / "recipe.json"
    if noted.exists():
        before = Recipe.model_validate_json(noted.read_text(encoding="utf-8"))
        if before.architecture != recipe.architecture or before.data != recipe.data:
            raise BadConfiguration(f"{folder} holds a run of another model or other data")
        processor = AutoProcessor.from_pretrained(folder / "model")
    else:
        processor = _new_processor(recipe, source)
        processor.save_pretrained(folder / "model")
        noted.write_text(recipe.model_dump_json(indent=2), encoding="utf-8")
    model = _new_model(recipe, processor, begun=(folder / "checkpoint.pt").exists())
    model.model.language_model.set_attn_implementation("shared_prefix")
    model.to(torch.device(device))  # type: ignore[arg-type]
    encoder = SentenceEncoder(recipe.sentence_encoder) if recipe.sentence_encoder else None
    lesson = SentenceLesson(model, encoder.width).to(device) if encoder else None
    learning = torch.nn.ModuleList([model, *([lesson] if lesson else [])])
    run = Run(recipe, folder, source, processor, model, _optimizer(learning, recipe), encoder, lesson)
    if run.checkpoint.exists():
        _restore(run, device)
    return run


def _new_processor(recipe: Recipe, source: DataSource) -> LlavaProcessor:
    from transformers import AutoProcessor

    if recipe.start_from:
        return AutoProcessor.from_pretrained(recipe.start_from)  # type: ignore[no-any-return]
    tokenizer = train_tokenizer(source.corpus(), recipe.architecture)
    return build_processor(tokenizer, recipe.architecture)


def _new_model(
    recipe: Recipe, processor: LlavaProcessor, *, begun: bool
) -> LlavaForConditionalGeneration:
    """The model of a recipe, with the weights it starts from unless the run has `begun`."""
    model = build_model(processor.tokenizer, recipe.architecture)
    if begun:
        return model
    if recipe.start_from:
        from transformers import LlavaForConditionalGeneration

        earlier = LlavaForConditionalGeneration.from_pretrained(recipe.start_from)
        model.load_state_dict(earlier.state_dict())
    elif recipe.word_vectors:
        from .word_vectors import start_from_word_vectors

        start_from_word_vectors(model, processor.tokenizer, recipe.word_vectors)
    return model


def _optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; weight decay on matrices only, as is usual."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)


class _Packer:
    """Renders, packs and batches the examples of a run."""

    def __init__(self, run: Run) -> None:
        self._renderer = ChatRenderer(run.processor)
        self._processor = run.processor
        self._encoder = run.encoder
        config = run.model.config
        self._image_tokens = [config.image_token_id] * config.image_seq_length

    def pack(self, examples: list[Example]) -> PackedGroup:
        return pack_group(
            examples,
            lambda example: self._renderer.training(
                example.conversation, lambda handle: self._image_tokens
            ),
            self._sentences,
        )

    def _sentences(self, example: Example, rendered: Rendered) -> list[tuple[int, str]]:
        if self._encoder is None:
            return []
        return sentence_ends(self._renderer, example.conversation, rendered)

    def batch_of(self, groups: list[PackedGroup]) -> Batch:
        return collate(groups, self._pixels_of, self._encoder and self._encoder.encode)

    def _pixels_of(self, images: list[Image]) -> torch.Tensor:
        processed = self._processor.image_processor(images, return_tensors="pt")
        return torch.as_tensor(processed["pixel_values"])


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
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.model.train()
    total, count = _loss(run, batch, device)
    loss = total / count
    run.optimizer.zero_grad(set_to_none=True)
    lesson = _lesson(run, batch, device)
    (loss + run.recipe.sentence_weight * lesson).backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.gradient_norm)
    run.optimizer.step()
    run.step += 1
    seconds = time.monotonic() - started
    return Progress(
        run.step, loss.item(), rate, batch.ids.numel(), seconds, lesson_loss=lesson.item()
    )


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


def _lesson(run: Run, batch: Batch, device: str) -> torch.Tensor:
    """How far the states of the last pass are from the sentence encoder's; zero without one."""
    if run.lesson is None or batch.vectors is None:
        return torch.zeros((), device=device)
    distance: torch.Tensor = run.lesson(
        torch.tensor(batch.places, device=device), batch.vectors.to(device)
    )
    return distance


@torch.no_grad()
def _validate(run: Run, batches: list[Batch], device: str) -> float:
    """Mean cross-entropy over the learned tokens of the held-out groups."""
    run.model.eval()
    sums = [_loss(run, batch, device) for batch in batches]
    return sum(total.item() for total, _ in sums) / sum(count for _, count in sums)


def _due(step: int, every: int, last: int) -> bool:
    return step % every == 0 or step == last


def _save(run: Run) -> None:
    """Write the state of the run; a kill in the middle leaves the one before whole."""
    state = {
        "step": run.step,
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "lesson": run.lesson.state_dict() if run.lesson else None,
    }
    fresh = run.checkpoint.with_suffix(".new")
    torch.save(state, fresh)
    fresh.replace(run.checkpoint)
    lines = [json.dumps(progress.__dict__) for progress in run.log]
    with (run.folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    run.log.clear()


def _restore(run: Run, device: str) -> None:
    state: dict[str, Any] = torch.load(run.checkpoint, map_location=device, weights_only=True)
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    if run.lesson:
        run.lesson.load_state_dict(state["lesson"])
    run.step = state["step"]
    log = run.folder / "log.jsonl"
    if log.exists():
        # A kill between writing the log and the checkpoint leaves lines that will come again.
        lines = log.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= run.step]
        log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _finish(run: Run) -> None:
    """Save the model for use: bfloat16 weights in safetensors, beside its processor."""
    folder = run.folder / "model"
    run.model.to(torch.bfloat16)  # type: ignore[arg-type]
    run.model.save_pretrained(folder)
    run.processor.save_pretrained(folder)
