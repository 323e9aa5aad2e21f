"""What dies, fills up or goes away in the middle of a turn, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from llava_plus.agent.store.store import LEASE_SECONDS, open_store

from ..serving import install_toys, png
from .postgres import Postgres, postgres_server
from .processes import Program, gateway_program, lmm_program, worker_program

CLIMB = 'call climb {"steps": 1}'
LONG_CLIMB = 'call climb {"steps": 600, "pause": 0.05}'
LOOK = 'call look {"image": "img_1"}'
UNREACHED = "the skill 'climb' cannot be reached just now"
LONG_ANSWER = "say 600 x 10 every 0.05"


class Chat:
    """One conversation, as a client of a gateway has it."""

    def __init__(self, gateway: Program) -> None:
        self.gateway = gateway
        self.id: str | None = None

    def body(self, text: str, *, image: bytes | None = None, stream: bool = False) -> Any:
        """The request for a turn."""
        content: list[Any] = [{"type": "text", "text": text}]
        if image:
            url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
            content.insert(0, {"type": "image_url", "image_url": {"url": url}})
        known = {"conversation": self.id} if self.id else {}
        return {"messages": [{"role": "user", "content": content}], "stream": stream, **known}

    def post(self, text: str, **options: Any) -> httpx.Response:
        """Ask, and wait for what comes."""
        body = self.body(text, **options)
        return httpx.post(f"{self.gateway.url}/v1/chat/completions", json=body, timeout=30)

    def ask(self, text: str, **options: Any) -> str:
        """Ask, and wait for the answer."""
        answer = self.post(text, **options)
        assert answer.status_code == 200, answer.text
        self.id = answer.json()["conversation"]
        return str(answer.json()["choices"][0]["message"]["content"])

    @contextmanager
    def asking(self, text: str, until: Callable[[Any], Any]) -> Iterator[Iterator[Any]]:
        """Ask, and give the rest of the stream from the chunk at which `until` holds."""
        body = self.body(text, stream=True)
        url = f"{self.gateway.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=30) as answer:
            assert answer.status_code == 200
            chunks = _chunks(answer.iter_lines())
            for chunk in chunks:
                assert "error" not in chunk, chunk
                self.id = chunk["conversation"]
                if until(chunk):
                    break
            else:
                raise AssertionError("it is over already")
            yield chunks

    def turns(self) -> list[Any]:
        """All that is kept of it."""
        answer = httpx.get(f"{self.gateway.url}/v1/conversations/{self.id}")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["turns"])

    def states(self) -> list[str]:
        """How far each turn is, as soon as none runs."""
        deadline = time.monotonic() + 20
        while "running" in (states := [turn["state"] for turn in self.turns()]):
            assert time.monotonic() < deadline, "a turn still runs"
            time.sleep(0.05)
        return states


def _chunks(lines: Iterator[str]) -> Iterator[Any]:
    for line in lines:
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def calling(chunk: Any) -> bool:
    return bool(chunk.get("skill_event", {}).get("type") == "skill_use")


def climbing(chunk: Any) -> bool:
    return bool(chunk.get("skill_event", {}).get("type") == "skill_progress")


def said(chunk: Any) -> str:
    return "".join(choice["delta"].get("content", "") for choice in chunk["choices"])


# --- what is served


@dataclass(frozen=True)
class Served:
    """A gateway and all that it needs."""

    gateway: Program
    lmm: Program
    worker: Program
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway whose SQLite file and artifacts are on a small disk of their own, where may be."""
    folder = tmp_path_factory.mktemp("faults")
    disk = folder / "disk"
    disk.mkdir()
    toys = install_toys(folder / "toys")
    path = f"{toys}:{os.environ.get('PYTHONPATH', '')}"
    with ExitStack() as stack:
        if mounted(disk):
            stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=True)
        lmm = stack.enter_context(lmm_program(folder))
        worker = worker_program(folder, "climb", "look", "slow", PYTHONPATH=path)
        stack.enter_context(worker)
        database = f"sqlite+aiosqlite:///{disk}/chats.sqlite"
        gateway = gateway_program(disk, lmm, worker, database, folder)
        yield Served(stack.enter_context(gateway), lmm, worker, disk)


