"""One skill of a worker: who waits for it, its slots, and which calls are run together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from .calls import SkillResult
from .errors import DeadlineExceeded, LlavaPlusError
from .memory import release_memory
from .skill import Skill
from .wire import Refused, SkillCard, SkillState, TooBusy
from .work import Call, Outcome, work

__all__ = ["Lane"]

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiting:
    """A call in the queue; `answer` is its outcome, whoever still waits for that."""

    call: Call
    deadline: float
    answer: asyncio.Future[SkillResult]

    def settle(self, outcome: Outcome) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
            self.answer.exception()  # marks it as seen where the caller has gone
        else:
            self.answer.set_result(outcome)


class Lane:
    """Runs the calls of one skill in its own threads, `parallel` at once.

    A skill that takes batches gets, whenever a slot falls free, all calls that have gathered by
    then, up to its `batch`: nobody waits for a batch to fill. Setup happens in `setup_thread`,
    after `make_room` has seen to the memory.
    """

    def __init__(
        self,
        skill: Skill,
        device: str,
        queue: int,
        setup_thread: Executor,
        make_room: Callable[[Lane], Awaitable[None]],
    ) -> None:
        self.skill = skill
        self.card = SkillCard(spec=skill.spec, parallel=skill.parallel, queue=queue)
        self.last_used = time.monotonic()
        self._device = device
        self._setup_thread = setup_thread
        self._make_room = make_room
        self._threads = ThreadPoolExecutor(skill.parallel, thread_name_prefix=skill.name)
        self._waiting: deque[_Waiting] = deque()
        self._running: dict[asyncio.Future[list[Outcome]], float] = {}
        """What runs now, and the last moment at which somebody waits for it."""
        self._setup: asyncio.Task[None] | None = None
        self._is_set_up = False
        self._was_set_up = False
        self._broken = ""

    @property
    def full(self) -> bool:
        """Whether a call made now would have to wait."""
        return len(self._running) + len(self._waiting) >= self.skill.parallel

    @property
    def busy(self) -> bool:
        """Whether the skill runs, or is being set up, in a thread."""
        return bool(self._running) or (self._setup is not None and not self._is_set_up)

    @property
    def can_sleep(self) -> bool:
        """Whether what the skill has loaded could be let go of now."""
        return self._is_set_up and not self._broken and not self._running and not self._waiting

    @property
    def state(self) -> SkillState:
        """Whether the skill can be called now, and if not, why."""
        if self._broken:
            return SkillState(state="broken", reason=self._broken)
        if not self._is_set_up and not self._was_set_up:
            return SkillState(state="starting", reason="it is still being set up")
        if self._stuck == self.skill.parallel:
            reason = f"all {self._stuck} slot(s) hold calls that are past their deadline"
            return SkillState(state="stuck", reason=reason)
        return SkillState(state="ready")

    async def setup(self) -> None:
        """Set the skill up, once; a failure shows in `state` and in every call."""
        # Shielded: a caller that gives up must not take the setup down for the others.
        await asyncio.shield(self._begin_setup())

    async def sleep(self) -> None:
        """Let go of what the skill has loaded; the next call sets it up again."""
        self._is_set_up, self._setup = False, None
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._setup_thread, self._tear_down)

    async def run(self, call: Call, deadline: float) -> SkillResult:
        """Run one call. Raises what `SkillRunner.call` does."""
        start = time.monotonic()
        if deadline <= start:
            raise DeadlineExceeded(f"no time was left to run {self.skill.name}")
        queued = len(self._waiting)
        if self.full and queued >= self.card.queue:
            raise TooBusy(f"{self.skill.name} has {queued} calls waiting; it takes no more")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(call, deadline, loop.create_future())
        self._waiting.append(waiting)
        self._start()
        try:
            # Unlike wait_for, wait leaves the future alone when time is up or the caller is gone.
            await asyncio.wait((waiting.answer,), timeout=deadline - start)
            if not waiting.answer.done():
                raise self._late(waiting, time.monotonic() - start)
            return waiting.answer.result()
        finally:
            call.given_up.set()  # where it still runs, it ends with its next report of progress
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def close(self) -> None:
        """Take no more calls; what still runs is not waited for."""
        self._threads.shutdown(wait=False)

    @property
    def _stuck(self) -> int:
        now = time.monotonic()
        return sum(deadline < now for deadline in self._running.values())

    def _late(self, waiting: _Waiting, seconds: float) -> DeadlineExceeded:
        name = self.skill.name
        if waiting not in self._waiting:
            return DeadlineExceeded(f"{name} was not done within {seconds:.1f} s")
        if not self._is_set_up:
            return DeadlineExceeded(f"{name} is still being set up")
        return DeadlineExceeded(
            f"{name} had no free slot within {seconds:.1f} s "
            f"({self._stuck} of {self.skill.parallel} held by calls past their deadline)"
        )

    def _start(self) -> None:
        """Give every free slot what waits for one."""
        if not self._waiting:
            return
        if not self._is_set_up:
            self._begin_setup()
            return
        if self._broken:
            refusal = Refused(f"{self.skill.name} cannot be called: {self._broken}")
            self._settle(self._take(len(self._waiting)), refusal)
        while self._waiting and len(self._running) < self.skill.parallel:
            self._run_together(self._take(self.skill.batch))

    def _take(self, most: int) -> list[_Waiting]:
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    @staticmethod
    def _settle(batch: Sequence[_Waiting], outcome: Outcome) -> None:
        for waiting in batch:
            waiting.settle(outcome)

    def _run_together(self, batch: Sequence[_Waiting]) -> None:
        calls = [waiting.call for waiting in batch]
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._threads, work, self.skill, calls)
        except RuntimeError:
            self._settle(batch, Refused(f"{self.skill.name} is being shut down"))
            return
        self.last_used = time.monotonic()
        # The slot is free when the thread is, however long that takes, and not before.
        self._running[future] = max(waiting.deadline for waiting in batch)
        future.add_done_callback(partial(self._finish, batch))

    def _finish(self, batch: Sequence[_Waiting], future: asyncio.Future[list[Outcome]]) -> None:
        del self._running[future]
        if future.cancelled():
            self._settle(batch, Refused(f"{self.skill.name} is being shut down"))
            return
        for waiting, outcome in zip(batch, future.result(), strict=True):
            waiting.settle(outcome)
        self._start()

    def _begin_setup(self) -> asyncio.Task[None]:
        if self._setup is None:
            self._setup = asyncio.create_task(self._set_up())
        return self._setup

    async def _set_up(self) -> None:
        await self._make_room(self)
        loop = asyncio.get_running_loop()
        self._broken = await loop.run_in_executor(self._setup_thread, self._try_setup)
        # Once more, because what a skill needs is only known when it has been set up.
        await self._make_room(self)
        self._is_set_up = self._was_set_up = True
        self.last_used = time.monotonic()
        self._start()

    def _tear_down(self) -> None:
        try:
            self.skill.teardown()
        except Exception:  # a skill may fail in any way; what it holds on to is its own
            log.exception("skill %r could not let go of what it loaded", self.skill.name)
        release_memory()

    def _try_setup(self) -> str:
        try:
            self.skill.setup(self._device)
        except (Exception, SystemExit) as error:  # a skill may fail in any way; it is told
            # An error of ours says all there is to say.
            foreign = not isinstance(error, LlavaPlusError)
            log.error("skill %r could not be set up", self.skill.name, exc_info=foreign)
            return f"it could not be set up: {type(error).__name__}: {error}"
        return ""
