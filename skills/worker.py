"""The worker: one FastAPI app that serves any set of skills, and the process around it.

    python -m llava_plus.skills.worker ocr detect --port 8001

The HTTP API is written down in docs/worker-protocol.md. `create_app` holds no state outside
the app, so the same app also runs under another ASGI server.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import logging
import math
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from .calls import SkillUse
from .discovery import load_skill
from .errors import BadInput, LlavaPlusError, WorkerUnavailable
from .images import MAX_BYTES, ImageRef, ImageStore
from .runner import QUEUE, Runner, SkillRunner
from .skill import Skill, describe_validation
from .streaming import answer_in_lines, unless_gone, wants_lines
from .wire import (
    DEADLINE_HEADER,
    MAX_REQUEST_BYTES,
    SECRET_VARIABLE,
    BadSecret,
    CallRequest,
    ImagesMissing,
    Readiness,
    SkillCards,
    TooBusy,
    TooLarge,
    UnknownImage,
    encode_problem,
    encode_result,
    status_of,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from starlette.types import ASGIApp, Receive, Scope, Send

    from .tracing import RunSpans

__all__ = [
    "COLLECTOR_VARIABLE",
    "LOOPBACK",
    "create_app",
    "listen",
    "main",
    "read_body",
    "run_spans",
    "serve",
    "serve_app",
    "server_config",
    "worker_app",
]

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that only this machine reaches."""

