"""Asking the labeler from several processes, on this machine or a cluster, by Ray Data.

The driver makes the records as it does without Ray: it alone keeps answers and pace, and runs
skills. Its questions go as a stream through a dataset, whose actors ask and give back replies.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from ...agent.deploy.ray_address import check_reachable
from ...model.conversation import Conversation
from ...model.lmm import LMM, Event, Replied
from ...skills.errors import LlavaPlusError, WorkerUnavailable
from ...skills.extras import needing
from ...skills.images import ImageStore
from .labeler import labeler_key, remote_labeler

__all__ = ["Cluster", "asked_on_ray"]

_GROUP = 8
"""Questions that travel together at most; their replies come together too."""

_PER_PROCESS = 16
"""A process is begun for so many questions at once, while the cluster has CPUs for them."""

_SECONDS_TO_END = 2.0

_SECONDS_TO_FIND_ROOM = 30.0
"""A run that was killed gives its CPUs back some seconds later."""

_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # or a thread that outlives the run would begin a cluster
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # of what goes wrong the person is told by our errors
}
"""Read by Ray when it is imported."""


@dataclass(frozen=True)
class Cluster:
    """Where to ask: `address` is that of a cluster that is there, or `local` for one of its own.

    At most `concurrency` questions are under way.
    """

    address: str
    concurrency: int


@asynccontextmanager
async def asked_on_ray(
    labeler: str, request: Mapping[str, Any], cluster: Cluster
) -> AsyncIterator[LMM]:
    """The labeler, as `remote_labeler` opens it, asked from the processes of a cluster.

    What it raises when asked is what the processes raised, and `WorkerUnavailable` when Ray gives
    up. Raises `BadConfiguration` without Ray or for what is no address, and `WorkerUnavailable`
    when there is no cluster, or none of its CPUs gets free.
    """
    with _connected(cluster.address):
        cpus = await _cpus(cluster.address)
        asking = _Asking(labeler, dict(request), SecretStr(labeler_key()))
        lmm = _OnRay(labeler.partition("#")[2], asking, cluster.concurrency, cpus)
        try:
            yield lmm
        finally:
            await lmm.aclose()


@dataclass(frozen=True)
class _Asking:
    """What an actor asks with; Ray may write it down, and then the key is not to be read."""

    labeler: str
    request: dict[str, Any]
    key: SecretStr


class _OnRay:
    """An LMM that sends each conversation through a dataset and awaits its reply."""

    def __init__(self, name: str, asking: _Asking, concurrency: int, cpus: int) -> None:
        import ray

        self.name = name
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Future[Replied]] = {}
        self._over: LlavaPlusError | None = None
        self._loop = asyncio.get_running_loop()
        self._feed: Any = ray.remote(_Feed).options(num_cpus=0, label_selector=_here()).remote()
        dataset = _dataset(self._feed, asking, concurrency, cpus)
        # A daemon, because while a question is under way Ray's iterator ends only when Ray does.
        self._reader = threading.Thread(target=self._read, args=(dataset,), daemon=True)
        self._reader.start()

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """The whole reply at once; the labeler is shown no images."""
        if self._over:
            raise self._over
        number = next(self._numbers)
        self._open[number] = self._loop.create_future()
        try:
            self._feed.ask.remote(number, pickle.dumps((conversation, calls_allowed)))
            yield await self._open[number]
        finally:
            del self._open[number]
            self._feed.drop.remote(number)

    async def aclose(self) -> None:
        """End the dataset; questions that are under way end with the connection to Ray."""
        self._over = WorkerUnavailable("the labeler was closed")
        self._feed.close.remote()
        await asyncio.to_thread(self._reader.join, _SECONDS_TO_END)

    def _read(self, dataset: Any) -> None:
        tell: Callable[..., Any] = self._loop.call_soon_threadsafe
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            try:
                for block in dataset.iter_batches(
                    batch_size=None, prefetch_batches=0, batch_format="numpy"
                ):
                    for replies in block["replies"]:
                        tell(self._take, pickle.loads(replies))
                tell(self._end, "it ended before the run did")
            except Exception as error:  # whatever Ray or an actor raised: told to who waits
                told = str(error).strip().rpartition("\n")[2]  # above it Ray shows its stack
                tell(self._end, f"{type(error).__name__}: {told}")

    def _take(self, replies: list[tuple[int, Replied | LlavaPlusError]]) -> None:
        for number, replied in replies:
            waiting = self._open.get(number)
            if waiting is None or waiting.done():  # asked twice, since a process was lost
                continue
            if isinstance(replied, LlavaPlusError):
                waiting.set_exception(replied)
            else:
                waiting.set_result(replied)

    def _end(self, problem: str) -> None:
        self._over = WorkerUnavailable(f"Ray gave up asking: {problem}")
        for waiting in self._open.values():
            if not waiting.done():
                waiting.set_exception(self._over)


class _Feed:
    """The questions on their way to the dataset, in groups that stay as they are.

    A task of Ray that is run again, because its process was lost, has to give the same blocks in
    the same order; what has been answered by then is left out.
    """

    def __init__(self) -> None:
        self._questions: dict[int, bytes] = {}
        self._groups: list[list[int]] = []
        self._waiting: asyncio.Queue[int | None] = asyncio.Queue()

    async def ask(self, number: int, question: bytes) -> None:
        self._questions[number] = question
        self._waiting.put_nowait(number)

    async def drop(self, number: int) -> None:
        self._questions.pop(number, None)

    async def close(self) -> None:
        self._waiting.put_nowait(None)

    async def group(self, index: int) -> list[tuple[int, bytes]] | None:
        """The questions of a group, as soon as there are any; None when no more will come."""
        if index == len(self._groups):
            group = [await self._waiting.get()]
            while len(group) < _GROUP and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            if None in group:
                return None
            self._groups.append([number for number in group if number is not None])
        known = self._questions
        return [(number, known[number]) for number in self._groups[index] if number in known]


class _Asker:
    """Asks the questions of a block at once, in a process of its own."""

    def __init__(self, asking: _Asking) -> None:
        key = asking.key.get_secret_value()
        self._lmm = remote_labeler(asking.labeler, asking.request, key)

    async def __call__(self, block: dict[str, Any]) -> dict[str, list[bytes]]:
        (group,) = block["questions"]
        questions = pickle.loads(group)
        replies = await asyncio.gather(*(self._ask(asked) for _, asked in questions))
        numbers = [number for number, _ in questions]
        return {"replies": [pickle.dumps(list(zip(numbers, replies, strict=True)))]}

    async def _ask(self, question: bytes) -> Replied | LlavaPlusError:
        conversation, calls_allowed = pickle.loads(question)
        reply = self._lmm.reply(conversation, ImageStore(), calls_allowed=calls_allowed)
        try:
            async for event in reply:
                if isinstance(event, Replied):
                    return event
        except LlavaPlusError as error:
            return error  # raised, it would come out as one of Ray's
        return WorkerUnavailable("the reply has no end")


def _dataset(feed: Any, asking: _Asking, concurrency: int, cpus: int) -> Any:
    """Questions in, replies out: one task reads the feed, a fixed number of actors asks."""
    import ray.data

    processes = min(cpus, -(-concurrency // _PER_PROCESS))
    each = -(-concurrency // processes)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_min_block_size = context.target_max_block_size = 1  # a block for each group
    with ray.data.DataContext.current(context):
        questions = ray.data.read_datasource(
            _source(feed), override_num_blocks=1, num_cpus=0, label_selector=_here()
        )
        return questions.map_batches(
            _Asker,
            fn_constructor_args=(asking,),
            batch_size=1,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(
                size=processes,
                max_tasks_in_flight_per_actor=each,
                max_concurrent_calls_per_actor=each,
            ),
        )


def _source(feed: Any) -> Any:
    """A source of Ray Data with one task, which gives a block for each group of the feed."""
    import pyarrow as pa
    import ray
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def read() -> Iterator[Any]:
        for index in itertools.count():
            if (group := ray.get(feed.group.remote(index))) is None:
                return
            yield pa.table({"questions": [pickle.dumps(group)]})

    class Questions(Datasource):
        def estimate_inmemory_data_size(self) -> None:
            return None

        def get_read_tasks(self, parallelism: int, *args: Any, **more: Any) -> list[Any]:
            told = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(read, told)]

    return Questions()  # type: ignore[no-untyped-call]


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """A connection to Ray that ends with the block."""
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)
    with needing("ray", "--ray"):
        import ray
        import ray.data
    if address != "local":
        check_reachable(address)
    dashboard = False if address == "local" else None
    try:
        ray.init(
            address, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR
        )
    except (OSError, RuntimeError, ray.exceptions.RayError) as error:
        ray.shutdown()
        problem = "does not start" if address == "local" else f"at {address} cannot be joined"
        raise WorkerUnavailable(f"Ray {problem}: {error}") from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it raises is told once
    try:
        yield
    finally:
        ray.shutdown()


async def _cpus(address: str) -> int:
    """How many CPUs the cluster has, as soon as one is free."""
    import ray

    resources: Any = ray  # whose functions for this have no types
    until = time.monotonic() + _SECONDS_TO_FIND_ROOM
    while resources.available_resources().get("CPU", 0) < 1:
        if time.monotonic() > until:
            raise WorkerUnavailable(f"no CPU of the Ray cluster at {address} is free")
        await asyncio.sleep(0.2)
    return int(resources.cluster_resources()["CPU"])


def _here() -> dict[str, str]:
    """The machine of the driver, as a label of Ray's."""
    import ray

    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
