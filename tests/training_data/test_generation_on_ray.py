"""`llava-plus data generate --ray`: the same records, whatever process is lost on the way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from llava_plus.skills.errors import BadConfiguration, WorkerUnavailable

from .labeling import labeling
from .test_generation import generate, sign, stumbling, words, write_lines

needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="llava-plus[ray] brings Ray")
KEY = f"key-{os.getpid()}-{time.time_ns()}"
SECONDS = 120
"""For a run; on a quiet machine it takes a tenth of that."""
BEGIN = """
import sys, ray
told = ray.init("local", num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[1])
print(told.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


class Cluster(NamedTuple):
    address: str
    env: dict[str, str]
    folder: Path

    @contextmanager
    def running(self, *given: str) -> Iterator[subprocess.Popen[str]]:
        """A run of the command on this cluster, for up to 32 questions at once."""
        more = ["--json", "--ray", self.address, "--concurrency", "32"]
        program = [sys.executable, "-m", "llava_plus.agent", "data", *given, *more]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            program, env=self.env, stdout=pipe, stderr=pipe, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def processes(self, work: str) -> list[int]:
        """The processes of this cluster that do this work."""
        title, token = f"ray::{work}".encode(), self.env["RAY_AUTH_TOKEN"].encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if not (folder / "cmdline").read_bytes().startswith(title):
                    continue
                if token in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:  # it has just ended, or is another user's
                continue
        return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path is short
    env = {
        **os.environ,
        "LLAVA_PLUS_LABELER_API_KEY": KEY,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": f"{time.time_ns():064x}",
        "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.01",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    begin = [sys.executable, "-c", BEGIN, str(folder)]
    pipe = subprocess.PIPE
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(begin, env=env, stdin=pipe, stdout=pipe, stderr=log, text=True)
    try:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert address, (folder / "log").read_text()
        yield Cluster(address, env, folder)
    finally:
        process.communicate(timeout=SECONDS)
        shutil.rmtree(folder)


@pytest.fixture
def items(tmp_path: Path) -> Path:
    names = [f"{manner}-{number}" for manner in ("plain", "hasty", "stubborn") for number in "1234"]
    for name in names:
        sign(tmp_path / "photos" / f"{name}.png", name)
    rows = [{"id": name, "image": f"{name}.png", "captions": [f"A {name} sign."]} for name in names]
    return write_lines(tmp_path / "items.jsonl", *rows)


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def assert_same(one: Path, other: Path) -> None:
    for name in (one.name, f"{one.name}.refused.jsonl"):
        assert (other / name).read_bytes() == (one.parent / name).read_bytes()


@needs_ray
def test_killed_processes_cost_no_record_and_the_key_is_nowhere_in_rays_files(
    items: Path, tmp_path: Path, cluster: Cluster
) -> None:
    given = ["--kinds", "conversation,detail,tools", "--skills", "adjust"]
    here, there = (tmp_path / name / "r.jsonl" for name in ("here", "there"))
    for out in (here, there):
        out.parent.mkdir()
    with labeling(stumbling) as server:
        generate(items, server.url, here, *given)
        asked = len(server.answered)
        server.keys.clear()
        server.hangs_after = asked + 10
        with cluster.running(*words(items, server.url, there, *given)) as process:
            wait_until(lambda: server.waiting >= 12, process)
            askers = cluster.processes("MapWorker(MapBatches(_Asker))")
            assert len(askers) == 2
            (reader,) = cluster.processes("ReadQuestions")
            for lost in (askers[0], reader):
                os.kill(lost, signal.SIGKILL)
            server.hangs_after = float("inf")
            told, problems = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, problems
        assert f'"requests": {asked},' in told
        # Asked twice is at most what was under way.
        assert asked <= len(server.answered) - asked <= asked + 32
        assert server.keys == {f"Bearer {KEY}"}
    assert_same(here, there.parent)
    files = [path for path in cluster.folder.rglob("*") if path.is_file()]
    assert any("worker" in path.name for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in told + problems


@needs_ray
def test_a_killed_run_had_kept_to_its_limit_and_goes_on_with_what_was_kept(
    items: Path, tmp_path: Path, cluster: Cluster
) -> None:
    here, there = (tmp_path / name / "r.jsonl" for name in ("here", "there"))
    for out in (here, there):
        out.parent.mkdir()
    with labeling(stumbling) as server:
        generate(items, server.url, here)
        asked = len(server.answered)
        with cluster.running(*words(items, server.url, there, "--per-minute", "7")) as process:
            kept = there.with_name("r.jsonl.labels") / "said.jsonl"
            wait_until(lambda: kept.exists() and kept.read_bytes().count(b"\n") == 7, process)
            time.sleep(1)
            assert len(server.seen) == asked + 7
            process.kill()
        counts = generate(items, server.url, there)
        assert len(server.answered) == 2 * asked
    assert (counts["requests"], counts["known_before"]) == (asked - 7, 7)
    assert_same(here, there.parent)


@needs_ray
def test_what_the_labeler_refuses_is_told_in_its_words(
    items: Path, tmp_path: Path, cluster: Cluster
) -> None:
    with labeling(stumbling) as server:
        server.refuses = [(401, "0")] * 200
        with cluster.running(*words(items, server.url, tmp_path / "r.jsonl")) as process:
            _, problems = process.communicate(timeout=SECONDS)
    assert process.returncode == 2, problems
    assert (
        "401: not now (check the key in LLAVA_PLUS_LABELER_API_KEY or LLAVA_PLUS_API_KEY)"
        in problems
    )
    assert "Traceback" not in problems


def test_without_ray_it_is_said_what_is_missing(
    items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadConfiguration, match=r"--ray needs the packages of llava-plus\[ray\]"):
        generate(items, "http://127.0.0.1:1/v1#m", tmp_path / "r.jsonl", "--ray", "local")


@needs_ray
@pytest.mark.parametrize(
    ("address", "problem"),
    [("here", "'here' is no address of Ray"), ("127.0.0.1:1", "no Ray cluster at 127.0.0.1:1")],
)
def test_a_cluster_that_is_not_there_is_told_at_once(
    items: Path, tmp_path: Path, address: str, problem: str
) -> None:
    with pytest.raises((BadConfiguration, WorkerUnavailable), match=problem):
        generate(items, "http://127.0.0.1:1/v1#m", tmp_path / "r.jsonl", "--ray", address)
