"""Make records and preferences of the conversations that a gateway kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...agent.store.places import default_artifacts, default_database
from .files import check_folders

if TYPE_CHECKING:
    from ..from_chats import Counts

__all__ = ["command"]

_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_BECAUSE = {
    "other-vote": "without such a vote",
    "not-finished": "failed, stopped, or still running",
    "no-answer": "ended with calls for the client",
    "unfinished-before": "a turn before it did not finish",
    "disliked-before": "an answer before it was voted down or flagged",
    "broken-text": "half of a character stands in it",
    "other-request": "not the same request, so no comparison of answers",
    "not-answered": "one of the two has no answer",
    "same-answer": "the answers are the same",
    "flagged": "one of the two was flagged",
    "same-vote": "both have the same vote",
    "vote-against-order": "the earlier answer was liked, or the later one was not",
    "not-next": "another answer came between them",
}


@click.command("from-chats")
@click.option("--out", required=True, type=_NEW_FILE, help="The file of records, JSON lines.")
@click.option(
    "--votes",
    type=click.Choice(["up", "down", "flag", "any", "all"]),
    default="up",
    show_default=True,
    help="Of the answers that records end with; all: also those without one.",
)
@click.option(
    "--pairs", type=_NEW_FILE, help="JSON-lines file of preferences, as TRL's trainers read them."
)
@click.option("--database", default=default_database, show_default="the user's own", metavar="URL")
@click.option(
    "--artifacts", default=default_artifacts, show_default="beside it", metavar="FOLDER|URL"
)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON object.")
def command(
    out: Path, votes: str, pairs: Path | None, database: str, artifacts: str, as_json: bool
) -> None:
    """Write kept conversations as records, each from its first request to an answer with a vote.

    Images go into the folder `images` beside OUT. A preference is two answers to one request: the
    one voted up is chosen, the one voted down rejected; without votes, the one that was asked for
    anew is chosen over the one before it.
    """
    check_folders(out, pairs)
    if pairs and pairs.resolve() == out.resolve():
        raise click.UsageError("--out and --pairs name one file: give each its own")
    counts = asyncio.run(_written(out, votes, pairs, database, artifacts))
    if as_json:
        click.echo(json.dumps(counts.figures(), indent=2))
        return
    for line in _lines(counts, paired=pairs is not None):
        click.echo(line)


async def _written(
    out: Path, votes: str, pairs: Path | None, database: str, artifacts: str
) -> Counts:
    from ...agent.store.store import open_store
    from ..from_chats import write_chats

    _check_there(database)
    async with open_store(database, artifacts) as store:
        return await write_chats(store, out, votes=votes, pairs=pairs)


def _check_there(database: str) -> None:
    """Raises `BadInput` for a file that opening would only make."""
    from ...skills.errors import BadInput

    scheme, _, path = database.partition(":///")
    file = path.partition("?")[0]
    if scheme.startswith("sqlite") and not Path(file).is_file():
        raise BadInput(f"there is no database {file}: name the one of the gateway with --database")


def _lines(counts: Counts, *, paired: bool) -> Iterator[str]:
    found = f"{counts.conversations:,} conversations, {counts.turns:,} turns"
    yield f"{found}: {counts.records:,} records, {counts.left_out.total():,} left out"
    for reason, count in counts.left_out.most_common():
        yield f"  left out, {_BECAUSE[reason]}: {count:,}"
    if not paired:
        return
    yield f"{counts.pairs:,} preferences; {counts.no_pair.total():,} times two turns that are none"
    for reason, count in counts.no_pair.most_common():
        yield f"  none, {_BECAUSE[reason]}: {count:,}"
