"""What runs in a replica of a group of skills: the same runner as in a worker's process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...skills.calls import SkillResult, SkillUse
from ...skills.discovery import load_skill
from ...skills.errors import LlavaPlusError, WorkerUnavailable
from ...skills.geometry import Mask
from ...skills.images import ImageStore
from ...skills.progress import Progress, Watch
from ...skills.runner import SkillRunner
from ...skills.wire import SkillState, known_class
from .ray_settings import GroupSettings

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Reply", "Request", "SkillGroup"]


@dataclass(frozen=True)
class Request:
    """A call on its way to a replica. Its images are decoded: pixels are cheaper to copy.

    `seconds` is how long the caller still waits, a span because machines' clocks differ.
    """

    use: SkillUse
    images: Mapping[str, Image]
    masks: Mapping[str, Mask]
    seconds: float


@dataclass(frozen=True)
class Reply:
    """What came of a call, with the bytes of the images that it made.

    A problem travels as a value: raised, it would come out as an error of Ray's.
    """

    outcome: SkillResult | LlavaPlusError
    images: tuple[bytes, ...] = ()


class SkillGroup:
    """Some skills in one process; Ray Serve makes a deployment of it, and keeps it healthy."""

    def __init__(self, settings: GroupSettings, most_at_once: int) -> None:
        # Serve lets in no more than that, so nothing is ever turned away here.
        self._runner = SkillRunner(
            [load_skill(name) for name in settings.skills],
            device=settings.place,
            queue=most_at_once,
            memory=int(settings.memory * 1e9) if settings.memory else None,
        )
        self._setup: asyncio.Task[None] | None = None

    async def run(self, request: Request) -> Reply:
        """Run a call to its end."""
        return await self._reply(request)

    async def follow(self, request: Request) -> AsyncIterator[Progress | Reply]:
        """Run a call and give its progress as it comes; the reply is the last."""
        told: asyncio.Queue[Progress | None] = asyncio.Queue()
        call = asyncio.create_task(self._reply(request, watch=told.put_nowait))
        call.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while progress := await told.get():
                yield progress
            yield call.result()
        finally:
            call.cancel()

    async def states(self) -> dict[str, SkillState]:
        """Whether each skill can be called here."""
        return self._runner.states

    async def check_health(self) -> None:
        """Asked by Serve, at first before any call: that one waits until the skills are set up.

        Raises when none of them can ever be called, or a skill hangs: then Serve replaces the
        replica, and what else ran in it is run again.
        """
        if self._setup is None:
            self._setup = asyncio.create_task(self._runner.setup())
        await asyncio.shield(self._setup)
        states = self._runner.states
        told = "; ".join(f"{name}: {state.reason}" for name, state in states.items())
        if all(state.state == "broken" for state in states.values()):
            raise WorkerUnavailable(told)
        if any(state.state == "stuck" for state in states.values()):
            raise WorkerUnavailable(told)

    async def _reply(self, request: Request, watch: Watch | None = None) -> Reply:
        store = ImageStore()
        try:
            result = await self._runner.call(
                request.use,
                images=request.images,
                masks=request.masks,
                store=store,
                deadline=time.monotonic() + request.seconds,
                watch=watch,
            )
        except LlavaPlusError as error:
            # A plugin's own class might not come out whole at the other end.
            return Reply(known_class(error)(str(error)))
        refs = [artifact.image for artifact in result.artifacts if artifact.image]
        return Reply(result, tuple(store.data(ref) for ref in refs))
