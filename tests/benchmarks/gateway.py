"""What the gateway costs, and whether it keeps conversations apart.

    python tests/benchmarks/gateway.py [--turns 400] [--at-once 50] [--more 20000] [--database URL]

A gateway in a process of its own serves LMMs that take a known time and say the markers of
their own conversation, and a skill that does nothing; every turn is a reply that calls the skill
and a reply that answers. Clients stream over loopback HTTP. A turn's overhead is its time as
the client sees it, less the time that the LMM takes: it holds the client's own work too, and
what the two processes wait for the cores. So a bare server is asked first, which streams the same
words at the same pace and does nothing else: what a turn takes beyond one of its turns is the
gateway's share. The slow LMM takes a second for a turn, as a quick one on a GPU does; the fast one
leaves so little time that many at once want more than the cores have, and shows how many turns a
second there can be. Memory is the gateway's, as GET /metrics tells it, and so is the CPU time of
a turn; `--more` takes so many more turns to see whether it grows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import httpx
from llava_plus.agent.chats import Chats
from llava_plus.agent.dispatcher import LocalDispatcher
from llava_plus.agent.gateway.app import create_app
from llava_plus.agent.observing.metrics import Metrics
from llava_plus.agent.observing.watched import WatchedDispatcher, WatchedLMM
from llava_plus.agent.settings import load_settings
from llava_plus.agent.store.store import open_store
from llava_plus.model.conversation import (
    AssistantMessage,
    Conversation,
    SkillMessage,
    UserMessage,
)
from llava_plus.model.lmm import Event, Replied, SkillUseDelta, TextDelta, Usage
from llava_plus.skills import ImageStore, Skill, SkillOutput, SkillUse
from llava_plus.skills.worker import listen, server_config
from rich.console import Console
from rich.table import Table
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Server
from uvicorn.loops.auto import auto_loop_factory

WORDS = 10


@dataclass(frozen=True)
class Pace:
    """How long an LMM takes: to the first token of each reply, and to each that follows, in s."""

    name: str
    first: float
    following: float

    @property
    def own_first(self) -> float:
        """To the first word of the answer."""
        return 2 * self.first

    @property
    def own_turn(self) -> float:
        """To the end of the answer."""
        return self.own_first + WORDS * self.following


SLOW = Pace("slow", 0.25, 0.05)
FAST = Pace("fast", 0.05, 0.01)
CONVERSATIONS = 200
WARM_UP = 20
MOST_SECONDS = 300
PARTS = 8


class Said(SkillOutput):
    """The text that was given."""

    said: str

    def summary(self) -> str:
        return self.said


class Noop(Skill):
    """The skill whose own time is zero."""

    name = "noop"
    description = "Say a text again."
    parallel = 8

    def run(self, text: str) -> Said:
        return Said(said=text)


class Marked:
    """Calls the skill with the newest marker, then says it with all earlier ones, word by word."""

    def __init__(self, pace: Pace) -> None:
        self.name = pace.name
        self._pace = pace

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Take the known time, whatever is asked."""
        markers = [said.text for said in conversation.messages if isinstance(said, UserMessage)]
        last = conversation.messages[-1]
        due = time.perf_counter() + self._pace.first
        await _until(due)
        if not isinstance(last, SkillMessage):
            use = SkillUse(id="", name="noop", arguments={"text": markers[-1]})
            yield SkillUseDelta(use)
            yield Replied(AssistantMessage(skill_uses=(use,)), Usage())
            return
        text = answer_to(*markers)
        for number, word in enumerate(text.split(" "), 1):
            yield TextDelta(f" {word}" if number > 1 else word)
            await _until(due + number * self._pace.following)
        yield Replied(AssistantMessage(text=text), Usage())

    async def aclose(self) -> None:
        """Nothing is held."""


async def _until(due: float) -> None:
    """What one sleep takes too long is not added to the next."""
    await asyncio.sleep(max(0.0, due - time.perf_counter()))


