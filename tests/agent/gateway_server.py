"""A gateway over real HTTP, with a scripted LMM and real skills in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from llava_plus.agent.chats import Chats
from llava_plus.agent.dispatcher import LocalDispatcher
from llava_plus.agent.gateway.app import create_app
from llava_plus.agent.settings import Settings
from llava_plus.agent.store.store import open_store
from llava_plus.model.lmm import LMM
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.skills.worker import listen, server_config
from openai import OpenAI

from .. import toy_skills
from ..toy_skills import Climb, Cover, Hang, Look, Noop, Paint, Refuse

SKILLS = (Noop(), Look(), Paint(), Cover(), Climb(), Hang(), Refuse())


@dataclass(frozen=True)
class Gateway:
    """A gateway that listens: a plain client, OpenAI's own, and what is behind it."""

    url: str
    chats: Chats
    http: httpx.Client
    openai: OpenAI

    def settled(self, conversation: str) -> dict[str, Any]:
        """The last turn of a conversation as soon as it no longer runs."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            turn = self.http.get(f"/v1/conversations/{conversation}").json()["turns"][-1]
            if turn["state"] != "running":
                return dict(turn)
            time.sleep(0.02)
        raise AssertionError("the turn still runs")


@contextmanager
def gateway(
    folder: Path, lmm: LMM | Sequence[Any], *, key: str = "any", **settings: Any
) -> Iterator[Gateway]:
    """A gateway that keeps what it keeps in `folder`; `lmm` may be the replies of a script.

    OpenAI's client shows `key` and tries nothing twice.
    """
    script = ScriptedLMM(lmm) if isinstance(lmm, Sequence) else lmm
    with served(folder, script, Settings(**settings)) as (url, chats):
        http = httpx.Client(base_url=url, timeout=30)
        client = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30)
        with http, client:
            yield Gateway(url, chats, http, client)


@contextmanager
def served(folder: Path, lmm: LMM, settings: Settings) -> Iterator[tuple[str, Chats]]:
    """The store, the chats and the app in the loop of a thread of their own."""
    running: list[tuple[uvicorn.Server, Chats]] = []
    ready = threading.Event()

    async def serve() -> None:
        places = f"sqlite+aiosqlite:///{folder}/chats.sqlite", str(folder / "artifacts")
        async with open_store(*places) as store:
            dispatcher = LocalDispatcher(SKILLS)
            chats = Chats(store, {lmm.name: lmm}, dispatcher, await dispatcher.specs())
            server = uvicorn.Server(server_config(create_app(chats, settings, page=False)))
            running.append((server, chats))
            ready.set()
            await server.serve(sockets=[listening])
            await dispatcher.aclose()

    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        while not ready.wait(0.05):
            assert thread.is_alive(), "the gateway did not start"
        server, chats = running[0]
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", chats
        finally:
            toy_skills.RELEASE.set()
            server.should_exit = True
            thread.join()
            toy_skills.RELEASE.clear()
