"""`llava-plus serve` as a process: it answers clients, keeps strangers out, and ends in order."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from llava_plus.agent import cli
from llava_plus.skills import SkillUse

from ..serving import install_toys, png
from .scripted_server import Reply, scripted_server

PROGRAM = (sys.executable, "-m", "llava_plus.agent")
QUESTION: list[Any] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "How large is it?"},
            {
                "type": "image_url",
                "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png()).decode()}"},
            },
        ],
    }
]
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
STREAMED = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The toy skills are installed, and conversations are kept in the test's folder."""
    return {
        **os.environ,
        "PYTHONPATH": f"{install_toys(tmp_path / 'toys')}:{os.environ.get('PYTHONPATH', '')}",
        "LLAVA_PLUS_DATABASE__URL": f"sqlite+aiosqlite:///{tmp_path}/chats.sqlite",
        "LLAVA_PLUS_DATABASE__ARTIFACTS": str(tmp_path / "artifacts"),
    }


def run(*arguments: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        env=env,
        cwd=env["LLAVA_PLUS_DATABASE__ARTIFACTS"].rpartition("/")[0],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Server:
    """A server that runs, and where."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self.url = url
        self.log = ""

    def stop(self) -> int:
        """Ask it to end; gives its exit code."""
        self._process.send_signal(signal.SIGTERM)
        _, self.log = self._process.communicate(timeout=30)
        return self._process.returncode

    def client(self, key: str = "any") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)


@contextmanager
def serving(*replies: Reply, env: dict[str, str], options: str) -> Iterator[Server]:
    with scripted_server(*replies) as (lmm, _):
        command = [*PROGRAM, "serve", "--port", "0", "--no-page", "--lmm", lmm, *options.split()]
        folder = env["LLAVA_PLUS_DATABASE__ARTIFACTS"].rpartition("/")[0]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=folder,
        ) as process:
            try:
                assert process.stdout
                assert process.stderr
                line = process.stdout.readline()
                found = re.search(r"http://\S+", line)
                assert found, process.stderr.read()
                yield Server(process, found[0])
            finally:
                process.kill()


def test_a_client_of_openai_gets_answers_up_to_an_orderly_end(environment: dict[str, str]) -> None:
    says = (
        *(SkillUse(id="a", name="look", arguments={"image": "img_1"}), "Eight by six."),
        *(SkillUse(id="b", name="slow", arguments={"seconds": 2}), "Done."),
    )
    heard: list[str] = []
    began = threading.Event()
    with (
        serving(*says, env=environment, options="--skills look,slow") as server,
        server.client() as client,
    ):
        assert [model.id for model in client.models.list()] == ["scripted"]
        answer = client.chat.completions.create(model="scripted", messages=QUESTION)
        assert (answer.choices[0].message.content or "").strip() == "Eight by six."
        assert httpx.get(f"{server.url}/readyz").json()["ready"] is True
        refused = httpx.get(f"{server.url}/v1/models", headers={"Host": "evil.example"})
        assert refused.status_code == 403
        opened = httpx.post(f"{server.url}/mcp", json=INITIALIZE, headers=STREAMED)
        assert '"name":"llava-plus"' in opened.text
        assert 'skill="look"' in httpx.get(f"{server.url}/metrics").text

        def listen() -> None:
            with client.chat.completions.create(
                model="scripted", messages=QUESTION, stream=True
            ) as stream:
                for chunk in stream:
                    began.set()
                    heard.extend(choice.delta.content or "" for choice in chunk.choices)

        listening = threading.Thread(target=listen)
        listening.start()
        assert began.wait(20)
        assert server.stop() == 0
        listening.join()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/readyz")
    assert "".join(heard).strip() == "Done.", "a turn that runs has some seconds more"
    assert "Traceback" not in server.log


def test_who_can_be_reached_by_others_must_ask_for_a_key(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = run("serve", "--host", "0.0.0.0", "--port", "0", env=environment)
    assert refused.returncode == 2
    assert "llava-plus keys create" in refused.stderr
    assert refused.stderr.count("\n") == 1, "nothing was loaded for it"

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["keys", "create", "Ann", "--scope", "chat", "--json"]) == 0
    key = json.loads(capsys.readouterr().out)
    with serving("Hello.", env=environment, options="--host 0.0.0.0 --skills=") as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        messages: list[Any] = [{"role": "user", "content": "Hello?"}]
        with server.client("sk-other") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with server.client(key["key"]) as client:
            client.chat.completions.create(model="scripted", messages=messages)
            assert cli.main(["keys", "revoke", key["id"]]) == 0
            until = time.monotonic() + 5
            while _is_let_in(client):
                assert time.monotonic() < until, "a revoked key must end within 5 s"
                time.sleep(0.2)
        assert server.stop() == 0
    assert key["key"] not in server.log
    capsys.readouterr()
    assert cli.main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith(key["id"])
    assert "revoked" in listed
    assert key["key"] not in listed
    assert cli.main(["keys", "revoke", "key_nothing"]) == 2


def _is_let_in(client: openai.OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return False
    return True


def test_a_port_that_is_taken_is_told(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("serve", "--port", port, env=environment)
    assert refused.returncode == 2
    assert f"cannot listen at 127.0.0.1, port {port}" in refused.stderr
    assert refused.stderr.count("\n") == 1