def answer_to(*markers: str) -> str:
    """What a conversation with these requests must hear in the end: ten words."""
    words = ["/".join(markers), *(f"word{number}" for number in range(1, WORDS - 1)), markers[-1]]
    return " ".join(words)


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """What streams an answer and does nothing else: no framework, no skill, nothing kept."""
    message = await receive()
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await send({"type": f"lifespan.{stage}.complete"})
            message = await receive() if stage == "startup" else message
        return
    if scope["path"] == "/metrics":
        await _send(send, f"process_cpu_seconds_total {time.process_time()}\n".encode())
        return
    asked = json.loads(message["body"])
    pace = {pace.name: pace for pace in (SLOW, FAST)}[asked["model"]]
    due = time.perf_counter() + pace.own_first
    await _until(due)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    words = answer_to(asked["messages"][-1]["content"]).split(" ")
    for number, word in enumerate(words, 1):
        delta = {"content": f" {word}" if number > 1 else word}
        chunk = {"conversation": "none", "choices": [{"index": 0, "delta": delta}]}
        part = f"data: {json.dumps(chunk)}\n\n".encode()
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await _until(due + number * pace.following)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def serve(folder: Path, database: str) -> None:
    """The gateway's process; it ends when standard input is closed."""
    metrics = Metrics()
    settings = load_settings(
        {"access.requests_per_minute": 10**9, "access.concurrent": 10**6, "server.page": False}
    )
    url = database or f"sqlite+aiosqlite:///{folder / 'chats.sqlite'}"
    async with open_store(url, str(folder / "artifacts")) as store:
        dispatcher = WatchedDispatcher(LocalDispatcher([Noop()]), metrics)
        lmms = {pace.name: WatchedLMM(Marked(pace), metrics) for pace in (SLOW, FAST)}
        chats = Chats(store, lmms, dispatcher, await dispatcher.specs())
        await _listen(create_app(chats, settings, page=False, metrics=metrics))
        await dispatcher.aclose()


async def _listen(app: ASGIApp) -> None:
    """Print a URL, and answer there until standard input is closed."""
    with listen("127.0.0.1", 0) as listening:
        server = Server(server_config(app))
        sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await asyncio.to_thread(sys.stdin.read)
        server.should_exit = True
        await serving


@contextmanager
def server_process(*options: str) -> Iterator[str]:
    """The URL of a server in a process of its own, with a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", folder]
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={name: value for name, value in os.environ.items() if "LLAVA_PLUS" not in name},
        )
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.communicate()


@dataclass(frozen=True)
class Turn:
    """One turn as its client saw it, in seconds."""

    answer: str
    conversation: str
    first: float
    whole: float


class Clients:
    """Clients of one gateway."""

    def __init__(self, url: str) -> None:
        self.client = httpx.AsyncClient(
            base_url=url, timeout=60, limits=httpx.Limits(max_connections=None), trust_env=False
        )

    async def turn(self, marker: str, pace: Pace, conversation: str | None = None) -> Turn:
        """Ask, and read the stream to its end."""
        body = {"messages": [{"role": "user", "content": marker}], "stream": True}
        body |= {"model": pace.name, **({"conversation": conversation} if conversation else {})}
        said, first, ended, began = "", 0.0, False, time.perf_counter()
        async with self.client.stream("POST", "/v1/chat/completions", json=body) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                if ended := line == "data: [DONE]":
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                conversation = chunk["conversation"]
                for choice in chunk["choices"]:
                    said += choice["delta"].get("content") or ""
                first = first or (time.perf_counter() - began if said else 0.0)
        assert ended, f"{marker}: the stream broke off after {said!r}"
        assert conversation
        return Turn(said, conversation, first, time.perf_counter() - began)

    async def right_turn(self, marker: str, pace: Pace) -> Turn:
        """A turn in a new conversation, whose answer is looked at."""
        turn = await self.turn(marker, pace)
        assert turn.answer == answer_to(marker), f"{marker} was told {turn.answer!r}"
        return turn

    async def turns(self, count: int, pace: Pace, *, at_once: int) -> list[Turn]:
        """So many turns in conversations of their own, `at_once` of them at any time.

        They begin spread over one turn: people do not all ask at the same moment.
        """
        numbers, done = iter(range(count)), list[Turn]()

        async def work(place: int) -> None:
            await asyncio.sleep(place * pace.own_turn / at_once)
            for number in numbers:
                done.append(await self.right_turn(f"marker-{at_once}-{number}", pace))

        async with asyncio.TaskGroup() as group:
            for place in range(at_once):
                group.create_task(work(place))
        return done

    async def conversation(self, number: int) -> int:
        """Two turns of one conversation; tells how many answers were another's, or cut short."""
        one, other = f"first-{number}", f"second-{number}"
        begun = await self.turn(one, FAST)
        gone_on = await self.turn(other, FAST, begun.conversation)
        wrong = [begun.answer != answer_to(one), gone_on.answer != answer_to(one, other)]
        return sum(wrong)

    async def memory(self) -> float:
        """What the gateway holds, in MB."""
        return await self._metric("process_resident_memory_bytes") / 1e6

    async def cpu_seconds(self) -> float:
        """What the gateway has computed so far."""
        return await self._metric("process_cpu_seconds_total")

    async def _metric(self, name: str) -> float:
        text = (await self.client.get("/metrics")).text
        (line,) = [at for at in text.splitlines() if at.startswith(name)]
        return float(line.split()[1])

    async def row(self, pace: Pace, count: int, at_once: int) -> list[float]:
        """Take turns, and tell what they took."""
        began, cpu = time.perf_counter(), await self.cpu_seconds()
        turns = await self.turns(count, pace, at_once=at_once)
        rate = count / (time.perf_counter() - began)
        cost = 1000 * (await self.cpu_seconds() - cpu) / count
        whole = [1000 * (turn.whole - pace.own_turn) for turn in turns]
        first = [1000 * (turn.first - pace.own_first) for turn in turns]
        return [median(whole), p99(whole), median(first), p99(first), cost, rate]


