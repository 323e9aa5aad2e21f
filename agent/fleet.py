"""Workers as processes of this machine, for as long as a block of code runs."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn

import httpx
from pydantic import ValidationError

from ..skills.errors import BadConfiguration, WorkerUnavailable
from ..skills.wire import SECRET_VARIABLE, Readiness
from .dispatcher import HttpDispatcher

__all__ = ["Fleet", "start_fleet"]

_STOP_SECONDS = 6.0
"""For an orderly stop; a little more than a worker itself gives the calls in flight."""

_LAST_LINES = 30

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fleet:
    """Workers that are ready, and the secret that they ask for."""

    urls: tuple[str, ...]
    secret: str

    def dispatcher(self) -> HttpDispatcher:
        """A dispatcher to these workers."""
        return HttpDispatcher(self.urls, secret=self.secret)


@asynccontextmanager
async def start_fleet(
    groups: Sequence[Sequence[str]], *, device: str = "cpu", ready_within: float = 180.0
) -> AsyncIterator[Fleet]:
    """Start one worker process for each group of skill names, and stop them all at the end.

    On two cores one group with every skill is right: threads share what is loaded. Raises
    `WorkerUnavailable` with a worker's last words when one does not get ready.
    """
    if not groups or not all(groups):
        raise BadConfiguration("each worker needs the name of at least one skill")
    secret = secrets.token_urlsafe(32)
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(_start(group, device, secret)) for group in groups
        ]
        try:
            async with asyncio.timeout(ready_within):
                urls = await asyncio.gather(*(worker.ready() for worker in workers))
        except TimeoutError:
            told = "; ".join(worker.doing for worker in workers)
            raise WorkerUnavailable(f"not ready within {ready_within:.0f} s: {told}") from None
        yield Fleet(tuple(urls), secret)


class _WorkerProcess:
    """One worker process and what it says."""

    def __init__(self, process: Process, skills: Sequence[str]) -> None:
        self.doing = f"the worker for {', '.join(skills)} does not listen yet"
        self._process = process
        self._skills = ", ".join(skills)
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Keep the last lines of standard error; they are warnings and errors, so log them."""
        assert self._process.stderr
        while line := await self._read_line(self._process.stderr):
            text = line.decode(errors="replace").rstrip()
            self._last_lines.append(text)
            log.warning("worker for %s: %s", self._skills, text)

    @staticmethod
    async def _read_line(stream: asyncio.StreamReader) -> bytes:
        try:
            return await stream.readline()
        except ValueError:  # longer than the buffer, which is then dropped
            return b"(a line too long to show)"

    async def ready(self) -> str:
        """Wait until every skill is set up, and give the URL. Raises `WorkerUnavailable`."""
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            await self._fail("ended before it listened")
        url: str = json.loads(line)["url"]
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
            while not await self._is_ready(client):
                await asyncio.sleep(0.02)
        return url

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
            response = await client.get("/readyz")
            readiness = Readiness.model_validate_json(response.content)
        except (httpx.TransportError, ValidationError) as error:
            if isinstance(error, httpx.TimeoutException):
                return False
            await self._fail(f"cannot be asked whether it is ready ({error})")
        waiting = {name: state for name, state in readiness.skills.items() if state.reason}
        told = "; ".join(f"{name}: {state.reason}" for name, state in waiting.items())
        self.doing = f"the worker for {self._skills} waits for {told}"
        if any(state.state == "broken" for state in waiting.values()):
            await self._fail(f"cannot serve: {told}")
        return readiness.ready

    async def _fail(self, what: str) -> NoReturn:
        """Raise with the last words of the worker, whole when it has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                code = await self._process.wait()
                what += f" (exit code {code})"
                await asyncio.shield(self._listening)
        words = "\n".join(self._last_lines) or "(it said nothing)"
        raise WorkerUnavailable(f"the worker for {self._skills} {what}; its last words:\n{words}")

    async def stop(self) -> None:
        """End the process: at first by asking, in the end by force."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            log.warning("worker for %s does not stop; it is killed", self._skills)
        finally:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            await self._listening


@asynccontextmanager
async def _start(skills: Sequence[str], device: str, secret: str) -> AsyncIterator[_WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "llava_plus.skills.worker",
        *("--device", device, "--exit-with-parent", *skills),
        # The open pipe is the worker's sign that we live: however we end, it closes.
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, SECRET_VARIABLE: secret},
        # Ctrl-C is for us; we then stop the workers ourselves.
        start_new_session=True,
    )
    worker = _WorkerProcess(process, skills)
    try:
        yield worker
    finally:
        await worker.stop()
