"""Runs the calls of a worker in replicas of Ray Serve, and again where a replica died."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...skills.calls import SkillResult, SkillUse
from ...skills.discovery import load_skill
from ...skills.errors import (
    DeadlineExceeded,
    LlavaPlusError,
    UnknownSkill,
    WorkerUnavailable,
)
from ...skills.geometry import Mask
from ...skills.images import ImageStore
from ...skills.progress import Progress, Watch
from ...skills.wire import Refused, SkillCard, SkillState, TooBusy
from .ray_group import Reply, Request
from .ray_settings import GroupSettings

if TYPE_CHECKING:
    from PIL.Image import Image
    from ray.serve.handle import DeploymentHandle

__all__ = ["RayRunner"]

_RUNS = 3
"""How often a call is begun; one that ends every process that runs it is given up."""

_GRACE = 0.3
"""Seconds past the deadline in which the replica's own word about it may still arrive."""

_EVERY = 2.0
"""Seconds between two looks at how the replicas are."""

_PATIENCE = 5.0

_STARTING = SkillState(state="starting", reason="its replicas are still being started")

log = logging.getLogger(__name__)


class RayRunner:
    """The `Runner` of a worker whose skills are deployments of Ray Serve, one for each group."""

    def __init__(
        self, groups: Mapping[str, GroupSettings], handles: Mapping[str, DeploymentHandle[Any]]
    ) -> None:
        self._groups = groups
        self._handles = handles
        self._group_of = {skill: name for name, group in groups.items() for skill in group.skills}
        self._states = dict.fromkeys(self._group_of, _STARTING)
        self.cards = tuple(_card(skill, groups[name]) for skill, name in self._group_of.items())

    @property
    def states(self) -> dict[str, SkillState]:
        """Whether each skill could be called when the replicas were last looked at."""
        return dict(self._states)

    async def setup(self) -> None:
        """Look at the replicas, again and again; setting up is their own affair."""
        while True:
            for name in self._groups:
                self._states |= await self._look(name)
            await asyncio.sleep(_EVERY)

    def require(self, name: str) -> None:
        """Raises `UnknownSkill` when none of the skills has the name."""
        if name not in self._group_of:
            known = ", ".join(self._group_of) or "none"
            raise UnknownSkill(f"there is no skill {name!r}; there is: {known}")

    async def call(
        self,
        use: SkillUse,
        *,
        images: Mapping[str, Image],
        masks: Mapping[str, Mask],
        store: ImageStore,
        deadline: float,
        watch: Watch | None = None,
    ) -> SkillResult:
        """Run one call in a replica of its group; see `SkillRunner.call`.

        Raises `WorkerUnavailable` as well, when replicas died of it.
        """
        self.require(use.name)
        try:
            async with asyncio.timeout(deadline - time.monotonic() + _GRACE):
                reply = await self._reply(use, images, masks, deadline, watch)
        except TimeoutError:
            raise DeadlineExceeded(f"{use.name} was not done within its deadline") from None
        if isinstance(reply.outcome, LlavaPlusError):
            raise reply.outcome
        for data in reply.images:
            await asyncio.to_thread(store.add, data)
        return reply.outcome

    def close(self) -> None:
        """The deployments live on; there is nothing to close."""

    async def _reply(
        self,
        use: SkillUse,
        images: Mapping[str, Image],
        masks: Mapping[str, Mask],
        deadline: float,
        watch: Watch | None,
    ) -> Reply:
        """What comes of a call, which begins anew when the replica that runs it dies."""
        from ray.exceptions import RayActorError

        name = self._group_of[use.name]
        runs = _RUNS if self._groups[name].repeat else 1
        for _ in range(runs):
            request = Request(use, images, masks, deadline - time.monotonic())
            try:
                with _translated(use.name):
                    return await _send(self._handles[name], request, watch)
            except RayActorError as error:
                log.warning("a replica of %r died while running %s: %s", name, use.name, error)
        raise WorkerUnavailable(f"{runs} process(es) of {name!r} died while running {use.name}")

    async def _look(self, name: str) -> dict[str, SkillState]:
        """How the skills of a group are now; empty where nobody says."""
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        group = self._groups[name]
        try:
            async with asyncio.timeout(_PATIENCE):
                state, running = await asyncio.to_thread(_deployed, name)
                # Without a least number of replicas, one that is asked would never be let go.
                if not running or not group.replicas:
                    return dict.fromkeys(group.skills, state)
                states: dict[str, SkillState] = await self._handles[name].states.remote()
                return states
        except (TimeoutError, RayError, RayServeException) as error:
            log.info("group %r does not say how it is: %r", name, error)
            return {}


def _card(skill: str, group: GroupSettings) -> SkillCard:
    loaded = load_skill(skill)
    return SkillCard(
        spec=loaded.spec,
        parallel=loaded.parallel * group.most,
        queue=group.queue,
        repeatable=group.repeat,
    )


def _deployed(name: str) -> tuple[SkillState, int]:
    """What Serve says of a deployment of this application, and how many of its replicas run."""
    from ray import serve

    app = serve.status().applications.get(serve.get_replica_context().app_name)
    deployment = app.deployments.get(name) if app else None
    if deployment is None:
        return _STARTING, 0
    running = sum(count for state, count in deployment.replica_states.items() if state == "RUNNING")
    told = deployment.message or _STARTING.reason
    if running or deployment.status == "HEALTHY":
        return SkillState(state="ready"), running
    if deployment.status == "DEPLOY_FAILED":
        return SkillState(state="broken", reason=told), 0
    return SkillState(state="starting", reason=told), 0


@contextmanager
def _translated(skill: str) -> Iterator[None]:
    """Raise in the words of the worker protocol what Serve says of a call that did not run."""
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    try:
        yield
    except BackPressureError as error:
        raise TooBusy(f"{skill} has too many calls waiting; it takes no more") from error
    except DeploymentUnavailableError as error:
        raise Refused(f"{skill} cannot be called: {error}") from error


async def _send(handle: DeploymentHandle[Any], request: Request, watch: Watch | None) -> Reply:
    """Run a call in some replica; cancelled here, it is given up there."""
    response: Any = (  # Ray's types know neither of the two, nor that they can be cancelled
        handle.options(stream=True).follow if watch else handle.run
    ).remote(request)
    try:
        reply = await (_last(response, watch) if watch else response)
    except asyncio.CancelledError:
        response.cancel()
        raise
    assert isinstance(reply, Reply)
    return reply


async def _last(told: AsyncIterator[Progress | Reply], watch: Watch) -> Progress | Reply | None:
    last: Progress | Reply | None = None
    async for last in told:
        if isinstance(last, Progress):
            watch(last)
    return last
