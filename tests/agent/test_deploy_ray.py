"""Skills on Ray Serve: the same results as anywhere, and no call lost when a process is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.deploy.ray_settings import read_settings, settings_of
from llava_plus.agent.dispatcher import Dispatcher, HttpDispatcher, LocalDispatcher
from llava_plus.skills import ImageStore, Mask, SkillResult, SkillUse
from llava_plus.skills.adjust import Adjust
from llava_plus.skills.errors import BadConfiguration, DeadlineExceeded
from llava_plus.skills.images import MAX_BYTES
from llava_plus.skills.progress import Progress
from PIL import Image, ImageDraw

from ..serving import install_toys
from ..toy_skills import Climb, Cover, Crash, Look, Refuse
from .processes import free_port

needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="llava-plus[ray] brings Ray")
SKILLS = ("adjust", "look", "cover", "climb", "slow", "refuse", "crash")
SECRET = f"secret-{os.getpid()}-{time.time_ns()}"
SECONDS = 240
"""For Ray to start, and for an update; on a quiet machine it takes a tenth of that."""


class Cluster(NamedTuple):
    url: str
    address: str
    env: dict[str, str]

    def dispatcher(self, secret: str = SECRET) -> HttpDispatcher:
        return HttpDispatcher([self.url], secret=secret)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "llava_plus.agent", "deploy", "ray", *SKILLS, *arguments]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("ray")
    paths = [install_toys(folder / "toys"), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "LLAVA_PLUS_WORKER_SECRET": SECRET,
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_AUTH_MODE": "token",
        "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.01",
    }
    port = free_port()
    process, line = begun(folder, env, port)
    try:
        told = json.loads(line)
        assert told["url"] == f"http://127.0.0.1:{port}"
        yield Cluster(told["url"], told["cluster"], env)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(SECONDS)
    assert process.returncode == 0
    assert not replicas("")


def begun(folder: Path, env: dict[str, str], port: int) -> tuple[subprocess.Popen[bytes], bytes]:
    """The process that serves, and the line that it prints; on a busy machine the third try's.

    Ray gives a process of its own 15 seconds to start, and no setting gives it more.
    """
    told = ""
    for attempt in range(1, 4):
        log = folder / f"log-{attempt}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command("--port", str(port), "--cpus", "0.5"),
                env=env,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=folder,
            )
        assert process.stdout
        with process.stdout as said:
            line = said.readline()
        if line:
            return process, line
        process.wait(SECONDS)
        told += log.read_text()
    pytest.fail(told)


def replicas(deployment: str) -> set[int]:
    """The processes of a deployment of this test's cluster, as the kernel knows them."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            ours = SECRET.encode() in (folder / "environ").read_bytes()
        except OSError:  # it has just ended, or is another user's
            continue
        if ours and f"ServeReplica:llava-plus:{deployment}".encode() in title:
            found.add(int(folder.name))
    return found


async def dispatch(
    dispatcher: Dispatcher,
    name: str,
    arguments: dict[str, Any],
    *,
    seconds: float = 60,
    watch: Callable[[Progress], None] | None = None,
) -> SkillResult:
    store = ImageStore()
    scope = CallScope(
        store=store,
        deadline=time.monotonic() + seconds,
        images={"img_1": store.add(drawn())},
        masks={"mask_1": Mask.from_array(np.eye(64, dtype=bool))},
        watch=watch,
    )
    return await dispatcher.dispatch(SkillUse(id="call_1", name=name, arguments=arguments), scope)


def drawn() -> bytes:
    """A red disc on white, as PNG."""
    from io import BytesIO

    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).ellipse((8, 8, 40, 56), fill="red")
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("look", {"image": "img_1"}),
    ("adjust", {"operation": "rotate", "image": "img_1"}),
    ("adjust", {"operation": "grayscale", "image": "img_1", "target": [[0.1, 0.1, 0.6, 0.9]]}),
    ("cover", {"mask": "mask_1"}),
    ("climb", {"steps": 3, "pause": 0.15, "end": "a line\u2028and\nanother"}),
    ("climb", {"steps": 1, "pause": 0.15, "end": "fail"}),
    ("adjust", {"operation": "remove", "image": "img_1"}),
    ("look", {"image": "img_9"}),
    ("nobody", {}),
    ("refuse", {}),
    ("crash", {}),
]


