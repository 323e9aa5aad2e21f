"""Make a trained model small enough to ship."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("pack")
@click.argument(
    "models",
    metavar="MODEL...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def command(models: tuple[Path, ...], folder: Path) -> None:
    """Write the LLaVA in MODEL to FOLDER with its language matrices in four bits.

    Of several MODELs, trained one from another, it is the mean of their weights; all else is taken
    from the first. `--lmm FOLDER` loads it; other programs need MODEL itself.
    """
    from ...model.averaging import average_into
    from ...model.loading import load_model
    from ...model.small_weights import FILE, LANGUAGE, save_small

    if folder.resolve() in {model.resolve() for model in models}:
        raise click.UsageError("FOLDER must be another one than MODEL, which is kept as it is")
    first, *others = map(str, models)
    loaded, processor = load_model(first, device="cpu", dtype="float32")
    average_into(loaded, (load_model(other, device="cpu", dtype="float32")[0] for other in others))
    save_small(loaded, folder, LANGUAGE)
    processor.save_pretrained(folder)
    click.echo(f"{folder / FILE}: {(folder / FILE).stat().st_size / 1e6:.1f} MB")
