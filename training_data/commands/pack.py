"""Make a trained model small enough to ship."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("pack")
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def command(model: Path, folder: Path) -> None:
    """Write the LLaVA in MODEL to FOLDER with its language matrices in four bits.

    `--lmm FOLDER` loads it; other programs need MODEL itself.
    """
    from ...model.loading import load_model
    from ...model.small_weights import FILE, LANGUAGE, save_small

    if folder.resolve() == model.resolve():
        raise click.UsageError("FOLDER must be another one than MODEL, which is kept as it is")
    loaded, processor = load_model(str(model), device="cpu", dtype="float32")
    save_small(loaded, folder, LANGUAGE)
    processor.save_pretrained(folder)
    click.echo(f"{folder / FILE}: {(folder / FILE).stat().st_size / 1e6:.1f} MB")
