"""The environment of skills: requests with skills on offer, whose calls are answered for real."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...agent.dispatcher import Dispatcher, HttpDispatcher
from ...agent.fleet import start_fleet
from ...agent.loop import Agent, TurnFinished
from ...model.lmm import LMM
from ...model.reinforcement.environment import Episode
from ...model.training.examples import load_source
from ...skills.calls import SkillSpec
from ...skills.errors import BadConfiguration, BadReply, DeadlineExceeded
from ...skills.images import ImageStore, encode_image
from ...skills.skill import describe_validation
from ...skills.wire import SECRET_VARIABLE
from ..evaluate import Verdict
from .made_up import MadeUpDispatcher
from .recorded import RecordedDispatcher
from .rewards import REWARDS
from .tasks import Task, Tasks, held_out_groups

__all__ = ["Options", "SkillEnvironment"]


class Options(BaseModel):
    """Which tasks are played, and who answers the calls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = "embedded"
    """A data source, whose trajectories show what was asked and what is right."""
    source_options: Mapping[str, Any] = {}
    calls: tuple[int, int] = (0, 6)
    """The fewest and the most calls that a task takes."""
    offered: int | None = Field(default=None, ge=1)
    """Of the skills on offer so many are left, those that a task takes and others at random."""
    findings: Literal["made-up", "live", "replay"] = "made-up"
    """Made up in the words of the skills; of workers; or those recorded in `recordings`."""
    recordings: Path | None = None
    """Where results are kept, so that what has been asked once is answered from there."""
    workers: tuple[str, ...] = ()
    """The URLs of workers that run; by default one is started for the skills of this machine."""
    skills: tuple[str, ...] = ()
    """The skills that it is started with."""
    max_steps: int = Field(default=6, ge=1)
    turn_seconds: float = Field(default=120.0, gt=0)


class SkillEnvironment:
    """Plays the turns of a data source's requests by the rules of serving, and scores them.

    `Agent` checks and dispatches the calls, each under the deadline of its turn. `dispatcher` takes
    the place of workers. Raises `BadConfiguration` for options that do not fit.
    """

    def __init__(
        self, *, seed: int = 0, dispatcher: Dispatcher | None = None, **options: Any
    ) -> None:
        try:
            self._options = Options.model_validate(options)
        except ValidationError as error:
            raise BadConfiguration(f"environment: {describe_validation(error)}") from error
        if self._options.findings == "replay" and self._options.recordings is None:
            raise BadConfiguration("environment: findings: replay needs a folder: recordings")
        if self._options.findings == "live" and not (
            dispatcher or self._options.workers or self._options.skills
        ):
            raise BadConfiguration("environment: findings: live needs workers, or skills to start")
        source = load_source(self._options.source, self._options.source_options, seed)
        self._tasks = Tasks(source.group, self._fits)
        self._held_out = Tasks(held_out_groups(source), self._fits)
        self._dispatcher = dispatcher
        self._opened: Dispatcher | None = None
        self._stack = AsyncExitStack()

    @property
    def rewards(self) -> Sequence[str]:
        """The names of all scores."""
        return list(REWARDS)

    async def play(self, lmm: LMM, number: int, *, held_out: bool = False) -> Episode:
        """Let the LMM take a turn; see `Environment`.

        A turn that ran out of time has no scores: that may have been a skill's fault.
        """
        task = (self._held_out if held_out else self._tasks)[number]
        store = ImageStore()
        refs = {handle: store.add(encode_image(image)) for handle, image in task.images.items()}
        asked = task.conversation.model_copy(update={"images": refs, "skills": self._offer(task)})
        agent = Agent(
            lmm,
            await self._answering(task),
            max_steps=self._options.max_steps,
            turn_seconds=self._options.turn_seconds,
        )
        *_, last = [event async for event in agent.turn(asked, store)]
        assert isinstance(last, TurnFinished)
        if isinstance(last.error, DeadlineExceeded):
            return Episode(last.conversation, dict.fromkeys(REWARDS))
        if not isinstance(last.error, BadReply):
            last.raise_for_error()
        verdict = Verdict(task.case, last.conversation, valid=True, seconds=0.0)
        return Episode(
            last.conversation, {name: reward(verdict) for name, reward in REWARDS.items()}
        )

    async def aclose(self) -> None:
        """Stop the workers that were started."""
        await self._stack.aclose()

    def _fits(self, task: Task) -> bool:
        options = self._options
        fewest, most = options.calls
        return (
            fewest <= len(task.case.plan) <= most
            # Skills can work on no image that is only named.
            and (options.findings == "made-up" or len(task.images) == task.case.images)
        )

    def _offer(self, task: Task) -> tuple[SkillSpec, ...]:
        """The skills on offer, in their order."""
        skills, wanted = task.conversation.skills, set(task.case.plan)
        others = [spec.name for spec in skills if spec.name not in wanted]
        if self._options.offered is None:
            return skills
        rng = random.Random(task.case.id)
        more = rng.sample(others, min(len(others), max(0, self._options.offered - len(wanted))))
        return tuple(spec for spec in skills if spec.name in wanted.union(more))

    async def _answering(self, task: Task) -> Dispatcher:
        if self._options.findings == "made-up":
            return MadeUpDispatcher(task.case.id)
        if self._opened is None:
            self._opened = await self._open()
            self._stack.push_async_callback(self._opened.aclose)
        return self._opened

    async def _open(self) -> Dispatcher:
        live = await self._workers() if self._options.findings == "live" else None
        if self._options.recordings is None:
            assert live
            return live
        return RecordedDispatcher(self._options.recordings, live)

    async def _workers(self) -> Dispatcher:
        if self._dispatcher:
            return self._dispatcher
        if self._options.workers:
            return HttpDispatcher(self._options.workers, secret=os.environ.get(SECRET_VARIABLE))
        fleet = await self._stack.enter_async_context(start_fleet([self._options.skills]))
        return fleet.dispatcher()
