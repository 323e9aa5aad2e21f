"""Programs of the chat as processes of their own, each of which may be killed at any moment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

__all__ = ["Program", "free_port", "gateway_program", "lmm_program", "worker_program"]

_SECONDS = 60
_LLAVA_PLUS = (sys.executable, "-m", "llava_plus.agent")


class Program:
    """A program that answers at one address as long as it runs."""

    def __init__(self, command: list[str], port: int, env: Mapping[str, str], log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = command
        self._env = {**os.environ, **env}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Program:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process:
            self.kill()

    @property
    def pid(self) -> int:
        """The id of the process that runs."""
        assert self._process
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written to standard error since it was first started."""
        return self._log.read_text()

    def start(self) -> None:
        """Run it, and wait until it is ready."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                cwd=self._log.parent,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + _SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, by SIGKILL."""
        assert self._process
        self._process.kill()
        self._process.wait(_SECONDS)
        self._process = None

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False


def gateway_program(
    folder: Path, lmm: Program, worker: Program, database: str, logs: Path
) -> Program:
    """`llava-plus serve` with its artifacts below `folder`."""
    port = free_port()
    command = [*_LLAVA_PLUS, "serve", "--port", str(port), "--no-page", "--no-mcp"]
    command += ["--lmm", f"{lmm.url}/v1#obedient", "--workers", worker.url]
    command += ["--database", database]
    env = {"LLAVA_PLUS_DATABASE__ARTIFACTS": str(folder / "artifacts")}
    return Program(command, port, env, logs / f"gateway-{port}.log")


def worker_program(folder: Path, *skills: str, **env: str) -> Program:
    """`llava-plus worker`."""
    port = free_port()
    command = [*_LLAVA_PLUS, "worker", *skills, "--port", str(port)]
    return Program(command, port, env, folder / "worker.log")


def lmm_program(folder: Path) -> Program:
    """The server of `obedient_lmm.py`."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("obedient_lmm.py")), str(port)]
    return Program(command, port, {}, folder / "lmm.log")


def free_port() -> int:
    """A port at which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address: Any = listening.getsockname()
    return int(address[1])
