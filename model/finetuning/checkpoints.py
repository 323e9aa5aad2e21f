"""Checkpoints of a fine-tuning run, and the finished model.

A checkpoint holds what learns and nothing else of the model, under the names that it has in
memory: the rest is read from where the run started.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...skills.errors import BadConfiguration
from .freezing import learned_parameters

if TYPE_CHECKING:
    from transformers import ProcessorMixin

__all__ = ["copy_learned", "load_learned", "newest_checkpoint", "save_finished", "save_learned"]

_LEARNED = "learned.safetensors"
_STEP = re.compile(r"checkpoint-(\d+)")


def save_learned(model: torch.nn.Module, folder: Path) -> None:
    """Write the parameters that learn into the folder of a checkpoint."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    learned = {name: one.detach().cpu().contiguous() for name, one in learned_parameters(model)}
    save_file(learned, folder / _LEARNED)


@torch.no_grad()
def load_learned(model: torch.nn.Module, folder: Path) -> None:
    """Put back what `save_learned` wrote.

    Raises `BadConfiguration` when these are not exactly the parameters that learn in `model`.
    """
    from safetensors.torch import load_file

    stored = load_file(folder / _LEARNED)
    learned = dict(learned_parameters(model))
    if odd := sorted(stored.keys() ^ learned.keys()):
        raise BadConfiguration(
            f"{folder} is of a run in which other parameters learn ({len(odd)} differ, {odd[0]} is "
            "one); choose another folder for this run"
        )
    for name, parameter in learned.items():
        if parameter.shape != stored[name].shape:
            raise BadConfiguration(f"{folder}: {name} has another shape than in this model")
        parameter.copy_(stored[name])


def newest_checkpoint(folder: Path, processes: int = 1) -> Path | None:
    """The last checkpoint that was written to its end; a kill may leave one that was not."""
    found = {
        int(match[1]): path
        for path in folder.glob("checkpoint-*")
        if (match := _STEP.fullmatch(path.name))
    }
    whole = (found[step] for step in sorted(found, reverse=True) if _whole(found[step], processes))
    return next(whole, None)


def _whole(checkpoint: Path, processes: int) -> bool:
    """The trainer writes its state last; every process writes its random numbers."""
    ranks = [""] if processes == 1 else [f"_{rank}" for rank in range(processes)]
    if not all((checkpoint / f"rng_state{rank}.pth").is_file() for rank in ranks):
        return False
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def save_finished(
    model: torch.nn.Module,
    processor: ProcessorMixin,
    folder: Path,
    *,
    numbers: torch.dtype,
    fresh: Callable[[], torch.nn.Module],
    adapter: Path | None = None,
) -> None:
    """Write the model for use, with processor, chat template and generation settings beside it.

    Adapters are merged; where the weights below them are quantised, into `fresh()`, the same model
    with adapters on exact weights. `adapter` is where they are kept as well.
    """
    from peft import PeftModel

    whole: Any = model
    if isinstance(model, PeftModel):
        if adapter:
            model.save_pretrained(str(adapter))
        if getattr(model, "is_loaded_in_4bit", False):
            whole = fresh()
            copy_learned(dict(learned_parameters(model)), whole)
        whole = whole.merge_and_unload()
    whole.to(numbers).save_pretrained(folder)
    processor.save_pretrained(folder)


@torch.no_grad()
def copy_learned(learned: Mapping[str, torch.Tensor], target: torch.nn.Module) -> None:
    """Give the parameters that learn in `target` these values, by name."""
    for name, parameter in learned_parameters(target):
        parameter.copy_(learned[name])