def mounted(folder: Path) -> bool:
    """Mount a disk of 64 MB; false for whoever may not."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


# --- who dies


def test_a_worker_is_killed_in_the_middle_of_a_call(served: Served) -> None:
    chat = Chat(served.gateway)
    with chat.asking(LONG_CLIMB, climbing) as rest:
        served.worker.kill()
        *_, last = rest
    assert last["error"]["code"] == "unavailable"
    assert last["error"]["message"] == UNREACHED
    assert f"worker {served.worker.url} died while running 'climb'" in served.gateway.log
    unreached = chat.post(CLIMB)
    assert unreached.status_code == 503
    assert unreached.json()["error"]["message"] == UNREACHED
    assert f"worker {served.worker.url} cannot be reached" in served.gateway.log
    failed, again = chat.turns()
    assert served.worker.url not in json.dumps([failed, again]), "where it is, is the operator's"
    assert failed["error"]["message"] == UNREACHED
    _, called, brought = failed["messages"]
    assert called["tool_calls"][0]["function"]["name"] == "climb"
    assert UNREACHED in brought["content"]
    kept = f"{served.gateway.url}/v1/conversations/{chat.id}"
    record = httpx.get(f"{kept}/export").json()
    assert [message["role"] for message in record["messages"]] == ["user"], "no call, no result"

    served.worker.start()
    retried = httpx.post(f"{kept}/turns/{again['id']}/retry", timeout=30).json()
    assert retried["choices"][0]["message"]["content"] == "It brought: there"
    assert chat.ask(CLIMB) == "It brought: there"
    assert chat.states() == ["failed", "failed", "finished", "finished"]


def test_the_lmm_is_killed_in_the_middle_of_an_answer(served: Served) -> None:
    chat = Chat(served.gateway)
    chat.ask("Hello.")
    with chat.asking(LONG_ANSWER, said) as rest:
        served.lmm.kill()
        *_, last = rest
    assert last["error"]["code"] == "unavailable"
    assert last["error"]["message"].startswith("the LMM 'obedient' broke off")
    assert served.lmm.url not in json.dumps([last, *chat.turns()])
    assert served.lmm.url in served.gateway.log
    served.lmm.start()
    assert chat.ask("Hello again.") == "This is request 2.", "the one without an answer is left out"
    assert chat.states() == ["finished", "failed", "finished"]


def test_the_gateway_is_killed_in_the_middle_of_a_turn(served: Served) -> None:
    chat = Chat(served.gateway)
    assert chat.ask(LOOK, image=png()) == "It brought: 8 x 6, (0, 0, 255)"
    (before,) = chat.turns()
    with chat.asking(LONG_ANSWER, said) as rest:
        served.gateway.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            list(rest)
    served.gateway.start()
    first, second = chat.turns()
    assert (first, second["state"]) == (before, "running"), "for as long as its lease is"
    assert asyncio.run(states_later(served, chat)) == ["finished", "interrupted"]
    assert chat.ask(LOOK) == "It brought: 8 x 6, (0, 0, 255)", "the image is there"
    assert chat.ask("Hello.") == "This is request 3."


async def states_later(served: Served, chat: Chat) -> list[str]:
    """The states of a conversation's turns when a lease from now is over."""
    assert chat.id
    places = f"sqlite+aiosqlite:///{served.folder}/chats.sqlite", str(served.folder / "artifacts")
    later = datetime.now(UTC) + timedelta(seconds=LEASE_SECONDS)
    async with open_store(*places, clock=lambda: later) as store:
        return [turn.state.value for turn in await store.turns(chat.id, "local")]


# --- who goes away, or does not listen


def test_a_client_that_reads_nothing_holds_up_nobody(served: Served) -> None:
    silent, chat = Chat(served.gateway), Chat(served.gateway)
    silent.ask("Hello.")
    body = json.dumps(silent.body("say 3000 x 2000 every 0", stream=True)).encode()
    host, port = served.gateway.url.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        while len(silent.turns()) < 2:
            time.sleep(0.02)
        assert chat.ask("Hello.") == "This is request 1."
        assert silent.states() == ["finished", "finished"], "6 MB are more than waits on the way"
    assert len(silent.turns()[-1]["messages"][-1]["content"]) == 3000 * 2000


