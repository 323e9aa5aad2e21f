"""Train a model by a recipe; goes on where it was stopped."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ...model.finetuning.recipe import FineTune
    from ...model.reinforcement.recipe import Reinforce
    from ...model.training.recipe import Recipe
    from ...model.training.runs import Progress as Line

__all__ = ["command"]


@click.command("train")
@click.argument("recipe")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run; by default runs/NAME.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default all cores.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Stop cleanly after this long.")
@click.option(
    "--records",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file of records, instead of the recipe's; may be given several times.",
)
@click.option("--start-from", metavar="MODEL", help="Folder or hub name, instead of the recipe's.")
def command(
    recipe: str,
    out: Path | None,
    device: str,
    threads: int | None,
    minutes: float | None,
    records: tuple[Path, ...],
    start_from: str | None,
) -> None:
    """Train by RECIPE: a YAML file, or the name of a shipped one.

    `embedded` and `plugin` make and go on with the LMM in the package; `llava-stage1`,
    `llava-stage2` and `llava-lora` fine-tune an image-text model of transformers on files of
    records. The run's folder keeps a checkpoint, a log and the loss curve; the same command goes
    on from the checkpoint. The finished model is in its folder `model`, for `llava-plus ask --lmm`.
    """
    import torch

    from ...model.finetuning.recipe import FineTune
    from ...model.training.curves import draw_curves
    from ...model.training.recipe import Recipe, load_recipe

    changed = {
        **({"records": [path.absolute() for path in records]} if records else {}),
        **({"start_from": start_from} if start_from else {}),
    }
    loaded = load_recipe(recipe, changed)
    folder = out or Path("runs") / loaded.name
    if threads:
        torch.set_num_threads(threads)
    seconds = math.inf if minutes is None else minutes * 60
    if isinstance(loaded, FineTune):
        done = _fine_tune(loaded, folder, device, seconds)
    elif isinstance(loaded, Recipe):
        done = _train_embedded(loaded, folder, device, seconds)
    else:
        done = _reinforce(loaded, folder, device, seconds)
    if not _speaks():
        return
    if isinstance(loaded, FineTune | Recipe):
        click.echo(f"loss curve: {draw_curves(folder)}")
    if done:
        click.echo(f"model: {folder / 'model'}")
    else:
        click.echo("stopped; the same command goes on")


def _train_embedded(recipe: Recipe, folder: Path, device: str, seconds: float) -> bool:
    """Train while a bar shows step, loss and speed."""
    from ...model.training.trainer import train as run

    with _bar() as bar:
        task = bar.add_task(recipe.name, total=recipe.steps)

        def show_alignment(step: int) -> None:
            total = recipe.alignment_steps
            bar.update(task, completed=step, total=total, description="aligning vision")
            if step == total:
                bar.update(task, completed=0, total=recipe.steps, description=recipe.name)

        return run(
            recipe,
            folder,
            device=device,
            report=_shown(bar, task, recipe.name),
            aligned=show_alignment,
            stop_after=seconds,
        )


def _fine_tune(recipe: FineTune, folder: Path, device: str, seconds: float) -> bool:
    """Fine-tune while a bar shows records checked, then step, loss and speed."""
    from ...model.finetuning.run import Watch, fine_tune

    with _bar(disable=not _speaks()) as bar:
        task = bar.add_task("checking records", total=None)

        def plan(steps: int) -> None:
            bar.update(task, completed=0, total=steps, description=recipe.name)

        watch = Watch(
            checked=lambda done, of: bar.update(task, completed=done, total=of),
            gate=lambda gate: bar.console.print(gate.table()),
            planned=plan,
            step=_shown(bar, task, recipe.name),
            say=bar.console.print,
        )
        return fine_tune(recipe, folder, device=device, watch=watch, stop_after=seconds)


def _reinforce(recipe: Reinforce, folder: Path, device: str, seconds: float) -> bool:
    """Play and learn while a bar shows the reward of each step."""
    from ...model.reinforcement.run import reinforce

    with _bar() as bar:
        task = bar.add_task(recipe.name, total=recipe.steps)

        def show(line: dict[str, float]) -> None:
            words = f"{recipe.name} reward {line['reward']:.3f}"
            bar.update(task, completed=line["step"], description=words)

        return reinforce(recipe, folder, device=device, report=show, stop_after=seconds)


def _speaks() -> bool:
    """Whether this is the process that tells how it goes; `torchrun` numbers several."""
    return os.environ.get("RANK", "0") == "0"


def _bar(*, disable: bool = False) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), disable=disable)


def _shown(bar: Progress, task: TaskID, name: str) -> Callable[[Line], None]:
    """What shows a step on a bar."""

    def show(line: Line) -> None:
        speed = line.tokens / line.seconds
        words = f"{name} loss {line.loss:.3f}, {speed:,.0f} tokens/s"
        bar.update(task, completed=line.step, description=words)
        if line.validation_loss is not None:
            bar.console.print(f"step {line.step}: validation loss {line.validation_loss:.4f}")

    return show
