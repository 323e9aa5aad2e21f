"""What a record is made by: the same for every job, and nothing in it that cannot be sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...model.conversation import Conversation
from ...skills.errors import BadConfiguration
from ..records.image_files import ImageFiles
from .items import Item
from .labeler import Labeler, Said
from .outcome import GivenUp, Unfit
from .prompts import Prompts
from .skill_runs import SkillRuns

__all__ = ["Job", "Recipe", "Stage", "until_fit"]

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """One record to be made.

    `kind` is `conversation`, `detail` or `reasoning`; or else the skills that a request is to
    need, with `+` between them, such as `detect+adjust`.
    """

    item: Item
    kind: str

    @property
    def id(self) -> str:
        """The id of the record."""
        return f"{self.item.name}:{self.kind}"


@dataclass(frozen=True)
class Recipe:
    """How records are made. It pickles, and so do jobs and outcomes.

    `folder` is where the records will lie; a reply that cannot be used is asked for `tries` times
    in all. With `thoughts` calls and answers say what was thought before.
    """

    prompts: Prompts
    images: ImageFiles
    folder: Path
    tries: int = 3
    thoughts: bool = False


@dataclass(frozen=True)
class Stage:
    """What a process opens to make records: the labeler, and the skills where they are used."""

    labeler: Labeler
    runs: SkillRuns | None = None

    def skills(self) -> SkillRuns:
        """The skills. Raises `BadConfiguration` when none were opened."""
        if self.runs is None:
            raise BadConfiguration("tool use needs skills to run")
        return self.runs


async def until_fit(
    recipe: Recipe,
    labeler: Labeler,
    asked: Conversation,
    read: Callable[[Said], Awaitable[T]] | Callable[[Said], T],
) -> T:
    """Ask until a reply can be used; each time the labeler is told what was wrong with the last.

    Raises `GivenUp` after the last try, or where asking again would not help.
    """
    question = asked
    for attempt in range(1, recipe.tries + 1):
        said = await labeler.say(question)
        try:
            if said.problem:
                raise Unfit(said.problem)
            value = read(said)
            return await value if isinstance(value, Awaitable) else value
        except Unfit as unfit:
            problem = unfit
        question = recipe.prompts.ask_again(
            asked, attempt=attempt + 1, reply=said.shown, problem=str(problem)
        )
    raise GivenUp(problem.reason, f"{problem} (after {recipe.tries} tries)", said.shown)
