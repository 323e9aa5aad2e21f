"""Running skills in this process: set up once, in threads, each within its own limits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING

from .calls import Artifact, SkillResult, SkillUse
from .errors import DeadlineExceeded, DuplicateSkill, LlavaPlusError, SkillError, UnknownSkill
from .geometry import Mask
from .images import ImageStore, encode_image
from .skill import Skill, SkillOutput
from .wire import Refused, SkillCard, SkillCrashed, SkillState, TooBusy

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["QUEUE", "SkillRunner"]

QUEUE = 16
"""How many calls of one skill may wait for a free slot."""

log = logging.getLogger(__name__)


class SkillRunner:
    """Runs calls of some skills; one that hangs holds its own slot and nothing else.

    A deadline is a moment of `time.monotonic()`. Setup happens in one thread, skill after
    skill, because several heavy imports at once get in each other's way.
    """

    def __init__(self, skills: Iterable[Skill], *, device: str = "cpu", queue: int = QUEUE) -> None:
        self._setup_thread = ThreadPoolExecutor(1, thread_name_prefix="setup")
        self._lanes: dict[str, _Lane] = {}
        for skill in skills:
            if skill.name in self._lanes:
                raise DuplicateSkill(f"two of the skills to run are called {skill.name!r}")
            self._lanes[skill.name] = _Lane(skill, device, queue, self._setup_thread)

    @property
    def cards(self) -> tuple[SkillCard, ...]:
        """Every skill with its limits, in the order given."""
        return tuple(lane.card for lane in self._lanes.values())

    @property
    def states(self) -> dict[str, SkillState]:
        """Whether each skill can be called now, and if not, why."""
        return {name: lane.state for name, lane in self._lanes.items()}

    async def setup(self) -> None:
        """Set every skill up; a failure shows in `states` and in calls of that skill."""
        for lane in self._lanes.values():
            await lane.setup()

    def would_wait(self, name: str) -> bool:
        """Whether a call made now would have to queue. Raises `UnknownSkill`."""
        return self._lane(name).full

    async def call(
        self,
        use: SkillUse,
        *,
        images: Mapping[str, Image],
        masks: Mapping[str, Mask],
        store: ImageStore,
        deadline: float,
    ) -> SkillResult:
        """Run one call; images that it makes go into `store`.

        Raises `SkillError`, `TooBusy`, `Refused` when the skill could not be set up, or
        `DeadlineExceeded`, after which the skill goes on in its slot until it is done.
        """
        lane = self._lane(use.name)
        return await lane.run(lambda: _work(lane.skill, use, images, masks, store), deadline)

    def close(self) -> None:
        """Take no more calls; what still runs is not waited for."""
        self._setup_thread.shutdown(wait=False, cancel_futures=True)
        for lane in self._lanes.values():
            lane.threads.shutdown(wait=False)

    @property
    def busy(self) -> bool:
        """Whether any skill still runs, or is being set up, in a thread."""
        return any(lane.busy for lane in self._lanes.values())

    def _lane(self, name: str) -> _Lane:
        try:
            return self._lanes[name]
        except KeyError:
            known = ", ".join(self._lanes) or "none"
            raise UnknownSkill(f"there is no skill {name!r}; there is: {known}") from None


class _Lane:
    """One skill with its threads, its slots and its queue."""

    def __init__(self, skill: Skill, device: str, queue: int, setup_thread: Executor) -> None:
        self.skill = skill
        self.card = SkillCard(spec=skill.spec, parallel=skill.parallel, queue=queue)
        self.threads = ThreadPoolExecutor(skill.parallel, thread_name_prefix=skill.name)
        self.running: dict[asyncio.Future[SkillResult], float] = {}
        self._device = device
        self._queue = queue
        self._waiting = 0
        self._permits = asyncio.Semaphore(skill.parallel)
        self._setup_thread = setup_thread
        self._setup: asyncio.Future[None] | None = None
        self._is_set_up = False
        self._broken = ""

    @property
    def full(self) -> bool:
        return self._permits.locked()

    @property
    def busy(self) -> bool:
        return bool(self.running) or (self._setup is not None and not self._is_set_up)

    @property
    def state(self) -> SkillState:
        if self._broken:
            return SkillState(state="broken", reason=self._broken)
        if not self._is_set_up:
            return SkillState(state="starting", reason="it is still being set up")
        if self._stuck == self.skill.parallel:
            reason = f"all {self._stuck} slot(s) hold calls that are past their deadline"
            return SkillState(state="stuck", reason=reason)
        return SkillState(state="ready")

    @property
    def _stuck(self) -> int:
        now = time.monotonic()
        return sum(deadline < now for deadline in self.running.values())

    async def setup(self) -> None:
        if self._setup is None:
            loop = asyncio.get_running_loop()
            self._setup = loop.run_in_executor(self._setup_thread, self._set_up)
        # Shielded: a caller that gives up must not take the setup down for the others.
        await asyncio.shield(self._setup)

    def _set_up(self) -> None:
        try:
            self.skill.setup(self._device)
        except (Exception, SystemExit) as error:  # a skill may fail in any way; it is told
            # An error of ours says all there is to say.
            foreign = not isinstance(error, LlavaPlusError)
            log.error("skill %r could not be set up", self.skill.name, exc_info=foreign)
            self._broken = f"it could not be set up: {type(error).__name__}: {error}"
        self._is_set_up = True

    async def run(self, work: Callable[[], SkillResult], deadline: float) -> SkillResult:
        start = time.monotonic()
        await self._enter(deadline)
        try:
            future = asyncio.get_running_loop().run_in_executor(self.threads, work)
        except RuntimeError as error:
            self._permits.release()
            raise Refused(f"{self.skill.name} is being shut down") from error
        self.running[future] = deadline
        # The slot is free when the thread is, however long that takes, and not before.
        future.add_done_callback(self._leave)
        # Unlike wait_for, wait leaves the future alone when time is up or the caller is gone.
        await asyncio.wait((future,), timeout=max(0.0, deadline - time.monotonic()))
        if not future.done():
            raise DeadlineExceeded(
                f"{self.skill.name} was not done within {time.monotonic() - start:.1f} s"
            )
        return future.result()

    async def _enter(self, deadline: float) -> None:
        """Take a slot of a skill that is set up."""
        if self.full and self._waiting >= self._queue:
            raise TooBusy(f"{self.skill.name} has {self._waiting} calls waiting; it takes no more")
        start = time.monotonic()
        if deadline <= start:
            raise DeadlineExceeded(f"no time was left to run {self.skill.name}")
        self._waiting += 1
        try:
            async with asyncio.timeout(deadline - start):
                await self._permits.acquire()
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self.skill.name} had no free slot within {time.monotonic() - start:.1f} s "
                f"({self._stuck} of {self.skill.parallel} held by calls past their deadline)"
            ) from None
        finally:
            self._waiting -= 1
        try:
            await self._wait_for_setup(deadline)
        except BaseException:
            self._permits.release()
            raise

    async def _wait_for_setup(self, deadline: float) -> None:
        if not self._is_set_up:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self.setup()
            except TimeoutError:
                raise DeadlineExceeded(f"{self.skill.name} is still being set up") from None
        if self._broken:
            raise Refused(f"{self.skill.name} cannot be called: {self._broken}")

    def _leave(self, future: asyncio.Future[SkillResult]) -> None:
        del self.running[future]
        self._permits.release()
        if not future.cancelled():
            future.exception()  # marks it as seen where the caller has gone


def _work(
    skill: Skill,
    use: SkillUse,
    images: Mapping[str, Image],
    masks: Mapping[str, Mask],
    store: ImageStore,
) -> SkillResult:
    """One call from arguments to result, in a thread."""
    try:
        own = {handle: _shared(image) for handle, image in images.items()}
        output = skill.call(use.arguments, images=own, masks=dict(masks))
        return _result(use, output, store)
    except SkillError:
        raise
    except (Exception, SystemExit) as error:  # a skill may fail in any way; the model is told
        log.exception("skill %r crashed", skill.name)
        raise SkillCrashed(f"{skill.name} failed: {type(error).__name__}: {error}") from error


def _shared(image: Image) -> Image:
    """The same pixels in an image of its own, which Pillow copies as soon as it is drawn on.

    What a skill does to its argument so never shows in another call, without 8 MB copied
    for every call on a photograph.
    """
    shared = image._new(image.im)
    shared.readonly = 1
    return shared


def _result(use: SkillUse, output: SkillOutput, store: ImageStore) -> SkillResult:
    artifacts = [
        Artifact(label=label, image=store.add(encode_image(image), name=f"image {label}".strip()))
        for label, image in output.images()
    ]
    artifacts += [Artifact(label=label, mask=mask) for label, mask in output.masks()]
    return SkillResult(
        id=use.id,
        name=use.name,
        text=output.text(),
        data=output.model_dump(mode="json"),
        artifacts=tuple(artifacts),
    )
