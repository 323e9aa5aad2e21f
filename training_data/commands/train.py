"""Train a model by a recipe; goes on where it was stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ...model.training.recipe import Recipe

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
def command(
    recipe: str, out: Path | None, device: str, threads: int | None, minutes: float | None
) -> None:
    """Train by RECIPE: a YAML file, or the name of a shipped one (`embedded`).

    The run's folder keeps a checkpoint, a log and the loss curve; the same command goes on from
    the checkpoint. The finished model is in its folder `model`, for `llava-plus ask --lmm`.
    """
    import torch

    from ...model.training.curves import draw_curves
    from ...model.training.recipe import load_recipe

    loaded = load_recipe(recipe)
    folder = out or Path("runs") / loaded.name
    if threads:
        torch.set_num_threads(threads)
    done = _with_progress(loaded, folder, device, minutes)
    click.echo(f"loss curve: {draw_curves(folder)}")
    if done:
        click.echo(f"model: {folder / 'model'}")
    else:
        click.echo("stopped; the same command goes on")


def _with_progress(recipe: Recipe, folder: Path, device: str, minutes: float | None) -> bool:
    """Train while a bar shows step, loss and speed."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from ...model.training.runs import Progress as Line
    from ...model.training.trainer import train as run

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task(recipe.name, total=recipe.steps)

        def show(line: Line) -> None:
            speed = line.tokens / line.seconds
            words = f"{recipe.name} loss {line.loss:.3f}, {speed:,.0f} tokens/s"
            bar.update(task, completed=line.step, description=words)
            if line.validation_loss is not None:
                bar.console.print(f"step {line.step}: validation loss {line.validation_loss:.4f}")

        def show_alignment(step: int) -> None:
            total = recipe.alignment_steps
            bar.update(task, completed=step, total=total, description="aligning vision")
            if step == total:
                bar.update(task, completed=0, total=recipe.steps, description=recipe.name)

        seconds = math.inf if minutes is None else minutes * 60
        return run(
            recipe,
            folder,
            device=device,
            report=show,
            aligned=show_alignment,
            stop_after=seconds,
        )
