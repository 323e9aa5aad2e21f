"""Teach the planner which skill a request wants next."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("train-planner")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/planner"),
    show_default=True,
    help="Folder for the planner.",
)
@click.option("--encoder", help="Whose words it reads; by default the one that ships.")
@click.option("--epochs", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default all cores.")
def command(out: Path, encoder: str | None, epochs: int, seed: int, threads: int | None) -> None:
    """Train the planner on the request bank, in minutes.

    ENCODER is a folder, such as `small` of `train-shortlist`: the two belong together.
    """
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ...model.sentences import SentenceEncoder
    from ...model.shortlist import FOLDER
    from ...model.training.planner import train_planner
    from ..catalogue import catalogue
    from ..planned import Lessons

    if threads:
        torch.set_num_threads(threads)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=None, loss=float("nan"))
        network = train_planner(
            SentenceEncoder(encoder or str(FOLDER)),
            Lessons(seed=seed).draw(),
            sorted(catalogue()),
            epochs=epochs,
            seed=seed,
            report=lambda step, steps, loss: bar.update(
                task, completed=step, total=steps, loss=loss
            ),
        )
    network.save(out)
    click.echo(f"planner: {out}")
