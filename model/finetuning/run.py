"""Fine-tuning: any image-text model of transformers, on files of records, with our own masks.

Which records make up a step is a function of the recipe and the step's number, and a checkpoint
holds what learns, the optimiser and the random numbers: a run that was killed goes on as if it had
not been.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...skills.errors import BadConfiguration
from ..training.runs import Progress
from .checkpoints import copy_learned, newest_checkpoint, save_finished
from .loss_guard import check_loss, set_attention
from .mask_gate import Gate
from .packed_attention import PACKED
from .packed_rows import PackedRows, RowPacker
from .row_plan import RowPlan, consecutive_rows
from .row_trainer import RowTrainer
from .rows import RowMaker
from .run_log import RunLog
from .sharding import (
    blank_row,
    fsdp_settings,
    gathered,
    is_sharded,
    opened_whole,
    prepare_shards,
)
from .start import prepare_model, start_model, start_processor
from .usable import Usable, hold_out, open_records

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin, TrainingArguments

    from .recipe import FineTune

__all__ = ["Watch", "fine_tune"]

_COMPARED = 4
"""Records whose loss is computed both packed and one by one before a run."""

_FREE = {
    "name",
    "records",
    "workers",
    "save_every",
    "keep_checkpoints",
    "validate_every",
    "keep_adapter",
}
"""Settings that may change between two sittings of one run."""


@dataclass(frozen=True)
class Watch:
    """Who hears of a run: of records checked and what came of it, of how many steps are planned
    and of each of them, and of remarks.
    """

    checked: Callable[[int, int], None] = lambda done, of: None
    gate: Callable[[Gate], None] = lambda gate: None
    planned: Callable[[int], None] = lambda steps: None
    step: Callable[[Progress], None] = lambda progress: None
    say: Callable[[str], None] = lambda text: None


def fine_tune(
    recipe: FineTune,
    folder: Path,
    *,
    device: str = "cpu",
    watch: Watch | None = None,
    stop_after: float = math.inf,
) -> bool:
    """Run or go on with a recipe in `folder`; true when it is finished.

    The finished model is in `folder/model`. Stops cleanly, to be gone on with, after `stop_after`
    seconds. Under `torchrun` or `accelerate launch` every process calls it alike. Raises
    `BadConfiguration` and `BadInput` for what cannot be run.
    """
    _require_packages()
    arguments = _arguments(recipe, folder, device)
    main = arguments.process_index == 0
    watch = watch if watch and main else Watch()
    processor = start_processor(recipe)
    with arguments.main_process_first(local=False):
        records, held_out = _records(recipe, processor, folder, watch)
    with opened_whole(arguments):
        model = start_model(recipe, arguments.device)
    packer = RowPacker(model)
    packed = _packs(recipe, model, packer, records, watch)
    if packed:
        set_attention(model, PACKED)
    layout = packer.pack if packed else packer.separate
    plan = _plan(recipe, records, packed, arguments.world_size)
    arguments.max_steps = plan.steps
    arguments.gradient_accumulation_steps = plan.rows_per_step // arguments.world_size
    watch.planned(plan.steps)
    watch.say(
        f"{plan.steps:,} steps of {recipe.records_per_step} records in {plan.rows_per_step} rows"
    )
    measured = consecutive_rows(held_out.lengths, recipe.tokens_per_row if packed else None)
    blank = blank_row(records, held_out) if is_sharded(recipe) else None
    trainer = RowTrainer(
        prepare_model(model, recipe),
        arguments,
        PackedRows(plan, records.row, layout, blank),
        rates=recipe.learning_rates,
        held_out=PackedRows(measured, held_out.row, layout, blank),
        callbacks=[RunLog(folder, plan.tokens, watch.step, stop_after=stop_after, main=main)],
    )
    prepare_shards(trainer, recipe)
    begun = newest_checkpoint(folder / "checkpoints", arguments.world_size)
    trainer.train(resume_from_checkpoint=str(begun) if begun else None)
    if trainer.state.global_step < plan.steps:
        return False
    _finish(recipe, trainer, processor, folder)
    return True


def _require_packages() -> None:
    missing = [name for name in ("accelerate", "peft", "tensorboard") if find_spec(name) is None]
    if missing:
        raise BadConfiguration(
            f"fine-tuning needs {', '.join(missing)}: pip install 'llava-plus[finetune]'"
        )


def _arguments(recipe: FineTune, folder: Path, device: str) -> TrainingArguments:
    """The trainer's settings, but for steps and rows, which depend on the records."""
    from transformers import TrainingArguments

    if device not in ("cpu", "cuda"):
        raise BadConfiguration(
            f"device {device!r}: fine-tuning runs on cpu or cuda; CUDA_VISIBLE_DEVICES chooses GPUs"
        )
    constant = recipe.schedule == "constant"
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=1,
        per_device_train_batch_size=1,
        learning_rate=max(recipe.learning_rates.values()),
        lr_scheduler_type="constant_with_warmup" if constant else recipe.schedule,
        warmup_steps=recipe.warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.gradient_norm,
        **fsdp_settings(recipe),
        bf16=recipe.precision == "bfloat16",
        seed=recipe.seed,
        train_sampling_strategy="sequential",
        dataloader_num_workers=recipe.workers,
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=recipe.save_every,
        save_total_limit=recipe.keep_checkpoints,
        eval_strategy="steps" if recipe.validation else "no",
        eval_steps=recipe.validate_every,
        report_to=[],
        disable_tqdm=True,
        use_cpu=device == "cpu",
        ddp_backend="gloo" if device == "cpu" and "RANK" in os.environ else None,
        # The other processes wait until the gate is through.
        ddp_timeout=6 * 3600,
        # A row without images leaves the vision tower of its process without a gradient.
        ddp_find_unused_parameters=True,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # more in one process would be DataParallel
    return arguments


