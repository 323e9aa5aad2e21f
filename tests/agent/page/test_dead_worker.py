"""The page when a worker has died: what was asked for stays, and can be asked again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from llava_plus.agent.dispatcher import Dispatcher
from llava_plus.agent.fleet import Fleet, start_fleet
from llava_plus.agent.store.values import TurnState
from llava_plus.skills.wire import SECRET_VARIABLE
from playwright.sync_api import Browser, expect

from ..processes import Program
from .served_page import Server, needs_browser, opened, served

UNREACHED = "the skill 'adjust' cannot be reached just now"


@dataclass
class Worker:
    """The one worker of a fleet."""

    folder: Path
    fleets: list[Fleet] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.fleets[0].urls[0]

    @asynccontextmanager
    async def skills(self) -> AsyncIterator[Dispatcher]:
        async with start_fleet([["adjust"]]) as fleet:
            self.fleets.append(fleet)
            dispatcher = fleet.dispatcher()
            yield dispatcher
            await dispatcher.aclose()

    def kill(self) -> None:
        [process] = _children("llava_plus.skills.worker")
        os.kill(process, signal.SIGKILL)

    def back(self) -> Program:
        """The same worker, begun anew, as whoever looks after it would."""
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "llava_plus.skills.worker", "adjust", "--port", port]
        secret = {SECRET_VARIABLE: self.fleets[0].secret}
        return Program(command, int(port), secret, self.folder / "worker.log")


def _children(module: str) -> list[int]:
    """The processes that this one has started with a module."""
    tasks = Path("/proc/self/task").iterdir()
    found = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in found if module in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path)


@pytest.fixture
def server(worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    with served(tmp_path, worker.skills) as running:
        yield running


@needs_browser
def test_a_call_that_no_worker_took_is_shown_and_answered_when_the_worker_is_back(
    worker: Worker, server: Server, browser: Browser, picture: Path
) -> None:
    with opened(server, browser, viewport={"width": 1200, "height": 860}) as tab:
        tab.ask("Grey it, please.", picture)
        tab.done("So it is: Converted the image to grayscale.")
        worker.kill()
        tab.ask("Grey it once more.")
        for _ in ("as it happens", "after a reload"):
            tab.done(f"There is no answer yet: {UNREACHED}")
            fold = tab.unfold()
            expect(fold).to_contain_text('"operation": "grayscale"')
            expect(fold.locator("pre").last).to_have_text(UNREACHED)
            expect(tab.find("#again")).to_be_visible()
            everything = tab.page.content()
            assert worker.url not in everything
            assert "Traceback" not in everything
            tab.page.reload()
        assert [turn.state for turn in server.turns(2)] == [TurnState.FINISHED, TurnState.FAILED]

        with worker.back():
            tab.chat.get_by_label("Retry").click()
            expect(tab.chat.get_by_text("There is no answer yet")).to_have_count(0)
            tab.done("So it is: Converted the image to grayscale.")
            *_, failed, again = server.turns(3)
        assert (again.state, again.parent) == (TurnState.FINISHED, failed.parent)
