"""A real PostgreSQL for the tests, on a loopback port, with its files in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Postgres", "postgres", "postgres_server"]

_SECONDS = 60
_QUICK = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a database that is empty at first; skips where no PostgreSQL is installed."""
    with postgres_server() as server:
        yield server.url


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A server of its own that runs; skips where no PostgreSQL is installed."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL on this machine")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    user = _user()
    if user:
        shutil.chown(folder, **user)
    try:
        server = Postgres(binaries, folder, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


class Postgres:
    """A server whose files are in `folder`; it can be killed and started again."""

    def __init__(self, binaries: Path, folder: Path, user: dict[str, Any]) -> None:
        port = _free_port()
        self.url = f"postgresql+asyncpg://tests@127.0.0.1:{port}/postgres"
        self._options = {"cwd": folder, "stdout": subprocess.DEVNULL, **user}
        self._log = folder / "log"
        data = folder / "data"
        made: list[Any] = [binaries / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-N"]
        subprocess.run([*made, "-E", "UTF8", "--locale=C"], check=True, **self._options)
        settings = [f"--{name}={value}" for name, value in _QUICK.items()]
        command: list[Any] = [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder]
        self._command = [*command, "-h", "127.0.0.1", *settings]

    def start(self) -> None:
        """Run it, and wait until it answers."""
        with self._log.open("wb") as log:
            process: subprocess.Popen[bytes]
            process = subprocess.Popen(self._command, stderr=log, **self._options)
        self._process = process
        _wait(process, self._log)

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        self._process.wait(_SECONDS)

    def kill(self) -> None:
        """End its first process as the kernel does when memory is short; the others follow."""
        self._process.kill()
        self._process.wait(_SECONDS)


def _binaries() -> Path | None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    on_path = shutil.which("initdb")
    found = [Path(on_path).parent] if on_path else []
    return next((place for place in [*found, *installed] if (place / "postgres").exists()), None)


def _version(place: Path) -> int:
    return int(place.parent.name) if place.parent.name.isdigit() else 0


def _user() -> dict[str, Any]:
    """Whom PostgreSQL runs as: it refuses to be root."""
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name for entry in pwd.getpwall()}
    name = "postgres" if "postgres" in known else "nobody"
    return {"user": name, "group": pwd.getpwnam(name).pw_gid}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    assert isinstance(port, int)
    return port


def _wait(server: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers; it listens a moment before."""
    deadline = time.monotonic() + _SECONDS
    while "ready to accept connections" not in (told := log.read_text()):
        assert server.poll() is None, told
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