COLLECTOR_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Environment variable of OpenTelemetry with the address to which `serve` sends spans."""

STORE_BYTES = 512 * 1024 * 1024
DEFAULT_DEADLINE = 60.0
_JSON = "application/json"
_CLIENT_CLOSED_REQUEST = 499

log = logging.getLogger(__name__)


def create_app(
    skills: Iterable[Skill],
    *,
    secret: str | None = None,
    device: str = "cpu",
    queue: int = QUEUE,
    store_bytes: int = STORE_BYTES,
    memory: int | None = None,
    spans: RunSpans | None = None,
) -> FastAPI:
    """The app that serves `skills`; with a `secret`, only to callers that show it.

    At most `queue` calls of a skill wait for a slot, and uploaded and made images are kept up
    to `store_bytes`, the longest unused let go first. `memory` is what the skills' weights may
    take together, in bytes, as `SkillRunner` says. With `spans` every run is traced.
    """
    runner = SkillRunner(skills, device=device, queue=queue, memory=memory)
    return worker_app(runner, secret=secret, store_bytes=store_bytes, spans=spans)


def worker_app(
    runner: Runner,
    *,
    secret: str | None = None,
    store_bytes: int = STORE_BYTES,
    spans: RunSpans | None = None,
) -> FastAPI:
    """The app of `create_app` around any runner, which may have its skills elsewhere."""
    routes = _Routes(runner, ImageStore(store_bytes), spans)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        setup = asyncio.create_task(runner.setup())
        try:
            yield
        finally:
            setup.cancel()
            runner.close()
            routes.close()
            if spans:
                await asyncio.to_thread(spans.close)

    app = FastAPI(
        lifespan=lifespan,
        openapi_url=None,
        exception_handlers={
            LlavaPlusError: _tell_problem,
            HTTPException: _tell_http_problem,
            ClientDisconnect: _tell_nobody,
            Exception: _tell_bug,
        },
        routes=routes.listed(),
    )
    if secret:
        app.add_middleware(_SecretGuard, secret=secret)
    app.state.runner = runner
    return app


class _Routes:
    """What each path does."""

    def __init__(self, runner: Runner, store: ImageStore, spans: RunSpans | None) -> None:
        self._runner = runner
        self._store = store
        self._spans = spans
        # Decoding is the worker's, not a skill's: it gets threads that no skill can hold.
        self._decoding = ThreadPoolExecutor(2, thread_name_prefix="decoding")

    def listed(self) -> list[BaseRoute]:
        # Starlette's own routes, because these bodies are not for FastAPI to parse.
        return [
            Route("/v1/skills", self.list_skills, methods=["GET"]),
            Route("/v1/skills/{name}", self.call, methods=["POST"]),
            Route("/v1/images/{sha256}", self.put_image, methods=["PUT"]),
            Route("/v1/images/{sha256}", self.get_image, methods=["GET", "HEAD"]),
            Route("/livez", self.livez, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
        ]

    def close(self) -> None:
        self._decoding.shutdown(wait=False)

    async def livez(self, request: Request) -> Response:
        return Response(b'{"alive":true}', media_type=_JSON)

    async def readyz(self, request: Request) -> Response:
        states = self._runner.states
        ready = all(state.state == "ready" for state in states.values())
        body = Readiness(ready=ready, skills=states).model_dump_json()
        return Response(body, 200 if ready else 503, media_type=_JSON)

    async def list_skills(self, request: Request) -> Response:
        cards = SkillCards(
            skills=self._runner.cards,
            max_image_bytes=MAX_BYTES,
            max_request_bytes=MAX_REQUEST_BYTES,
        )
        return Response(cards.model_dump_json(), media_type=_JSON)

    async def put_image(self, request: Request) -> Response:
        data = await read_body(request, MAX_BYTES)
        loop = asyncio.get_running_loop()
        sha256 = request.path_params["sha256"]
        ref = await loop.run_in_executor(self._decoding, self._take, data, sha256)
        return Response(ref.model_dump_json(), 201, media_type=_JSON)

    def _take(self, data: bytes, sha256: str) -> ImageRef:
        if (actual := hashlib.sha256(data).hexdigest()) != sha256:
            raise BadInput(
                f"the {len(data):,} bytes received have SHA-256 {actual}, not {sha256}: "
                "they were damaged or cut short on the way"
            )
        return self._store.add(data)

    async def get_image(self, request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        try:
            ref = self._store.get(sha256)
            data = self._store.data(ref) if ref else None
        except KeyError:  # let go between the two steps
            data = None
        if ref is None or data is None:
            raise UnknownImage(f"image {sha256} is not here")
        return Response(data, media_type=ref.media_type)

    async def call(self, request: Request) -> Response:
        arrival = time.monotonic()
        body = await read_body(request, MAX_REQUEST_BYTES)
        deadline = arrival + _seconds_left(request)
        name = request.path_params["name"]
        self._runner.require(name)
        try:
            call = CallRequest.model_validate_json(body)
        except ValidationError as error:
            raise BadInput(describe_validation(error)) from error
        run_call = self._runner.call
        if self._spans:
            run_call = self._spans.around(name, request.headers, run_call)
        run = partial(
            run_call,
            SkillUse(id=call.id, name=name, arguments=call.arguments),
            images=self._images(call.images),
            masks=call.masks,
            store=self._store,
            deadline=deadline,
        )
        if wants_lines(request):
            return await answer_in_lines(request, run)
        result = await unless_gone(request, run())
        return Response(encode_result(result), media_type=_JSON)

    def _images(self, hashes: dict[str, str]) -> dict[str, Image]:
        found = {handle: self._image(sha256) for handle, sha256 in hashes.items()}
        missing = [hashes[handle] for handle, image in found.items() if image is None]
        if missing:
            raise ImagesMissing(sorted(set(missing)))
        return {handle: image for handle, image in found.items() if image is not None}

    def _image(self, sha256: str) -> Image | None:
        ref = self._store.get(sha256)
        try:
            return self._store.image(ref) if ref else None
        except KeyError:  # let go between the two steps
            return None


class _SecretGuard:
    """ASGI middleware that lets only callers with the secret reach the API; probes go free."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._expected = f"Bearer {secret}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                refusal = BadSecret("the Authorization header does not carry the worker's secret")
                response = Response(encode_problem(refusal), status_of(refusal), media_type=_JSON)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _seconds_left(request: Request) -> float:
    text = request.headers.get(DEADLINE_HEADER)
    if text is None:
        return DEFAULT_DEADLINE
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadInput(f"{DEADLINE_HEADER} must be a number of seconds above 0, not {text!r}")
    return seconds


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises `TooLarge` as soon as it is known to exceed `limit` bytes."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise TooLarge(f"the body has {int(announced):,} bytes; at most {limit:,} are taken")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body has more than {limit:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _tell_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, LlavaPlusError)
    headers = {}
    if isinstance(error, TooBusy):
        headers["Retry-After"] = f"{error.retry_after:.0f}"
    if isinstance(error, TooLarge):
        headers["Connection"] = "close"  # or uvicorn would read the rest of the body to its end
    return Response(encode_problem(error), status_of(error), headers, media_type=_JSON)


