"""What a fine-tuning run tells while it goes: log lines, TensorBoard, and when to stop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ...skills.errors import BadConfiguration
from ..training.runs import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["RunLog", "drop_later_lines"]


class RunLog(TrainerCallback):
    """Writes `log.jsonl` and TensorBoard events of every step, and stops a run in time.

    `tokens` tells how many a step has. With `main=False` (all processes but one) nothing is
    written. Raises `BadConfiguration` when the loss is no number any more.
    """

    def __init__(
        self,
        folder: Path,
        tokens: Callable[[int], int],
        report: Callable[[Progress], None],
        *,
        stop_after: float = math.inf,
        main: bool = True,
    ) -> None:
        self._folder = folder
        self._tokens = tokens
        self._report = report
        self._stop_at = time.monotonic() + stop_after
        self._main = main
        self._began = 0.0
        self._pending: Progress | None = None
        self._norm: float | None = None
        self._events: SummaryWriter | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._began = time.monotonic()
        if not self._main:
            return
        from torch.utils.tensorboard import SummaryWriter

        drop_later_lines(self._folder / "log.jsonl", state.global_step)
        folder = str(self._folder / "tensorboard")
        # Events of steps that a kill took back are dropped by TensorBoard.
        self._events = SummaryWriter(folder, purge_step=state.global_step + 1)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._stop_at < math.inf and _agreed(time.monotonic() > self._stop_at, args.device):
            control.should_save = control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise BadConfiguration(
                f"the loss of step {state.global_step} is {logs['loss']}: lower learning_rates, or "
                "compute in float32 (precision)"
            )
        now = time.monotonic()
        seconds, self._began = now - self._began, now
        tokens = self._tokens(state.global_step - 1)
        self._pending = Progress(
            state.global_step, logs["loss"], logs["learning_rate"], tokens, seconds
        )
        self._norm = logs.get("grad_norm")
        if not control.should_evaluate:
            self._tell()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if self._pending and metrics:
            measured = metrics["eval_loss"]
            self._pending = Progress(**{**self._pending.__dict__, "validation_loss": measured})
            self._tell()
        self._began = time.monotonic()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._events:
            self._events.close()

    def _tell(self) -> None:
        line, self._pending = self._pending, None
        if line is None or not self._main:
            return
        with (self._folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line.__dict__) + "\n")
        if self._events:
            shown = {
                "loss": line.loss,
                "learning_rate": line.learning_rate,
                "tokens_per_second": line.tokens / line.seconds,
                "gradient_norm": self._norm,
                "validation_loss": line.validation_loss,
            }
            for name, value in shown.items():
                if value is not None:
                    self._events.add_scalar(name, value, line.step)
        self._report(line)


def drop_later_lines(log: Path, step: int) -> None:
    """Drop lines of steps after the checkpoint, which will come again."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step(line) <= step]
        log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _agreed(over: bool, device: torch.device) -> bool:
    """Whether time is over for any process; they have to stop at the same step."""
    if not torch.distributed.is_initialized():
        return over
    flag = torch.tensor(float(over), device=device)
    torch.distributed.all_reduce(flag)
    return bool(flag)


def _step(line: str) -> float:
    """The step of a log line; a line that a kill cut off belongs to none that is kept."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf
