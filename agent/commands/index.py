"""`llava-plus index`: make a collection of pictures searchable for the skill `retrieve`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from ...skills.backends.embedding import Embedder
from ...skills.backends.picture_index import MODEL, Picture, PictureIndex, default_folder
from ...skills.errors import BadInput
from ..picture_list import listed_pictures

__all__ = ["command"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@click.command("index")
@click.argument("sources", nargs=-1, required=True, metavar="FOLDER_OR_FILE...")
@click.option("--out", type=click.Path(path_type=Path), help="The index's own folder.")
@click.option("--model", help=f"A CLIP or SigLIP model.  [default: {MODEL}]")
@click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
def command(sources: tuple[str, ...], out: Path | None, model: str | None, device: str) -> None:
    """Index the pictures in FOLDERs, and those that FILEs list with captions.

    A FILE has a JSON object a line: {"image": PATH, "caption": TEXT}, with paths from its own
    folder. What has not changed since the last time is not read again; what is gone is forgotten.
    """
    from rich.console import Console
    from rich.progress import Progress

    pictures = list(_pictures(sources))
    index = PictureIndex(out or default_folder(), model)
    embedder = Embedder(index.model)
    embedder.load(device)
    unread: list[BadInput] = []
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("pictures", total=len(pictures))
        added, gone = index.update(
            pictures,
            embedder,
            done=lambda count: progress.advance(bar, count),
            refused=unread.append,
        )
    for error in unread:
        click.echo(f"left out: {error}", err=True)
    kept = len(index.pictures) - added
    click.echo(
        f"{len(index.pictures)} pictures in {index.folder}: {added} new, {kept} as before, "
        f"{gone} changed or gone, {len(unread)} left out"
    )


def _pictures(sources: tuple[str, ...]) -> Iterator[Picture]:
    for name in sources:
        source = Path(name).resolve()
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() in _SUFFIXES and path.is_file():
                    yield Picture.at(path, source)
        elif source.is_file():
            listed = partial(_listed, source.parent)
            yield from listed_pictures(source, listed, '{"image": PATH, "caption": TEXT}')
        else:
            raise BadInput(f"{name} is neither a folder nor a file")


def _listed(folder: Path, path: Path, entry: dict[str, object]) -> Picture:
    caption = entry.get("caption", "")
    if not isinstance(caption, str):
        raise TypeError("caption must be a text")
    return Picture.at(path, folder, caption)
