"""transformers' trainer, told how this project's rows are learned from, saved and gone on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from ...skills.errors import BadConfiguration
from .checkpoints import load_learned, save_learned
from .freezing import Part, optimizer_groups
from .packed_rows import PackedRows

__all__ = ["RowTrainer"]

Inputs = dict[str, Any]


class RowTrainer(Trainer):
    """Learns from rows: one is one forward pass, and `labels` are at their places already.

    `held_out` are the rows that validation measures. The loss of a step is the mean over all its
    learned tokens, those of every row and process.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        args: TrainingArguments,
        rows: PackedRows,
        *,
        rates: Mapping[Part, float],
        held_out: PackedRows | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=rows,
            eval_dataset=held_out,
            data_collator=_only_one,
            callbacks=list(callbacks),
        )
        self._rates = dict(rates)
        self._held_out = held_out
        for talker in (PrinterCallback, ProgressCallback):
            self.remove_callback(talker)

    @property
    def learning(self) -> torch.nn.Module:
        """The model as it stands in memory, with its adapters."""
        if self.model is None:
            raise BadConfiguration("the trainer has no model")
        return self.model

    @property
    def is_sharded(self) -> bool:
        """Whether each process holds a part of the model alone."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with a learning rate for each part of the model."""
        if self.optimizer is None:
            learning = self.learning if model is None else model
            groups = optimizer_groups(learning, self._rates, self.args.weight_decay)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind(groups, **options)
        return self.optimizer

    @torch.no_grad()
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Mean cross-entropy over all learned tokens of the rows that are held out."""
        assert self._held_out is not None
        self.learning.eval()
        rows, processes = len(self._held_out), self.args.world_size
        sums = torch.zeros(2, dtype=torch.float64)
        # Where the model is sharded no process may go ahead: those without a row repeat the first.
        for first in range(0, rows, processes):
            number = first + self.args.process_index
            inputs: Inputs = self._prepare_inputs(self._held_out[number if number < rows else 0])
            count = len(inputs["shift_labels"])
            with self.accelerator.autocast():
                measured_loss = self.learning(**inputs).loss.item()
            if number < rows:
                sums += torch.tensor([measured_loss * count, count])
        total, learned = self.accelerator.reduce(sums.float().to(self.args.device)).tolist()
        measured = {"eval_loss": total / learned}
        self.log(measured)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, measured
        )
        return measured

    def floating_point_ops(self, inputs: Inputs) -> int:
        """Nothing is counted: transformers would go through all modules at every row."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """A checkpoint: what learns. Sharded models give their own `state_dict`, saved as usual."""
        if state_dict is not None:
            super()._save(output_dir, state_dict)
        elif self.args.should_save:
            save_learned(self.learning, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: torch.nn.Module | None = None
    ) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            load_learned(model or self.learning, Path(resume_from_checkpoint))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Sharded checkpoints are read leniently by transformers; a run may not go on from part."""
        if load_result.missing_keys or load_result.unexpected_keys:
            raise BadConfiguration(
                f"the checkpoint does not fit the model: it lacks {load_result.missing_keys[:3]} "
                f"and has {load_result.unexpected_keys[:3]}"
            )


def _only_one(rows: list[Inputs]) -> Inputs:
    """A row is a batch already."""
    (row,) = rows
    return row
