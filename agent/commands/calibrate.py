"""`llava-plus skills calibrate`: the threshold of the skill `tag` that fits a person's pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...skills.backends.calibration import Counts, Scored, calibrated
from ...skills.backends.zero_shot import ZeroShotTagger
from ...skills.errors import BadConfiguration
from ...skills.images import read_file, read_image
from ...skills.settings import create_backend
from ...skills.wording import joined
from ..picture_list import listed_pictures
from ..session import chosen_device

if TYPE_CHECKING:
    from ...skills.backends.calibration import Calibration

__all__ = ["command"]

Labelled = tuple[Path, tuple[str, ...]]


@click.command("calibrate")
@click.argument("labels", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or auto.")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw precision and recall over the threshold (needs matplotlib).",
)
def command(labels: Path, device: str, plot: Path | None) -> None:
    """Find the threshold of the skill `tag` on pictures whose tags are known.

    LABELS has a JSON object a line: {"image": PATH, "tags": [TAG, ...]}, with paths from its own
    folder. Every tag that any line has counts as not fitting where a line lacks it; tags that no
    line has are left out of the count. The threshold with the highest F1 is told as the lines to
    put into llava-plus.toml; `held out` is what it does on pictures that it was not chosen on.
    """
    pictures = list(listed_pictures(labels, _labelled, '{"image": PATH, "tags": [TAG, ...]}'))
    tagger = create_backend("tag")
    if not isinstance(tagger, ZeroShotTagger):
        raise BadConfiguration(f"[skills.tag] is served by {type(tagger).__name__}: no threshold")
    tagger.load(chosen_device(device))
    known = _known_tags(pictures, tagger)
    found = calibrated(list(_scored(pictures, known, tagger)))
    click.echo(f"{len(pictures)} pictures, {len(known)} tags")
    click.echo(f"chosen    {_told(found.chosen)}")
    click.echo(f"held out  {_told(found.held_out)}")
    click.echo(f"\n[skills.tag]\nthreshold = {found.threshold}")
    if plot:
        _draw(found, plot)


def _labelled(path: Path, entry: dict[str, object]) -> Labelled:
    tags = entry["tags"]
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise TypeError("tags must be a list of texts")
    return path, tuple(tag.strip().lower() for tag in tags)


def _known_tags(pictures: Sequence[Labelled], tagger: ZeroShotTagger) -> list[int]:
    """Where the tags that were given stand in the vocabulary; those that do not are told."""
    places = {name: place for place, name in enumerate(tagger.names)}
    given = dict.fromkeys(tag for _, tags in pictures for tag in tags)
    strange = [tag for tag in given if tag not in places]
    if strange:
        some = joined([repr(tag) for tag in strange[:5]])
        click.echo(f"not in the vocabulary: {len(strange)} of {len(given)}, {some}", err=True)
    return [places[tag] for tag in given if tag in places]


def _scored(
    pictures: Sequence[Labelled], known: list[int], tagger: ZeroShotTagger
) -> Iterator[Scored]:
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    names = [tagger.names[place] for place in known]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("pictures", total=len(pictures))
        rest = iter(pictures)
        while part := list(islice(rest, tagger.batch)):
            images = [read_image(read_file(path), name=path.name)[1] for path, _ in part]
            for (_, tags), scores in zip(part, tagger.scores_of(images), strict=True):
                told = np.full_like(scores, np.nan)
                best = tagger.best(scores)
                told[best] = scores[best]
                yield Scored(told[known], np.array([name in tags for name in names], dtype=bool))
            progress.advance(bar, len(part))


def _told(counts: Counts) -> str:
    return (
        f"precision {counts.precision:.1%}, recall {counts.recall:.1%}, F1 {counts.f1:.3f} "
        f"({counts.right} tags right, {counts.wrong} wrong, {counts.missed} missed)"
    )


def _draw(found: Calibration, path: Path) -> None:
    """Precision, recall and F1 over the threshold."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise click.ClickException(
            '--plot needs matplotlib: pip install "llava-plus[plot]"'
        ) from error
    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).add_subplot()
    thresholds = [threshold for threshold, _ in found.curve]
    for name in ("precision", "recall", "f1"):
        axes.plot(thresholds, [getattr(counts, name) for _, counts in found.curve], label=name)
    axes.axvline(found.threshold, color="grey", linestyle="--", label=f"{found.threshold:g}")
    axes.set(xscale="log", xlabel="threshold", ylim=(0, 1.02))
    axes.legend()
    figure.savefig(path, dpi=120)