def _records(
    recipe: FineTune, processor: ProcessorMixin, folder: Path, watch: Watch
) -> tuple[Usable, Usable]:
    """The records to learn from and those to measure on, all through the gate."""
    maker = RowMaker(
        processor, longest=recipe.longest, learn=recipe.learn, tool_images=recipe.tool_images
    )

    def read(paths: Sequence[Path], folder: Path) -> Usable:
        return open_records(paths, recipe, maker, folder, progress=watch.checked, told=watch.gate)

    records = read(recipe.records, folder)
    content = {"content": records.files.content_hash}
    if not isinstance(recipe.validation, Path):
        _note(recipe, folder, content)
        if recipe.validation:
            return hold_out(records, recipe.validation, recipe.seed)
        return records, records.only([])
    held_out = read([recipe.validation], folder / "validation")
    content[f"content of {recipe.validation}"] = held_out.files.content_hash
    _note(recipe, folder, content)
    return records, held_out


def _note(recipe: FineTune, folder: Path, content: Mapping[str, str]) -> None:
    """Write down what is run. Raises `BadConfiguration` when the folder's run is another one."""
    path = folder / "recipe.json"
    noted = {**recipe.model_dump(mode="json"), **content}
    if path.exists():
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        odd = [
            name
            for name in before.keys() | noted.keys()
            if name not in _FREE and before.get(name) != noted.get(name)
        ]
        if odd:
            raise BadConfiguration(
                f"{folder} holds a run of another recipe or other records "
                f"({', '.join(sorted(odd))}): go on with those that {path.name} there names, "
                "or choose another folder"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(noted, indent=2), encoding="utf-8")


def _packs(
    recipe: FineTune, model: PreTrainedModel, packer: RowPacker, records: Usable, watch: Watch
) -> bool:
    """Whether rows hold several records, which has to change nothing in the loss."""
    rows = [records.row(place) for place in range(min(_COMPARED, len(records)))]
    problem = check_loss(model, packer, rows)
    if recipe.packing == "never":
        return False
    if problem and recipe.packing == "always":
        raise BadConfiguration(f"packing: {type(model).__name__} cannot be packed: {problem}")
    if problem:
        watch.say(f"every record is a row of its own: {problem}")
    return not problem


def _plan(recipe: FineTune, records: Usable, packed: bool, processes: int) -> RowPlan:
    planned = round(recipe.epochs * len(records) / recipe.records_per_step)
    return RowPlan(
        records.lengths,
        records_per_step=recipe.records_per_step,
        steps=recipe.steps or max(1, planned),
        tokens_per_row=recipe.tokens_per_row if packed else None,
        seed=recipe.seed,
        processes=processes,
    )


def _finish(recipe: FineTune, trainer: RowTrainer, processor: ProcessorMixin, folder: Path) -> None:
    """Save the model for use; all processes take part where it is sharded."""

    def fresh() -> torch.nn.Module:
        with opened_whole(trainer.args):
            return prepare_model(start_model(recipe, torch.device("cpu"), exact=True), recipe)

    model = trainer.learning
    learned = gathered(trainer) if trainer.is_sharded else {}
    if trainer.is_world_process_zero():
        if trainer.is_sharded:
            model = fresh()
            copy_learned(learned, model)
        save_finished(
            model,
            processor,
            folder / "model",
            numbers=getattr(torch, recipe.precision),
            fresh=fresh,
            adapter=folder / "adapter" if recipe.keep_adapter else None,
        )
    trainer.accelerator.wait_for_everyone()