async def measure(url: str, bare_url: str, count: int, at_once: int, more: int) -> None:
    """Everything, one after another; prints the figures."""
    clients, others = Clients(url), Clients(bare_url)
    console = Console(width=100)
    for server in (clients, others):
        await server.turns(WARM_UP, FAST, at_once=4)
    table = Table(title="beyond the LMM's own time, milliseconds", title_justify="left")
    columns = ("server", "LMM", "at once", "turn p50", "p99", "first p50", "p99", "CPU", "turns/s")
    for column in columns:
        table.add_column(column, justify="right")
    start = await clients.memory()
    plan = [(SLOW, count // 10, 1), (SLOW, count, at_once), (FAST, count, at_once)]
    for pace, turns, together in plan:
        least = await others.row(pace, turns, together)
        taken = await clients.row(pace, turns, together)
        share = [mine - its for mine, its in zip(taken[:4], least[:4], strict=True)]
        for name, row in (("bare", least), ("gateway", taken), ("share", share)):
            figures = (f"{figure:.1f}" for figure in row)
            table.add_row(name, pace.name, f"{together}", *figures, end_section=row is share)
    console.print(table)
    now = await clients.memory()
    turns = sum(turns for _, turns, _ in plan)
    console.print(f"memory: {start:.0f} MB before, {now:.0f} MB after {turns} more turns")
    for part in range(1, PARTS + 1 if more else 1):
        await clients.turns(more // PARTS, FAST, at_once=at_once)
        now = await clients.memory()
        console.print(f"  {now:.0f} MB after {turns + part * (more // PARTS):,}")
    began = time.perf_counter()
    wrong = await asyncio.gather(*(clients.conversation(n) for n in range(CONVERSATIONS)))
    console.print(
        f"{CONVERSATIONS} conversations of two turns at once: {sum(wrong)} of "
        f"{2 * CONVERSATIONS} answers lost or mixed up, {time.perf_counter() - began:.1f} s"
    )
    for server in (clients, others):
        await server.client.aclose()
    assert not any(wrong)


def p99(values: list[float]) -> float:
    return quantiles(values, n=100)[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--turns", type=int, default=400)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--more", type=int, default=0)
    parser.add_argument("--database", default="", help="SQLite in a folder of its own if not given")
    options = parser.parse_args()
    if options.serve:
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            runner.run(_listen(bare) if options.bare else serve(options.serve, options.database))
    else:
        with (
            server_process("--database", options.database) as ours,
            server_process("--bare") as bares,
        ):
            job = measure(ours, bares, options.turns, options.at_once, options.more)
            asyncio.run(asyncio.wait_for(job, MOST_SECONDS + options.more / 10))
