"""Tasks: what a finished trajectory was asked, and what a good assistant did about it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ...model.conversation import AssistantMessage, Conversation, SkillMessage, UserMessage
from ...model.training.examples import DataSource, Example
from ...skills.errors import BadConfiguration
from ..bank import Bank
from ..catalogue import catalogue
from ..evaluate import Case, ExpectedCall
from ..turns import EMPTY

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Task", "Tasks", "held_out_groups", "task_of", "true_name"]

_MOST_GROUPS = 100
"""So many groups in a row without a fitting task are a setting that nothing fits."""


@dataclass(frozen=True)
class Task:
    """A request with the skills on offer, its images by handle, and what is right."""

    case: Case
    conversation: Conversation
    images: Mapping[str, Image]


def task_of(example: Example, id: str) -> Task | None:
    """The task of a trajectory of one turn; None where it shows nothing of what is right.

    That is so where a call failed or found nothing: what is right after other findings is not
    known then.
    """
    asked, *said = example.conversation.messages
    if not isinstance(asked, UserMessage) or any(m.role == "user" for m in said):
        return None
    results = [m.result for m in said if isinstance(m, SkillMessage)]
    if example.conversation.answer is None or any(
        result.error or EMPTY.match(result.text) for result in results
    ):
        return None
    uses = [use for m in said if isinstance(m, AssistantMessage) for use in m.skill_uses]
    case = Case(
        id=id,
        request=asked.text,
        images=len(asked.images),
        expect=[ExpectedCall(name=use.name, arguments=use.arguments) for use in uses[:1]],
        then=[use.name for use in uses[1:]],
    )
    marked = asked.marks.masks if asked.marks else ()
    opened = example.conversation.model_copy(
        update={
            "messages": (asked,),
            "images": {h: r for h, r in example.conversation.images.items() if h in asked.images},
            "masks": {h: m for h, m in example.conversation.masks.items() if h in marked},
        }
    )
    return Task(case, opened, {h: example.images[h] for h in opened.images})


class Tasks:
    """The tasks of one stream of a data source, by number; `fits` says which are taken."""

    def __init__(
        self,
        groups: Callable[[int], list[Example]],
        fits: Callable[[Task], bool],
    ) -> None:
        self._stream = self._fitting(groups, fits)
        self._found: list[Task] = []

    def __getitem__(self, number: int) -> Task:
        """Task `number`. Raises `BadConfiguration` when none fits for too long."""
        missing = number + 1 - len(self._found)
        self._found.extend(itertools.islice(self._stream, max(0, missing)))
        return self._found[number]

    @staticmethod
    def _fitting(
        groups: Callable[[int], list[Example]], fits: Callable[[Task], bool]
    ) -> Iterator[Task]:
        last = 0
        for index in itertools.count():
            for place, example in enumerate(groups(index)):
                task = task_of(example, f"{index}-{place}")
                if task and fits(task):
                    last = index
                    yield task
            if index - last >= _MOST_GROUPS:
                raise BadConfiguration(
                    f"of {_MOST_GROUPS} groups of the data source no example is a task that fits"
                )


def held_out_groups(source: DataSource) -> Callable[[int], list[Example]]:
    """The groups of a source that training never sees, by number."""
    known: list[list[Example]] = []

    def group(index: int) -> list[Example]:
        if index >= len(known):
            known[:] = source.held_out(2 * index + 8)
        return known[index]

    return group


@cache
def _true_names() -> Mapping[str, str]:
    others = Bank().other_names.items()
    found = {name: true for true, (names, _) in others for name in names}
    return {**found, **{name: name for name in catalogue()}}


def true_name(name: str) -> str | None:
    """The catalogue skill that is shown by this name; None where it is none."""
    return _true_names().get(name)
