"""Running skills in this process: set up when used, in threads, each within its own limits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from .calls import SkillResult, SkillUse
from .errors import DuplicateSkill, UnknownSkill
from .geometry import Mask
from .images import ImageStore
from .lane import Lane
from .memory import held_bytes
from .progress import Watch
from .relay import relayed
from .skill import Skill
from .wire import SkillCard, SkillState
from .work import Call

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["QUEUE", "Runner", "SkillRunner"]

QUEUE = 16
"""How many calls of one skill may wait for a free slot."""

log = logging.getLogger(__name__)


class Runner(Protocol):
    """What runs the calls of a worker; see `SkillRunner`, which does it in this process."""

    @property
    def cards(self) -> tuple[SkillCard, ...]:
        """Every skill with its limits."""

    @property
    def states(self) -> dict[str, SkillState]:
        """Whether each skill can be called now, and if not, why."""

    async def setup(self) -> None:
        """Get the skills ready; runs beside the calls, and is cancelled at the end."""

    def require(self, name: str) -> None:
        """Raises `UnknownSkill` when none of the skills has the name."""

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
        """Run one call; images that it makes go into `store`."""

    def close(self) -> None:
        """Take no more calls."""


class SkillRunner:
    """Runs calls of some skills; one that hangs holds its own slot and nothing else.

    A deadline is a moment of `time.monotonic()`. Setup happens in one thread, skill after
    skill, because several heavy imports at once get in each other's way. With `memory`, a number
    of bytes, skills that hold more than that among them are put to sleep, the longest unused
    first, and are set up again when they are called.
    """

    def __init__(
        self,
        skills: Iterable[Skill],
        *,
        device: str = "cpu",
        queue: int = QUEUE,
        memory: int | None = None,
    ) -> None:
        self._memory = memory
        self._sizes: dict[str, int] = {}
        self._setup_thread = ThreadPoolExecutor(1, thread_name_prefix="setup")
        self._lanes: dict[str, Lane] = {}
        for skill in skills:
            if skill.name in self._lanes:
                raise DuplicateSkill(f"two of the skills to run are called {skill.name!r}")
            self._lanes[skill.name] = Lane(
                skill, device, queue, self._setup_thread, self._make_room
            )

    @property
    def cards(self) -> tuple[SkillCard, ...]:
        """Every skill with its limits, in the order given."""
        return tuple(lane.card for lane in self._lanes.values())

    @property
    def states(self) -> dict[str, SkillState]:
        """Whether each skill can be called now, and if not, why."""
        return {name: lane.state for name, lane in self._lanes.items()}

    @property
    def held(self) -> int:
        """Bytes of weights that the skills hold among them."""
        return held_bytes(lane.skill for lane in self._lanes.values())

    async def setup(self) -> None:
        """Set every skill up; a failure shows in `states` and in calls of that skill."""
        for lane in self._lanes.values():
            await lane.setup()

    def require(self, name: str) -> None:
        """Raises `UnknownSkill` when none of the skills has the name."""
        self._lane(name)

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
        """Run one call; images that it makes go into `store`.

        `watch` hears of its progress in this event loop, a few times a second.

        Raises `SkillError`, `TooBusy`, `Refused` when the skill could not be set up, or
        `DeadlineExceeded`. After that, or when this is cancelled, a skill that runs goes on in
        its slot until it next reports progress, or is done.
        """
        with relayed(watch) as told:
            return await self._lane(use.name).run(Call(use, images, masks, store, told), deadline)

    def close(self) -> None:
        """Take no more calls; what still runs is not waited for."""
        self._setup_thread.shutdown(wait=False, cancel_futures=True)
        for lane in self._lanes.values():
            lane.close()

    @property
    def busy(self) -> bool:
        """Whether any skill still runs, or is being set up, in a thread."""
        return any(lane.busy for lane in self._lanes.values())

    def _lane(self, name: str) -> Lane:
        try:
            return self._lanes[name]
        except KeyError:
            known = ", ".join(self._lanes) or "none"
            raise UnknownSkill(f"there is no skill {name!r}; there is: {known}") from None

    async def _make_room(self, wanted: Lane) -> None:
        """Put idle skills to sleep until `wanted`, as far as its size is known, fits in."""
        if self._memory is None:
            return
        size = held_bytes([wanted.skill])
        # How much of it others hold as well is only known while it is awake.
        coming = 0 if size else self._sizes.get(wanted.skill.name, 0)
        self._sizes[wanted.skill.name] = size or coming
        others = [lane for lane in self._lanes.values() if lane is not wanted]
        idle = sorted((lane for lane in others if lane.can_sleep), key=lambda lane: lane.last_used)
        while (needed := self.held + coming) > self._memory and idle:
            await idle.pop(0).sleep()
        if needed > self._memory:
            log.warning(
                "%s needs %.0f MB, with the skills in use %.0f MB; the limit is %.0f MB",
                *(wanted.skill.name, (size or coming) / 1e6, needed / 1e6, self._memory / 1e6),
            )
