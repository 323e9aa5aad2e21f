"""Reinforcement learning (GRPO): any image-text model, in an environment of skills.

What a step plays and samples is a function of the recipe, the weights and the step's number, and
a checkpoint holds what learns and the optimiser: a run that was stopped or killed goes on as if it
had not been.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ...skills.errors import BadConfiguration
from ...skills.skill import describe_validation
from ..finetuning.checkpoints import newest_checkpoint
from ..finetuning.run_log import drop_later_lines
from ..loading import load_model
from ..local import LocalLMM
from ..shipped import weights_of
from ..small_weights import LANGUAGE, rounded_weights
from .environment import Environment, load_environment
from .gains import Gain, gain
from .policy_trainer import PolicyTrainer
from .recipe import Reinforce
from .rollouts import SamplingLMM

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin, TrainingArguments
    from trl.trainer.grpo_config import GRPOConfig

__all__ = ["reinforce"]

Line = dict[str, float]


def reinforce(
    recipe: Reinforce,
    folder: Path,
    *,
    device: str = "cpu",
    environment: Environment | None = None,
    report: Callable[[Line], None] = lambda line: None,
    stop_after: float = math.inf,
) -> bool:
    """Run or go on with a recipe in `folder`; true when it is finished.

    The finished model is in `folder/model`, each step with its rewards in `log.jsonl`, and how
    the held-out tasks went before and after in `gains.json`. `environment` is used in the place
    of the recipe's. Raises `BadConfiguration`, and what the environment raises.
    """
    _note(recipe, folder)
    world = environment or load_environment(
        recipe.environment.name, recipe.environment.options, recipe.seed
    )
    if unknown := sorted(recipe.rewards.keys() - set(world.rewards)):
        raise BadConfiguration(
            f"rewards: the environment has no {unknown[0]!r}; it has {', '.join(world.rewards)}"
        )
    model, processor = load_model(weights_of(recipe.start_from), device=device, dtype="float32")
    with asyncio.Runner() as runner:
        try:
            return _run(recipe, folder, world, model, processor, runner, report, stop_after)
        finally:
            runner.run(world.aclose())


def _run(
    recipe: Reinforce,
    folder: Path,
    world: Environment,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    runner: asyncio.Runner,
    report: Callable[[Line], None],
    stop_after: float,
) -> bool:
    before = _measured(recipe, folder / "before.json", world, model, processor, runner)
    policy = SamplingLMM(
        model,
        processor,
        max_tokens=recipe.max_tokens,
        temperature=recipe.temperature,
        served=recipe.served,
    )
    trainer = PolicyTrainer(
        model,
        processor,
        _arguments(recipe, folder, str(model.device)),
        environment=world,
        policy=policy,
        tasks=recipe.steps * recipe.tasks_per_step,
        rewards=recipe.rewards,
        kl=recipe.kl,
        rounded=recipe.rounded,
        runner=runner,
    )
    for talker in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(talker)
    trainer.add_callback(_Log(folder, report, stop_after))
    checkpoint = newest_checkpoint(folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step < recipe.steps:
        return False
    model.save_pretrained(folder / "model")
    processor.save_pretrained(folder / "model")
    after = _measured(recipe, folder / "after.json", world, model, processor, runner)
    _compare(before, after, folder / "gains.json")
    return True


def _arguments(recipe: Reinforce, folder: Path, device: str) -> GRPOConfig:
    from trl.trainer.grpo_config import GRPOConfig

    rollouts = recipe.tasks_per_step * recipe.rollouts_per_task
    return GRPOConfig(
        output_dir=str(folder),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.rows,
        gradient_accumulation_steps=rollouts // recipe.rows,
        num_generations=recipe.rollouts_per_task,
        temperature=recipe.temperature,
        beta=0.0,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=recipe.warmup_steps,
        max_grad_norm=recipe.gradient_norm,
        weight_decay=0.0,
        shuffle_dataset=False,
        seed=recipe.seed,
        use_cpu=device == "cpu",
        bf16=recipe.precision == "bfloat16",
        activation_checkpointing=recipe.gradient_checkpointing,
        save_steps=recipe.save_every,
        save_total_limit=1,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
    )


def _note(recipe: Reinforce, folder: Path) -> None:
    """Keep the recipe with its run. Raises `BadConfiguration` when it was begun by another."""
    folder.mkdir(parents=True, exist_ok=True)
    noted = folder / "recipe.json"
    if noted.exists():
        try:
            begun = Reinforce.model_validate_json(noted.read_text(encoding="utf-8"))
        except ValidationError as error:
            told = describe_validation(error)
            raise BadConfiguration(f"{noted} is of another kind of run: {told}") from error
        if begun != recipe:
            raise BadConfiguration(f"the run in {folder} was begun with another recipe")
    else:
        _write(noted, recipe.model_dump_json(indent=2))


def _measured(
    recipe: Reinforce,
    path: Path,
    world: Environment,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    runner: asyncio.Runner,
) -> list[dict[str, float | None]]:
    """How the served model does on the held-out tasks, kept in a file."""
    if path.exists():
        kept: list[dict[str, float | None]] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    lmm = LocalLMM(model, processor, max_tokens=recipe.max_tokens)
    scores = []
    with _served_weights(recipe, model):
        for number in range(recipe.held_out):
            episode = runner.run(world.play(lmm, number, held_out=True))
            scores.append({name: episode.rewards[name] for name in world.rewards})
    _write(path, json.dumps(scores))
    return scores


def _write(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, whenever the run is killed."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _served_weights(recipe: Reinforce, model: PreTrainedModel) -> AbstractContextManager[None]:
    return rounded_weights(model, LANGUAGE) if recipe.rounded else nullcontext()


def _compare(
    before: list[dict[str, float | None]], after: list[dict[str, float | None]], path: Path
) -> None:
    """Write what changed, for each reward over the tasks to which it applied both times."""
    gains: dict[str, Gain] = {}
    for name in before[0] if before else ():
        pairs = [(old[name], new[name]) for old, new in zip(before, after, strict=True)]
        both = [(old, new) for old, new in pairs if old is not None and new is not None]
        if both:
            gains[name] = gain([old for old, _ in both], [new for _, new in both])
    told: dict[str, Any] = {name: asdict(one) for name, one in gains.items()}
    path.write_text(json.dumps(told, indent=2), encoding="utf-8")


class _Log(TrainerCallback):
    """Writes a line for every step, and stops a run in time."""

    def __init__(
        self, folder: Path, report: Callable[[Line], None], stop_after: float = math.inf
    ) -> None:
        self._path = folder / "log.jsonl"
        self._report = report
        self._stop_at = time.monotonic() + stop_after

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        drop_later_lines(self._path, state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if time.monotonic() > self._stop_at:
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Line | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "reward" not in logs:
            return
        line = {"step": float(state.global_step)}
        for name in ("reward", "reward_std", "loss", "grad_norm", "surprise", "kl"):
            if name in logs:
                line[name] = logs[name]
        line |= {name: value for name, value in logs.items() if name.endswith("/mean")}
        line["seconds"] = logs["step_time"]
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._report(line)
