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
@click.option(
    "--networks",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="How many are taught, with seeds that count on from SEED; their mean is the planner.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default all cores.")
def command(
    out: Path, encoder: str | None, epochs: int, networks: int, seed: int, threads: int | None
) -> None:
    """Train the planner on the request bank, in minutes.

    ENCODER is a folder, such as `small` of `train-shortlist`: the two belong together.
    """
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    from ...model.sentences import SentenceEncoder
    from ...model.shortlist import FOLDER
    from ...model.training.planner import train_planner
    from ..catalogue import catalogue
    from ..planned import Lessons

    if threads:
        torch.set_num_threads(threads)
    encoding = SentenceEncoder(encoder or str(FOLDER))
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns) as bar:
        for one in range(seed, seed + networks):
            task = bar.add_task("training", total=None, loss=float("nan"))

            def report(step: int, steps: int, loss: float, task: TaskID = task) -> None:
                bar.update(task, completed=step, total=steps, loss=loss)

            network = train_planner(
                encoding,
                Lessons(seed=one).draw(),
                sorted(catalogue()),
                epochs=epochs,
                seed=one,
                report=report,
            )
            network.save(out / f"planner-{one}.safetensors")
    click.echo(f"planner: {out}")