async def _tell_http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = BadInput(f"{request.method} {request.url.path}: {error.detail}")
    return Response(encode_problem(problem), error.status_code, error.headers, media_type=_JSON)


async def _tell_bug(request: Request, error: Exception) -> Response:
    problem = WorkerUnavailable(f"a fault of the worker itself: {type(error).__name__}: {error}")
    return Response(encode_problem(problem), 500, media_type=_JSON)


async def _tell_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


def serve(
    skills: Iterable[Skill],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    secret: str | None = None,
    device: str = "cpu",
    queue: int = QUEUE,
    memory: int | None = None,
    on_listening: Callable[[str, uvicorn.Server], None] | None = None,
) -> None:
    """Serve `skills` until the process is told to stop; `port=0` takes any free port.

    `on_listening` gets the URL as soon as connections are taken, which is before setup is done.
    """
    spans = run_spans()
    app = create_app(skills, secret=secret, device=device, queue=queue, memory=memory, spans=spans)
    serve_app(app, host=host, port=port, on_listening=on_listening)
    if app.state.runner.busy:
        # A skill that hangs would keep the interpreter from ending.
        logging.shutdown()
        os._exit(0)


def run_spans() -> RunSpans | None:
    """Spans for a process that was told of a collector; else OpenTelemetry is not imported."""
    if not (endpoint := os.environ.get(COLLECTOR_VARIABLE)):
        return None
    from .tracing import RunSpans, exporting_provider

    return RunSpans(exporting_provider(endpoint, service="llava-plus-worker"))


def serve_app(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    on_listening: Callable[[str, uvicorn.Server], None] | None = None,
) -> None:
    """Serve any app the way a worker is served; see `serve`."""
    with listen(host, port) as listening:
        server = uvicorn.Server(server_config(app))
        if on_listening:
            shown = f"[{host}]" if ":" in host else host
            on_listening(f"http://{shown}:{listening.getsockname()[1]}", server)
        with suppress(KeyboardInterrupt):  # raised once more after an orderly stop
            server.run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on, before there is a server to answer them."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=512)
    # asyncio does this only for sockets that it opens itself; without it Nagle's algorithm
    # holds the second packet of most answers back for 40 ms.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def server_config(app: ASGIApp) -> uvicorn.Config:
    """How a worker is served: quiet, without websockets, connections kept open for reuse."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        # Longer than the dispatcher keeps them, so that it never sends into a closing one.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of one worker process; prints one JSON line `{"url": ...}` when it listens."""
    options = _options(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # What skills and their libraries print must not mix with the one line for the parent.
    with os.fdopen(os.dup(1), "w") as report:
        os.dup2(2, 1)

        def on_listening(url: str, server: uvicorn.Server) -> None:
            report.write(json.dumps({"url": url}) + "\n")
            report.flush()
            if options.exit_with_parent:
                threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()

        try:
            serve(
                [load_skill(name) for name in options.skills],
                host=options.host,
                port=options.port,
                secret=os.environ.get(SECRET_VARIABLE),
                device=options.device,
                queue=options.queue,
                memory=options.memory and int(options.memory * 1e9),
                on_listening=on_listening,
            )
        except (LlavaPlusError, OSError) as error:
            sys.stderr.write(f"error: {error}\n")
            return 1
    return 0


def _gigabytes(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of GB above 0")
    return number


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m llava_plus.skills.worker", description="Serve installed skills over HTTP."
    )
    parser.add_argument("skills", nargs="+", metavar="SKILL", help="name of an installed skill")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--device", default="cpu", help="where skills put their weights")
    parser.add_argument("--queue", type=int, default=QUEUE, help="calls that may wait, per skill")
    parser.add_argument(
        "--memory",
        type=_gigabytes,
        metavar="GB",
        help="how much the weights may take; beyond it the longest unused skill is unloaded",
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input is closed"
    )
    return parser.parse_args(argv)


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    """Stop when the parent's end of the pipe is gone, however the parent ended."""
    while os.read(0, 1024):
        pass
    server.should_exit = True
    time.sleep(5.0)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
