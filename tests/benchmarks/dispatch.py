"""Cost of a skill call: HttpDispatcher and worker against a bare FastAPI echo.

    python tests/benchmarks/dispatch.py [--rounds 300]

Both servers are processes with the same uvicorn settings, both clients are httpx with the same
settings, and the two take turns, call by call. The skill does nothing. "first time" sends a
2-megapixel JPEG that the server has never seen: the echo receives the same bytes in the same
two requests, either without looking at them, or checking and keeping the image as a worker
must, which is the fair measure of the way to it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from statistics import median, quantiles

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import HttpDispatcher
from llava_plus.skills import ImageArgument, ImageRef, ImageStore, Skill, SkillOutput, SkillUse
from llava_plus.skills.images import read_image
from llava_plus.skills.wire import DEADLINE_HEADER, CallRequest
from llava_plus.skills.worker import STORE_BYTES, listen, serve, server_config
from PIL import Image
from rich.console import Console
from rich.table import Table

FIRST_TIME = "2 MP image, first time"
WARM_UP = 20

Measured = Callable[[], Awaitable[object]]


class Nothing(SkillOutput):
    """An empty finding."""

    def summary(self) -> str:
        return "Nothing was done."


class Noop(Skill):
    """The skill whose own time is zero."""

    name = "noop"
    description = "Do nothing."

    def run(self, text: str, image: ImageArgument | None = None) -> Nothing:
        return Nothing()


def serve_worker() -> None:
    serve([Noop()], on_listening=lambda url, server: _say(url))


def serve_echo() -> None:
    app = FastAPI()
    store = ImageStore(STORE_BYTES)

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    @app.put("/receive")
    async def receive(request: Request) -> Response:
        size = len(await request.body())
        return Response(b'{"bytes":%d}' % size, 201, media_type="application/json")

    @app.put("/check")
    async def check(request: Request) -> Response:
        ref = await asyncio.to_thread(store.add, await request.body())
        return Response(ref.model_dump_json(), 201, media_type="application/json")

    with listen("127.0.0.1", 0) as listening:
        _say(f"http://127.0.0.1:{listening.getsockname()[1]}")
        uvicorn.Server(server_config(app)).run(sockets=[listening])


def _say(url: str) -> None:
    sys.stdout.write(url + "\n")
    sys.stdout.flush()


@contextmanager
def server(role: str) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, __file__, role], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


class Bench:
    """Both sides of the comparison, and the image that they send."""

    def __init__(self, worker_url: str, echo_url: str) -> None:
        self.dispatcher = HttpDispatcher([worker_url])
        self.echo_url = echo_url
        self.client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=2.0),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=30),
            trust_env=False,
        )
        self.store = ImageStore(max_bytes=64 * 1024 * 1024)
        self.jpeg = _two_megapixels()
        self.known = self.store.add(self.jpeg)
        self.images_made = 0

    def fresh(self) -> ImageRef:
        """The same picture under a new hash: a JPEG may have bytes after its end."""
        self.images_made += 1
        return self.store.add(self.jpeg + self.images_made.to_bytes(8, "big"))

    async def dispatch(self, use: SkillUse, images: dict[str, ImageRef]) -> None:
        result = await self.dispatcher.dispatch(
            use, CallScope(images=images, store=self.store, deadline=time.monotonic() + 30)
        )
        assert result.error is None

    async def echo(self, body: bytes) -> None:
        headers = {DEADLINE_HEADER: "30.000"}
        response = await self.client.post(f"{self.echo_url}/echo", content=body, headers=headers)
        assert len(response.content) == len(body)

    async def put(self, path: str, ref: ImageRef) -> None:
        headers = {"Content-Type": ref.media_type}
        data = self.store.data(ref)
        response = await self.client.put(f"{self.echo_url}/{path}", content=data, headers=headers)
        assert response.status_code == 201

    def cases(self) -> dict[str, tuple[Measured, ...]]:
        """What is compared: a dispatch first, and then what it is measured against."""
        plain = SkillUse(id="call_1", name="noop", arguments={"text": "hello"})
        seeing = SkillUse(id="call_1", name="noop", arguments={"text": "hello", "image": "img_1"})

        async def first_echo(path: str) -> None:
            await self.put(path, self.newest)
            await self.echo(_body(seeing, {"img_1": self.newest}))

        plain_body = _body(plain, {})
        known_body = _body(seeing, {"img_1": self.known})
        return {
            "no image": (lambda: self.dispatch(plain, {}), lambda: self.echo(plain_body)),
            "2 MP image, known": (
                lambda: self.dispatch(seeing, {"img_1": self.known}),
                lambda: self.echo(known_body),
            ),
            FIRST_TIME: (
                lambda: self.dispatch(seeing, {"img_1": self.newest}),
                lambda: first_echo("receive"),
                lambda: first_echo("check"),
            ),
        }

    async def measure(self, rounds: int) -> dict[str, list[list[float]]]:
        """Seconds of each side of each case, the sides taking turns at going first."""
        times: dict[str, list[list[float]]] = {}
        for case, sides in self.cases().items():
            times[case] = [[] for _ in sides]
            for turn in range(WARM_UP + (rounds // 5 if case == FIRST_TIME else rounds)):
                if case == FIRST_TIME:
                    self.newest = self.fresh()
                for step in range(len(sides)):
                    side = (turn + step) % len(sides)
                    start = time.perf_counter()
                    await sides[side]()
                    if turn >= WARM_UP:
                        times[case][side].append(time.perf_counter() - start)
        await self.dispatcher.aclose()
        await self.client.aclose()
        return times


def _body(use: SkillUse, images: dict[str, ImageRef]) -> bytes:
    hashes = {handle: ref.sha256 for handle, ref in images.items()}
    call = CallRequest(id=use.id, arguments=use.arguments, images=hashes)
    return call.model_dump_json().encode()


def _two_megapixels() -> bytes:
    """A JPEG of 1920 x 1080 with the texture, and so the size, of a photograph."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (135, 240, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((1920, 1080), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = np.clip(smooth + random.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def report(times: dict[str, list[list[float]]], jpeg: bytes) -> None:
    """Print medians and 95th percentiles, and how much slower than an echo a dispatch is."""
    table = Table(title="one call at a time, milliseconds", title_justify="left")
    table.add_column("case")
    for column in ("dispatch", "p95", "echo", "p95", "ratio"):
        table.add_column(column, justify="right")
    for case, (ours, *echoes) in times.items():
        for echo, name in zip(echoes, (case, "  echo checks the image too"), strict=False):
            cells = [f"{1000 * value:.2f}" for value in (median(ours), p95(ours))]
            cells += [f"{1000 * value:.2f}" for value in (median(echo), p95(echo))]
            table.add_row(name, *cells, f"{median(ours) / median(echo):.2f}")
    console = Console()
    console.print(table)
    checks = []
    for _ in range(20):
        start = time.perf_counter()
        read_image(jpeg)
        checks.append(time.perf_counter() - start)
    console.print(
        f"JPEG of {len(jpeg):,} bytes; checking it by decoding takes {1000 * median(checks):.1f} ms"
    )


def p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


async def compare(rounds: int) -> None:
    with server("worker") as worker_url, server("echo") as echo_url:
        bench = Bench(worker_url, echo_url)
        report(await bench.measure(rounds), bench.jpeg)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", choices=["worker", "echo"], help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=600)
    options = parser.parse_args()
    if options.role == "worker":
        serve_worker()
    elif options.role == "echo":
        serve_echo()
    else:
        asyncio.run(compare(options.rounds))
