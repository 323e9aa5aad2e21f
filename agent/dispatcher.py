"""From a skill use to its result: over HTTP to workers, or in this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Protocol

import httpx

from ..skills.calls import SkillProblem, SkillResult, SkillSpec, SkillUse
from ..skills.errors import (
    BadConfiguration,
    DeadlineExceeded,
    SkillError,
    UnknownSkill,
    WorkerUnavailable,
)
from ..skills.runner import SkillRunner
from ..skills.skill import Skill
from ..skills.wire import Refused, TooBusy
from .call_scope import CallScope
from .worker_client import Call, WorkerClient

__all__ = ["Dispatcher", "HttpDispatcher", "LocalDispatcher", "unavailable"]

log = logging.getLogger(__name__)

_GRACE = 0.5
"""Seconds past the deadline in which the worker's own word about it may still arrive."""


class Dispatcher(Protocol):
    """Takes skill uses to where the skills are, and brings back their results."""

    async def specs(self) -> list[SkillSpec]:
        """Every skill on offer."""

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        """Run one use within `scope`.

        What the model did wrong, and what a skill could not do, is a result with an `error`.
        Raises `WorkerUnavailable` or `DeadlineExceeded` for what only the operator can mend.
        Images that the skill made are in the scope's store when the result is back.
        """

    async def aclose(self) -> None:
        """Let go of connections and threads."""


class LocalDispatcher:
    """Runs skills in threads of this process, by the same rules as a worker."""

    def __init__(self, skills: Iterable[Skill], *, device: str = "cpu") -> None:
        self._runner = SkillRunner(skills, device=device, queue=1_000_000)

    async def specs(self) -> list[SkillSpec]:
        """Every skill on offer."""
        return [card.spec for card in self._runner.cards]

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        """Run one use; see `Dispatcher`."""
        named, named_masks = scope.named(use.arguments)
        decoded = {handle: scope.store.image(ref) for handle, ref in named.items()}
        try:
            return await self._runner.call(
                use,
                images=decoded,
                masks=named_masks,
                store=scope.store,
                deadline=scope.deadline,
                watch=scope.watch,
            )
        except SkillError as error:
            return _told(use, error)

    @property
    def busy(self) -> bool:
        """Whether a skill still runs, or is being set up."""
        return self._runner.busy

    async def aclose(self) -> None:
        """Take no more calls; a skill that still runs is not waited for."""
        self._runner.close()


class HttpDispatcher:
    """Sends skill uses to a fixed list of workers.

    Of several workers with the skill, the least busy gets the call, then the one that already
    holds its images. Another is tried only where it is certain that nothing ran: the worker
    could not be reached, refused the call, or did not get an image.
    """

    def __init__(
        self, urls: Sequence[str], *, secret: str | None = None, connect_timeout: float = 2.0
    ) -> None:
        if not urls:
            raise BadConfiguration("a dispatcher needs the URL of at least one worker")
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise BadConfiguration(f"{url!r} is no address of a worker: http://HOST:PORT is")
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {secret}"} if secret else None,
            # One deadline covers the whole call; only an unreachable host gets less time.
            timeout=httpx.Timeout(None, connect=connect_timeout),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=30),
            trust_env=False,
        )
        self._workers = [WorkerClient(url, self._client) for url in dict.fromkeys(urls)]

    async def specs(self) -> list[SkillSpec]:
        """Every skill on offer; a worker that cannot be reached is logged, unless none can.

        Raises `WorkerUnavailable` when none can, `BadConfiguration` when two workers mean
        different things by one name.
        """
        await asyncio.gather(*(worker.learn_skills() for worker in self._workers))
        silent = [worker.trouble for worker in self._workers if worker.specs is None]
        if len(silent) == len(self._workers):
            told = "no skill can be reached just now"
            raise WorkerUnavailable("; ".join(map(str, silent)), told=told)
        for trouble in silent:
            log.warning("%s", trouble)
        offered: dict[str, tuple[SkillSpec, WorkerClient]] = {}
        for worker in self._workers:
            for name, spec in (worker.specs or {}).items():
                first, other = offered.setdefault(name, (spec, worker))
                if first != spec:
                    raise BadConfiguration(
                        f"workers {other.url} and {worker.url} offer different skills as {name!r}"
                    )
        return [spec for spec, _ in offered.values()]

    async def dispatch(self, use: SkillUse, scope: CallScope) -> SkillResult:
        """Run one use; see `Dispatcher`."""
        try:
            call = Call.of(use, scope)
            async with asyncio.timeout(call.seconds_left() + _GRACE):
                return await self._send(call)
        except SkillError as error:
            return _told(use, error)
        except TimeoutError:
            raise DeadlineExceeded(f"{use.name!r} was not done within its deadline") from None

    async def _send(self, call: Call) -> SkillResult:
        while True:
            refusals: list[Refused] = []
            for worker in await self._offering(call):
                try:
                    return await worker.run(call)
                except Refused as refusal:
                    refusals.append(refusal)
            pauses = [refusal.retry_after for refusal in refusals if isinstance(refusal, TooBusy)]
            told = "; ".join(map(str, refusals))
            if not pauses:
                raise WorkerUnavailable(f"{call.use.name!r} cannot be run now: {told}")
            if min(pauses) >= call.seconds_left():
                raise DeadlineExceeded(f"no worker was free before the deadline: {told}")
            await asyncio.sleep(min(pauses))

    async def _offering(self, call: Call) -> list[WorkerClient]:
        """The workers with the skill, best first. Raises `UnknownSkill`, `WorkerUnavailable`."""
        unlisted = [worker for worker in self._workers if worker.specs is None]
        await asyncio.gather(*(worker.learn_skills() for worker in unlisted if not worker.cooling))
        name = call.use.name
        offering = [worker for worker in self._workers if worker.specs and name in worker.specs]
        if not offering:
            silent = [worker.trouble for worker in self._workers if worker.specs is None]
            if silent:
                told = "; ".join(map(str, silent))
                raise WorkerUnavailable(f"{name!r} cannot be run now: {told}")
            known = sorted({name for worker in self._workers for name in worker.specs or ()})
            raise UnknownSkill(f"there is no skill {name!r}; there is: {', '.join(known)}")
        return sorted(offering, key=lambda worker: worker.rank(call))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def unavailable(skill: str, error: WorkerUnavailable) -> WorkerUnavailable:
    """What `dispatch` raised, with words for whoever asked."""
    if isinstance(error, DeadlineExceeded):
        return DeadlineExceeded(str(error), told=f"the skill {skill!r} was not done in time")
    told = f"the skill {skill!r} cannot be reached just now"
    return WorkerUnavailable(str(error), told=told)


def _told(use: SkillUse, error: SkillError) -> SkillResult:
    """The result by which the model learns what went wrong."""
    problem = SkillProblem(kind=error.kind, message=str(error))
    return SkillResult(id=use.id, name=use.name, error=problem)
