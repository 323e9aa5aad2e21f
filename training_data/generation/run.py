"""Making records from jobs: many at once, written in the order of the jobs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from ...skills.errors import BadInput
from ..records.streams import written
from .instructions import INSTRUCTION_KINDS, make_instructions
from .items import Item
from .outcome import GivenUp, Outcome, Reason, Refused
from .recipe import Job, Recipe, Stage
from .tool_use import make_tool_use

__all__ = ["Counts", "in_order", "jobs_of", "make", "write_outcomes"]

_AHEAD = 4
"""Jobs begun for each that is worked on at once, so that a slow one does not hold up the others."""


def jobs_of(
    items: Iterable[Item | Refused],
    kinds: Sequence[str],
    families: Sequence[str] = (),
    *,
    per_image: int = 1,
) -> Iterator[Job | Refused]:
    """For each item every kind, and the next `per_image` of the families, which go in turn."""
    turns = cycle(families)
    for item in items:
        if isinstance(item, Refused):
            yield item
            continue
        following = islice(turns, min(per_image, len(families)))
        for kind in (*kinds, *following):
            yield Job(item, kind)


async def make(job: Job | Refused, recipe: Recipe, stage: Stage) -> Outcome:
    """The record of a job, or why there is none: of the job, recipe and replies alone.

    Raises `WorkerUnavailable` when the labeler or the workers cannot be reached.
    """
    if isinstance(job, Refused):
        return job
    wanted = make_instructions if job.kind in INSTRUCTION_KINDS else make_tool_use
    try:
        return await wanted(job, recipe, stage)
    except GivenUp as given_up:
        return Refused(job.id, job.kind, given_up.reason, str(given_up), given_up.said)
    except BadInput as error:
        return Refused(job.id, job.kind, Reason.BAD_IMAGE, str(error))


@dataclass
class Counts:
    """Records kept by kind, and refused by reason."""

    kept: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """How many jobs came to an end."""
        return self.kept.total() + self.refused.total()


async def write_outcomes(
    outcomes: AsyncIterator[tuple[str, Outcome]],
    out: Path,
    refused: Path,
    *,
    progress: Callable[[Counts], None] = lambda counts: None,
) -> Counts:
    """Write the records to `out`, and what was refused to `refused`, in their order.

    Both files are there when all is done, and until then as they were; there is no file of
    refusals without any. Raises what making them raises; all that was said until then is kept.
    """
    counts = Counts()
    with written(out) as records, written(refused) as refusals:
        async for kind, outcome in outcomes:
            if isinstance(outcome, Refused):
                refusals.write(f"{json.dumps(outcome.to_json(), ensure_ascii=False)}\n")
                counts.refused[str(outcome.reason)] += 1
            else:
                records.write(f"{outcome.to_line()}\n")
                counts.kept[kind] += 1
            progress(counts)
    if not counts.refused:
        refused.unlink()
    return counts


async def in_order(
    jobs: Iterable[Job | Refused], recipe: Recipe, stage: Stage, concurrency: int
) -> AsyncGenerator[tuple[str, Outcome], None]:
    """The kinds and outcomes of the jobs, in their order; a bounded number is under way."""
    free = asyncio.Semaphore(concurrency)
    rest = iter(jobs)
    begun: deque[tuple[str, asyncio.Task[Outcome]]] = deque()

    async def one(job: Job | Refused) -> Outcome:
        async with free:
            return await make(job, recipe, stage)

    try:
        while True:
            for job in islice(rest, _AHEAD * concurrency - len(begun)):
                begun.append((job.kind, asyncio.create_task(one(job))))
            if not begun:
                return
            kind, task = begun.popleft()
            yield kind, await task
    finally:
        for _, task in begun:
            task.cancel()
        await asyncio.gather(*(task for _, task in begun), return_exceptions=True)
