"""Have a labeler write training records: instruction data, and tool use with real skills."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .files import check_folders

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..generation.items import Item
    from ..generation.labeler import Spent
    from ..generation.opening import Opening
    from ..generation.outcome import Refused
    from ..generation.recipe import Recipe, Stage
    from ..generation.run import Counts

__all__ = ["command"]

_KINDS = ("conversation", "detail", "reasoning", "tools")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def _names(ctx: Any, param: Any, value: str | None) -> tuple[str, ...]:
    names = (name.strip() for name in (value or "").split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _kinds(ctx: Any, param: Any, value: str) -> tuple[str, ...]:
    kinds = _names(ctx, param, value)
    if not kinds or set(kinds) - set(_KINDS):
        raise click.BadParameter(f"{value!r}: choose among {', '.join(_KINDS)}")
    return kinds


def _price(ctx: Any, param: Any, value: str | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        per_in, per_out = (float(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not IN,OUT, such as 0.15,0.6") from error
    return per_in, per_out


def _object(ctx: Any, param: Any, value: str) -> dict[str, Any]:
    try:
        told = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise click.BadParameter(f"{value!r} is no JSON object")
    return told


@click.command("generate")
@click.argument("items", required=False, type=_FILE)
@click.option("--captions", type=_FILE, help="COCO's captions_*.json, in place of ITEMS.")
@click.option("--instances", type=_FILE, help="COCO's instances_*.json; alone, or with --captions.")
@click.option(
    "--images",
    "roots",
    multiple=True,
    type=_FOLDER,
    help="Folder of images; may be repeated, the first that has one counts.  "
    "[default: the folder of ITEMS or of COCO's files]",
)
@click.option("--out", required=True, type=_NEW_FILE, help="The file of records, JSON lines.")
@click.option(
    "--labeler",
    required=True,
    metavar="URL#MODEL",
    help="The model that writes, behind an OpenAI-compatible server.",
)
@click.option(
    "--kinds",
    metavar="A,B",
    default="conversation,detail,reasoning",
    show_default=True,
    callback=_kinds,
    help="What each image is used for; `tools` is tool use.",
)
@click.option(
    "--skills",
    "families",
    metavar="A,B,A+B",
    callback=_names,
    help="For tools: the skills, and with + those that one request is to need together.  "
    "[default: each skill that lacks nothing]",
)
@click.option(
    "--per-image",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="For tools: so many of --skills for each image; they go in turn.",
)
@click.option("--thoughts", is_flag=True, help="For tools: with thoughts before calls and answers.")
@click.option("--prompts", type=_FOLDER, help="Prompts of your own, in place of those that ship.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many records and refusals.")
@click.option(
    "--tries",
    type=click.IntRange(1, 10),
    default=3,
    show_default=True,
    help="How often a reply that cannot be used is asked for in all.",
)
@click.option("--concurrency", type=click.IntRange(1, 1024), default=8, show_default=True)
@click.option("--per-minute", type=click.IntRange(min=1), help="At most so many requests.")
@click.option("--tokens-per-minute", type=click.IntRange(min=1), help="At most so many tokens.")
@click.option("--price", metavar="IN,OUT", callback=_price, help="Of a million tokens, for a sum.")
@click.option(
    "--request",
    metavar="JSON",
    default='{"temperature": 0.7, "max_tokens": 2048}',
    show_default=True,
    callback=_object,
    help="Fields of each request.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where replies and results are kept.  [default: OUT.labels]",
)
@click.option("--refused", type=_NEW_FILE, help="Where refusals go.  [default: OUT.refused.jsonl]")
@click.option("--workers", metavar="URL", multiple=True, help="A running worker, as in `ask`.")
@click.option("--device", default="cpu", show_default=True, help="Of the skills.")
@click.option(
    "--skill-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="Time for one call.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Ask from several processes: `local`, or a Ray cluster that is there, HOST:6379.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(as_json: bool, **options: Any) -> None:
    """Write records about images that a labeler knows from captions, boxes and tags.

    ITEMS is a file of JSON lines with `image`, and `captions`, `boxes` or `tags`. What the
    labeler said and what skills found is kept in the folder --cache as it comes: the same command
    goes on where it was stopped, asks nothing twice and writes the same records. The key is in
    LLAVA_PLUS_LABELER_API_KEY, where it is not that of the LMM. docs/generation.md has the rest.
    """
    run = _Run(**options)
    run.check()
    counts, spent = asyncio.run(run.play(quiet=as_json))
    if as_json:
        click.echo(json.dumps(_figures(counts, spent, run.price), indent=2))
        return
    for line in _lines(counts):
        click.echo(line)
    click.echo(_cost(spent, run.price))
    if counts.refused:
        click.echo(f"refused: {run.refusals}")


@dataclass(frozen=True)
class _Run:
    """What the person chose."""

    items: Path | None
    captions: Path | None
    instances: Path | None
    roots: tuple[Path, ...]
    out: Path
    labeler: str
    kinds: tuple[str, ...]
    families: tuple[str, ...]
    per_image: int
    thoughts: bool
    prompts: Path | None
    limit: int | None
    tries: int
    concurrency: int
    per_minute: int | None
    tokens_per_minute: int | None
    price: tuple[float, float] | None
    request: dict[str, Any]
    cache: Path | None
    refused: Path | None
    workers: tuple[str, ...]
    device: str
    skill_seconds: float
    ray: str | None

    @property
    def refusals(self) -> Path:
        return self.refused or self.out.with_name(f"{self.out.name}.refused.jsonl")

    @property
    def sources(self) -> tuple[Path, ...]:
        return tuple(filter(None, (self.items, self.captions, self.instances)))

    def check(self) -> None:
        from ..generation.opening import check_families

        if not self.sources or (self.items and len(self.sources) > 1):
            raise click.UsageError("give ITEMS, or COCO's files with --captions and --instances")
        check_folders(self.out, self.refusals)
        if (self.families or self.thoughts) and "tools" not in self.kinds:
            raise click.UsageError("--skills and --thoughts are for --kinds tools")
        check_families(self.families)

    async def play(self, *, quiet: bool) -> tuple[Counts, Spent]:
        """Make the records, and tell how far it has come."""
        from ..generation.opening import TOOLS, open_stage
        from ..generation.run import in_order, jobs_of, write_outcomes

        recipe, (items, count) = self._recipe(), self._items()
        async with open_stage(self._opening()) as stage:
            families = self._families(stage)
            kinds = [kind for kind in self.kinds if kind != TOOLS]
            jobs = islice(jobs_of(items, kinds, families, per_image=self.per_image), self.limit)
            most = count * (len(kinds) + min(self.per_image, len(families)))
            total, spent = min(most, self.limit or most), stage.labeler.spent
            made = in_order(jobs, recipe, stage, self.concurrency)
            with _progress(total, spent, self.price, quiet=quiet) as told:
                async with aclosing(made) as outcomes:
                    counts = await write_outcomes(outcomes, self.out, self.refusals, progress=told)
            return counts, spent

    def _recipe(self) -> Recipe:
        from ..generation.prompts import Prompts
        from ..generation.recipe import Recipe
        from ..records.image_files import ImageFiles

        roots = self.roots or tuple(dict.fromkeys(source.parent for source in self.sources))
        return Recipe(
            prompts=Prompts.load(self.prompts),
            images=ImageFiles(roots, self.out.parent),
            folder=self.out.parent,
            tries=self.tries,
            thoughts=self.thoughts,
        )

    def _items(self) -> tuple[Iterable[Item | Refused], int]:
        """The items, and how many there are."""
        from ...skills.errors import BadInput
        from ..generation.items import count_items, read_coco, read_items

        if self.items:
            return read_items(self.items), count_items(self.items)
        items = read_coco(self.captions, self.instances)
        if not items:
            named = " and ".join(source.name for source in self.sources)
            raise BadInput(f"{named}: no image has captions or boxes")
        return items, len(items)

    def _families(self, stage: Stage) -> tuple[str, ...]:
        """What tool use is asked for: the families that were named, or each skill on offer."""
        if stage.runs is None:
            return ()
        return self.families or tuple(spec.name for spec in stage.runs.skills)

    def _opening(self) -> Opening:
        from ..generation.on_ray import Cluster
        from ..generation.opening import Opening

        return Opening(
            labeler=self.labeler,
            folder=self.cache or self.out.with_name(f"{self.out.name}.labels"),
            request=self.request,
            pace=(self.per_minute, self.tokens_per_minute),
            tools="tools" in self.kinds,
            families=self.families,
            workers=self.workers,
            device=self.device,
            skill_seconds=self.skill_seconds,
            cluster=Cluster(self.ray, self.concurrency) if self.ray else None,
        )


@contextmanager
def _progress(
    total: int, spent: Spent, price: tuple[float, float] | None, *, quiet: bool
) -> Iterator[Callable[[Counts], None]]:
    """A bar of the records and refusals, with what has been spent."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task("", total=total)

        def told(counts: Counts) -> None:
            refused = f"{counts.refused.total():,} refused; {_cost(spent, price)}"
            bar.update(task, completed=counts.done, description=refused)

        yield told


def _figures(counts: Counts, spent: Spent, price: tuple[float, float] | None) -> dict[str, Any]:
    return {
        "kept": dict(counts.kept),
        "refused": dict(counts.refused),
        "requests": spent.asked,
        "known_before": spent.known,
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        **({"money": round(spent.money(price), 6)} if price else {}),
    }


def _lines(counts: Counts) -> Iterator[str]:
    kept, refused = counts.kept.total(), counts.refused.total()
    yield f"{kept + refused:,} jobs: {kept:,} records, {refused:,} refused"
    for kind, count in sorted(counts.kept.items()):
        yield f"  {kind}: {count:,}"
    for reason, count in counts.refused.most_common():
        yield f"  refused, {reason}: {count:,}"


def _cost(spent: Spent, price: tuple[float, float] | None) -> str:
    """`12 requests (30 more were known), 4,560 tokens in, 789 out: 0.0012`."""
    known = f" ({spent.known:,} more were known)" if spent.known else ""
    money = f": {spent.money(price):,.4f}" if price else ""
    tokens = f"{spent.prompt_tokens:,} tokens in, {spent.completion_tokens:,} out"
    return f"{spent.asked:,} requests{known}, {tokens}{money}"
