"""A training run on disk: what it began with, its newest checkpoint and its log."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from ...skills.errors import BadConfiguration
from ...skills.skill import describe_validation
from ..loading import load_model
from ..scratch import build_model, build_processor, train_tokenizer
from ..shipped import weights_of
from .alignment import align_vision
from .examples import DataSource, ShowsLooks, TeachesSkills, load_source
from .language_start import LanguageStart, load_language_start
from .optimizing import Optimizers
from .recipe import Recipe

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

__all__ = ["Progress", "Run", "finish_run", "open_run", "save_run"]


@dataclass(frozen=True)
class Progress:
    """One line of the run's log."""

    step: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float
    validation_loss: float | None = None


@dataclass
class Run:
    """A training run on disk: processor, newest checkpoint and log."""

    recipe: Recipe
    folder: Path
    source: DataSource
    processor: LlavaProcessor
    model: LlavaForConditionalGeneration
    optimizers: Optimizers
    step: int = 0
    log: list[Progress] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        """Where the state of the run is kept."""
        return self.folder / "checkpoint.pt"


def open_run(
    recipe: Recipe,
    folder: Path,
    device: str,
    aligned: Callable[[int], None] = lambda step: None,
) -> Run:
    """Create a run, or read it back from its folder when it was begun before.

    `aligned` hears of every step of stage 1.
    """
    from transformers import AutoProcessor

    torch.manual_seed(recipe.seed)
    source = load_source(recipe.data.source, recipe.data.options, recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    noted = folder / "recipe.json"
    if noted.exists():
        _check_same(recipe, noted)
    begun = (folder / "checkpoint.pt").exists()
    start = None
    if recipe.language_model and not begun:
        start = load_language_start(recipe.language_model)
    earlier = _load_earlier(recipe.start_from) if recipe.start_from else None
    if noted.exists():
        processor = AutoProcessor.from_pretrained(folder / "model")
    else:
        processor = earlier[1] if earlier else _new_processor(recipe, source, start)
    model = earlier[0] if earlier else _new_model(recipe, processor, start)
    if recipe.alignment_steps and not begun:
        seen = _align(recipe, source, model, processor, aligned)
        (folder / "alignment.json").write_text(json.dumps(seen, indent=2), encoding="utf-8")
    if not noted.exists():
        processor.save_pretrained(folder / "model")
        noted.write_text(recipe.model_dump_json(indent=2), encoding="utf-8")
    model.model.language_model.set_attn_implementation("shared_prefix")
    model.to(torch.device(device))  # type: ignore[arg-type]
    optimizers = Optimizers(model, weight_decay=recipe.weight_decay)
    run = Run(recipe, folder, source, processor, model, optimizers)
    if run.checkpoint.exists():
        _restore(run, device)
    return run


def _check_same(recipe: Recipe, noted: Path) -> None:
    """Raise `BadConfiguration` when a run was begun by a recipe that makes another model."""
    try:
        before = Recipe.model_validate_json(noted.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise BadConfiguration(
            f"{noted} is of another version ({describe_validation(error)}); choose another folder"
        ) from error
    for name in ("architecture", "data", "start_from", "language_model", "language_layers"):
        if getattr(before, name) != getattr(recipe, name):
            raise BadConfiguration(
                f"{noted.parent} holds a run of another model or other data: its {name} differs"
            )


def _load_earlier(name: str) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The model that a run starts from. Raises `BadConfiguration` when it is none to go on with."""
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    model, processor = load_model(weights_of(name), device="cpu", dtype="float32")
    if isinstance(model, LlavaForConditionalGeneration) and isinstance(processor, LlavaProcessor):
        return model, processor
    raise BadConfiguration(f"start_from: {name!r} is a {type(model).__name__}, not a LLaVA")


def _new_processor(
    recipe: Recipe, source: DataSource, start: LanguageStart | None
) -> LlavaProcessor:
    if start:
        tokenizer = start.shortened_tokenizer(source.corpus(), recipe.architecture)
    else:
        tokenizer = train_tokenizer(source.corpus(), recipe.architecture)
    return build_processor(tokenizer, recipe.architecture)


def _new_model(
    recipe: Recipe, processor: LlavaProcessor, start: LanguageStart | None
) -> LlavaForConditionalGeneration:
    """A model of the recipe's sizes, with the weights of the language model that it starts from."""
    model = build_model(processor.tokenizer, recipe.architecture)
    if start:
        start.place_in(model, processor.tokenizer, recipe.language_layers)
    return model


def _align(
    recipe: Recipe,
    source: DataSource,
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    progress: Callable[[int], None],
) -> dict[str, float]:
    """Stage 1: the share of right answers about new images that it comes to, by question."""
    if not isinstance(source, ShowsLooks):
        raise BadConfiguration(
            f"data source {recipe.data.source!r} has no method `looks` that shows images to align "
            "vision on; set alignment_steps to 0"
        )
    count = recipe.alignment_images
    looks, held_out = source.looks(count, "align"), source.looks(count // 10, "align held out")
    return align_vision(
        model,
        processor,
        looks,
        held_out,
        steps=recipe.alignment_steps,
        seed=recipe.seed,
        progress=progress,
    )


def save_run(run: Run) -> None:
    """Write the state of the run; a kill in the middle leaves the one before whole."""
    state = {
        "step": run.step,
        "model": run.model.state_dict(),
        "optimizers": run.optimizers.state_dict(),
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
    run.optimizers.load_state_dict(state["optimizers"])
    run.step = state["step"]
    log = run.folder / "log.jsonl"
    if log.exists():
        # A kill between writing the log and the checkpoint leaves lines that will come again.
        lines = log.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= run.step]
        log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def finish_run(run: Run) -> None:
    """Save the model for use, beside its processor: weights in bfloat16 and safetensors.

    What was trained to be rounded is kept exactly, in float32.
    """
    folder = run.folder / "model"
    if run.recipe.round_from is None:
        run.model.to(torch.bfloat16)  # type: ignore[arg-type]
    if isinstance(run.source, TeachesSkills):
        run.model.config.familiar_skills = sorted(run.source.skills)
    run.model.save_pretrained(folder)
    run.processor.save_pretrained(folder)
