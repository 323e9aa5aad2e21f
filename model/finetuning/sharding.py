"""Training of one model that several processes hold between them.

It is parted by torch's FSDP (Zhao et al. 2023) or DeepSpeed's ZeRO (Rajbhandari et al. 2020). The
processes run layer by layer together. So each of them has to go through every layer for every row,
those for images too, or the others wait for it for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from ...skills.errors import BadConfiguration
from .freezing import learned_parameters
from .rows import Row

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from .recipe import FineTune
    from .row_trainer import RowTrainer
    from .usable import Usable

__all__ = [
    "WholeGradients",
    "blank_row",
    "fsdp_settings",
    "gathered",
    "is_sharded",
    "opened_whole",
    "prepare_shards",
]

_LAUNCHED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
"""What `accelerate launch` sets where it is asked for one of these."""

_NOT_THERE = "sharded: this takes several processes, each with a GPU: see torchrun in docs/train.md"


class WholeGradients(TrainerCallback):
    """Gives parameters that took no part in a step, such as LLaVA's last vision layer, zeros.

    A checkpoint in shards is only read where the optimizer has a state for all that learns. What
    takes no part decays as the rest does, where there is weight decay.
    """

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called behind the clipping of gradients."""
        for _, parameter in learned_parameters(kwargs["model"]):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


def is_sharded(recipe: FineTune) -> bool:
    """Whether the recipe or `accelerate launch` asks for a model in shards."""
    return recipe.sharded or any(os.environ.get(name) == "true" for name in _LAUNCHED)


def fsdp_settings(recipe: FineTune) -> dict[str, Any]:
    """The trainer's arguments by which a recipe gets what it says of shards and of memory.

    Raises `BadConfiguration` in a process that is the only one.
    """
    if not recipe.sharded:
        return {
            "activation_checkpointing": recipe.gradient_checkpointing,
            "activation_checkpointing_kwargs": {"use_reentrant": False},
        }
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        raise BadConfiguration(_NOT_THERE)
    return {
        "fsdp": True,
        "fsdp_config": {
            "state_dict_type": "SHARDED_STATE_DICT",
            "activation_checkpointing": recipe.gradient_checkpointing,
        },
    }


@contextmanager
def opened_whole(arguments: TrainingArguments) -> Iterator[None]:
    """Have transformers open a model as it is where DeepSpeed is to part it.

    Its loss is looked at before there is a trainer, which parts it then.
    """
    plugin = arguments.deepspeed_plugin
    if plugin is None:
        yield
        return
    from transformers.integrations.deepspeed import (
        set_hf_deepspeed_config,
        unset_hf_deepspeed_config,
    )

    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(plugin.dschf)


def prepare_shards(trainer: RowTrainer, recipe: FineTune) -> None:
    """Make a trainer ready for shards, where it is to have such: one layer is gathered at a time.

    Raises `BadConfiguration` where nothing is sharded although the recipe says so.
    """
    if recipe.sharded and not trainer.is_fsdp_enabled:
        raise BadConfiguration(_NOT_THERE)
    if trainer.is_sharded:
        trainer.add_callback(WholeGradients())
    if trainer.is_deepspeed_enabled:
        # Else a run would end without weights, and say so only then.
        zero = trainer.accelerator.state.deepspeed_plugin.deepspeed_config["zero_optimization"]
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.transformer_cls_names_to_wrap is None:
        # Models name the layers of all that they are built of; accelerate looks for every one.
        there = {type(module).__name__ for module in trainer.learning.modules()}
        named = set(getattr(trainer.learning, "_no_split_modules", None) or ())
        plugin.transformer_cls_names_to_wrap = sorted(named & there)


def blank_row(*sources: Usable) -> Row | None:
    """A row with an image of which nothing is learned, for company where a row has none.

    None where no record has an image.
    """
    found = next(chain.from_iterable(source.rows_with_images() for source in sources), None)
    return found and _unlearned(found)


def gathered(trainer: RowTrainer) -> dict[str, torch.Tensor]:
    """The weights whole, by name: on the main process alone, though all have to take part."""
    state: dict[str, torch.Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return state


def _unlearned(row: Row) -> Row:
    stop = row.images[-1].stop
    types = row.token_types and row.token_types[:stop]
    return replace(row, ids=row.ids[:stop], learned=[False] * stop, token_types=types)
