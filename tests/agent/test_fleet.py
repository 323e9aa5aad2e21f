"""Worker processes: they get ready, die loudly, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import HttpDispatcher
from llava_plus.agent.fleet import start_fleet
from llava_plus.skills import ImageStore, SkillResult, SkillUse
from llava_plus.skills.errors import BadConfiguration, WorkerUnavailable

from ..serving import install_toys

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", install_toys(tmp_path / "toys"))


async def dispatch(dispatcher: HttpDispatcher, name: str, seconds: float = 5) -> SkillResult:
    return await dispatcher.dispatch(
        SkillUse(id="call_1", name=name, arguments={}),
        CallScope(store=ImageStore(), deadline=time.monotonic() + seconds),
    )


def gone(url: str) -> bool:
    try:
        httpx.get(f"{url}/livez")
    except httpx.ConnectError:
        return True
    except httpx.TransportError:  # on its way out
        return False
    return False


async def until_gone(url: str) -> None:
    deadline = time.monotonic() + 5
    while not gone(url):
        assert time.monotonic() < deadline, "the worker is still there"
        await asyncio.sleep(0.05)


async def test_serves_groups_and_stops_them() -> None:
    async with start_fleet([["noop", "look"], ["refuse"]]) as fleet:
        assert len(fleet.urls) == 2
        assert httpx.get(f"{fleet.urls[0]}/v1/skills").status_code == 401
        dispatcher = fleet.dispatcher()
        names = [spec.name for spec in await dispatcher.specs()]
        assert names == ["noop", "look", "refuse"]
        assert (await dispatch(dispatcher, "noop")).error is None
        await dispatcher.aclose()
    assert all(gone(url) for url in fleet.urls)


async def test_a_worker_killed_in_mid_call_is_named() -> None:
    async with start_fleet([["die", "noop"]]) as fleet:
        dispatcher = fleet.dispatcher()
        url = fleet.urls[0]
        with pytest.raises(WorkerUnavailable, match=f"worker {url} died while running 'die'"):
            await dispatch(dispatcher, "die")
        await until_gone(url)
        with pytest.raises(WorkerUnavailable, match=f"worker {url} cannot be reached"):
            await dispatch(dispatcher, "noop")
        await dispatcher.aclose()


@pytest.mark.parametrize(
    ("skills", "words"),
    [
        (["nobody"], "ended before it listened.*no skill 'nobody' is installed"),
        (["noop", "unready"], "unready: it could not be set up: OSError.*looking for weights"),
    ],
)
async def test_a_worker_that_does_not_get_ready_says_why(skills: list[str], words: str) -> None:
    with pytest.raises(WorkerUnavailable, match=f"(?s){words}"):
        async with start_fleet([["noop"], skills]):
            pytest.fail("the fleet must not be ready")


async def test_waiting_to_be_ready_has_an_end() -> None:
    with pytest.raises(WorkerUnavailable, match=r"not ready within 1 s: .*waking"):
        async with start_fleet([["waking"]], ready_within=1.0):
            pytest.fail("the fleet must not be ready")


async def test_no_skills_is_a_wrong_setting() -> None:
    with pytest.raises(BadConfiguration, match="at least one skill"):
        async with start_fleet([[]]):
            pytest.fail("the fleet must not be ready")


async def test_an_error_in_the_block_stops_the_workers() -> None:
    with pytest.raises(RuntimeError, match="ours"):
        async with start_fleet([["noop"]]) as fleet:
            raise RuntimeError("ours")
    assert gone(fleet.urls[0])


async def test_a_hung_skill_does_not_keep_its_worker_alive() -> None:
    async with start_fleet([["hang"]]) as fleet:
        dispatcher = fleet.dispatcher()
        with pytest.raises(WorkerUnavailable):
            await dispatch(dispatcher, "hang", seconds=0.1)
        await dispatcher.aclose()
        start = time.monotonic()
    assert gone(fleet.urls[0])
    assert time.monotonic() - start < 5


PARENT = """
import asyncio
from llava_plus.agent.fleet import start_fleet

async def main():
    async with start_fleet([["noop"]]) as fleet:
        print(fleet.urls[0], flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
async def test_no_worker_outlives_its_parent(sign: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=dict(os.environ),
    )
    assert parent.stdout
    url = parent.stdout.readline().strip()
    assert not gone(url)
    parent.send_signal(sign)
    parent.communicate()
    await until_gone(url)