@needs_ray
async def test_the_same_calls_give_the_same_results(cluster: Cluster) -> None:
    local = LocalDispatcher([Adjust(), Look(), Cover(), Climb(), Refuse(), Crash()])
    there = cluster.dispatcher()
    offered = {spec.name: spec for spec in await there.specs()}
    assert list(offered) == list(SKILLS)
    assert all(offered[spec.name] == spec for spec in await local.specs())
    for name, arguments in CALLS:
        heard: dict[Dispatcher, list[Progress]] = {local: [], there: []}
        expected, *others = [
            await dispatch(dispatcher, name, arguments, watch=heard[dispatcher].append)
            for dispatcher in (local, there)
        ] + [await dispatch(there, name, arguments)]
        if name == "nobody":  # which others there are
            assert [other.error and other.error.kind for other in others] == ["UnknownSkill"] * 2
            continue
        assert others == [expected] * 2
        assert heard[there] == heard[local]
    await local.aclose()
    await there.aclose()


@needs_ray
async def test_behind_ray_the_secret_and_the_limits_hold(cluster: Cluster) -> None:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=30) as client:
        deadline = time.monotonic() + 30
        while not (ready := await client.get("/readyz")).is_success:
            assert time.monotonic() < deadline, ready.text
            await asyncio.sleep(0.2)
        assert list(ready.json()["skills"]) == list(SKILLS)
        wrong = {"Authorization": "Bearer wrong"}
        refused = await client.post("/v1/skills/look", json={}, headers=wrong)
        assert (refused.status_code, refused.json()["error"]["kind"]) == (401, "BadSecret")
    address = httpx.URL(cluster.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    announced = f"Authorization: Bearer {SECRET}\r\nContent-Length: {MAX_BYTES + 1}"
    writer.write(f"PUT /v1/images/{'0' * 64} HTTP/1.1\r\nHost: x\r\n{announced}\r\n\r\n".encode())
    async with asyncio.timeout(30):
        assert b" 413 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@needs_ray
async def test_a_call_that_is_given_up_frees_its_slot(cluster: Cluster) -> None:
    dispatcher = cluster.dispatcher()
    begun = asyncio.Event()
    endless = {"steps": 10_000, "pause": 0.05}
    call = asyncio.create_task(
        dispatch(dispatcher, "climb", endless, watch=lambda progress: begun.set())
    )
    async with asyncio.timeout(30):
        await begun.wait()
    call.cancel()
    assert (await dispatch(dispatcher, "climb", {"steps": 1}, seconds=20)).text == "there"
    with pytest.raises(DeadlineExceeded):
        await dispatch(dispatcher, "climb", endless, seconds=0.5)
    assert (await dispatch(dispatcher, "climb", {"steps": 1}, seconds=20)).text == "there"
    await dispatcher.aclose()


class Load:
    """Calls one after the other, of three kinds at once, and what came of them."""

    def __init__(self, cluster: Cluster) -> None:
        self.done = 0
        self._dispatcher = cluster.dispatcher()
        self._on = True

    async def __aenter__(self) -> Load:
        slow = ("slow", {"seconds": 0.4})
        self._tasks = [
            asyncio.create_task(self._call(*call, watched))
            for call, watched in [(slow, False), (CALLS[1], False), (CALLS[4], True)]
        ]
        await self.more(3)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._on = False
        await asyncio.gather(*self._tasks)
        await self._dispatcher.aclose()

    async def more(self, calls: int) -> None:
        """Wait until so many more calls have been answered."""
        enough = self.done + calls
        while self.done < enough and not any(task.done() for task in self._tasks):
            await asyncio.sleep(0.05)

    async def _call(self, name: str, arguments: dict[str, Any], watched: bool) -> None:
        while self._on:
            watch = (lambda progress: None) if watched else None
            result = await dispatch(self._dispatcher, name, arguments, watch=watch, seconds=SECONDS)
            assert result.error is None
            self.done += 1


@needs_ray
@pytest.mark.parametrize("deployment", ["skills", "ingress"])
async def test_a_process_killed_under_load_costs_no_call(cluster: Cluster, deployment: str) -> None:
    async with Load(cluster) as load:
        (killed,) = replicas(deployment)
        os.kill(killed, signal.SIGKILL)
        await load.more(6)
    assert killed not in replicas(deployment)


async def updated(cluster: Cluster, *arguments: str) -> tuple[int | None, str, str]:
    """How `deploy ray` ended on a cluster that runs already, and what it wrote to both outputs."""
    process = await asyncio.create_subprocess_exec(
        *command("--address", cluster.address, *arguments),
        env=cluster.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@needs_ray
async def test_an_update_under_load_costs_no_call(cluster: Cluster) -> None:
    old = replicas("")
    async with Load(cluster) as load:
        ended, told, _ = await updated(cluster, "--cpus", "0.5")
        assert ended == 0
        assert json.loads(told) == {"url": cluster.url, "cluster": cluster.address}
        await load.more(3)
    deadline = time.monotonic() + 60
    while old & (left := replicas("")):
        assert time.monotonic() < deadline, "the old replicas do not leave"
        await asyncio.sleep(0.2)
    assert len(left) == len(old) == 2


@needs_ray
async def test_an_update_without_room_tells_what_it_asks_for_and_ends_in_time(
    cluster: Cluster,
) -> None:
    ended, _, told = await updated(cluster, "--cpus", "1000", "--timeout", "15")
    assert ended == 1
    waited, error = told.strip().splitlines()[-2:]
    for line in (waited, error):
        assert re.search(r"skills \(.*1 starting.*; each asks for 1000 CPU, 0 GPU\)", line)
        assert re.search(r"free in the cluster: [\d.]+ CPU, 0 GPU", line)
    assert "does not run after 15 s" in error
    there = cluster.dispatcher()
    assert (await dispatch(there, "climb", {"steps": 1})).text == "there"
    await there.aclose()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"groups": {"a": {"skill": ["ocr"]}}}, "groups.a.skill: Extra inputs"),
        ({"groups": {"a": {"skills": ["ocr"]}, "b": {"skills": ["ocr"]}}}, "one group: ocr"),
        ({"groups": {"a": {}, "b": {}}}, "only one group can do without"),
        ({"groups": {"a": {"replicas": 3, "max_replicas": 2}}}, "max_replicas is 2, replicas 3"),
        ({"groups": {"ingress": {}}}, "no group can be called 'ingress'"),
    ],
)
def test_settings_that_do_not_fit_are_told(values: dict[str, Any], words: str) -> None:
    with pytest.raises(BadConfiguration, match=words):
        settings_of(values)


def test_a_group_without_skills_gets_those_that_no_other_has(tmp_path: Path) -> None:
    file = tmp_path / "ray.toml"
    file.write_text('[groups.numbers]\nskills = ["calculate"]\ngpus = 0.5\n[groups.rest]\n')
    groups = read_settings(file).filled().groups
    assert groups["numbers"].place == "cuda"
    assert {"crop", "draw"} <= set(groups["rest"].skills)
    assert "calculate" not in groups["rest"].skills


@needs_ray
def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    there = ["--address", f"127.0.0.1:{free_port()}"]
    away = [sys.executable, "-m", "llava_plus.agent", "deploy", "ray", "crop", *there]
    done = subprocess.run(away, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode
    assert "there is no Ray cluster at 127.0.0.1" in done.stderr