def test_a_client_that_goes_away_takes_its_waiting_call_with_it(served: Served) -> None:
    """A skill that runs cannot be ended; one that waits for its slot never begins."""
    first, gone, last = (Chat(served.gateway) for _ in range(3))
    with first.asking('call slow {"seconds": 3}', calling) as rest:
        with gone.asking('call slow {"seconds": 0}', calling):
            time.sleep(0.5)  # until it waits
        assert gone.states() == ["stopped"]
        assert "It brought: 1" in [said(chunk) for chunk in rest]
    assert last.ask('call slow {"seconds": 0}') == "It brought: 2"


# --- a disk that is full


@contextmanager
def no_room_left(served: Served, way: str) -> Iterator[None]:
    """Nothing can be written any more."""
    if way == "the process may not":
        limits = resource.prlimit(served.gateway.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(served.gateway.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        try:
            yield
        finally:
            resource.prlimit(served.gateway.pid, resource.RLIMIT_FSIZE, limits)
        return
    if not served.folder.is_mount():
        pytest.skip("a small disk cannot be mounted here")
    ballast = served.folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
    finally:
        ballast.unlink()


@pytest.mark.parametrize("way", ["the process may not", "the disk is full"])
def test_a_full_disk_loses_nothing_that_is_kept(served: Served, way: str) -> None:
    chat = Chat(served.gateway)
    chat.ask("Hello.")
    with chat.asking("say 10 x 10 every 0.1", said) as rest:
        with no_room_left(served, way):
            refused = chat.post(LOOK, image=png("red", 400, 300))
            kept = chat.turns()[0]
            time.sleep(1.5)
        *_, last = rest
    problem = refused.json()["error"]
    assert (refused.status_code, problem["code"]) == (503, "unavailable")
    assert "just now" in problem["message"]
    assert kept["messages"][-1]["content"] == "This is request 1."
    assert last["choices"][0]["finish_reason"] == "stop", "it was kept as soon as there was room"
    assert chat.ask("Hello.") == "This is request 3."
    assert chat.states() == ["finished", "finished", "finished"]
    assert not list(served.folder.rglob("*.part"))


# --- two gateways on one PostgreSQL


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def pair(
    served: Served, database: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Program, Program]]:
    """Two gateways that share a database and a folder."""
    folder = tmp_path_factory.mktemp("pair")
    programs = [
        gateway_program(folder, served.lmm, served.worker, database.url, folder) for _ in range(2)
    ]
    with programs[0] as one, programs[1] as other:
        yield one, other


def test_a_conversation_goes_on_at_another_gateway(pair: tuple[Program, Program]) -> None:
    chat = Chat(pair[0])
    chat.ask("Hello.", image=png())
    chat.gateway = pair[1]
    assert chat.ask(LOOK) == "It brought: 8 x 6, (0, 0, 255)"
    chat.gateway = pair[0]
    assert chat.ask("Hello.") == "This is request 3."
    *_, head = chat.turns()

    beside = Chat(pair[1])
    beside.id = chat.id
    with ThreadPoolExecutor() as threads:
        asked = [threads.submit(each.ask, "say 5 x 5 every 0.2") for each in (chat, beside)]
        assert len({answer.result() for answer in asked}) == 1
    *_, one, other = chat.turns()
    assert chat.states() == ["finished"] * 5
    assert one["parent"] == other["parent"] == head["id"]


def test_the_database_is_killed_in_the_middle_of_a_turn(
    pair: tuple[Program, Program], database: Postgres
) -> None:
    gateway, _ = pair
    chat = Chat(gateway)
    chat.ask("Hello.")
    (kept,) = chat.turns()
    with chat.asking("say 5 x 5 every 0.1", said) as rest:
        database.kill()
        deadline = time.monotonic() + 10
        while (ready := httpx.get(f"{gateway.url}/readyz")).status_code == 200:
            assert time.monotonic() < deadline, "its connections outlive it"
        refused = chat.post("Hello.")
        time.sleep(1)  # the answer is there, and cannot be kept yet
        database.start()
        *_, last = rest
    assert refused.status_code == 503
    assert "just now" in refused.json()["error"]["message"]
    assert "127.0.0.1" not in refused.text + ready.text
    assert "127.0.0.1" in gateway.log
    assert (ready.status_code, list(ready.json()["problems"])) == (503, ["database"])
    assert last["choices"][0]["finish_reason"] == "stop"
    assert httpx.get(f"{gateway.url}/readyz").status_code == 200
    assert chat.states() == ["finished", "finished"]
    assert chat.turns()[0] == kept
    assert chat.ask("Hello.") == "This is request 3."
