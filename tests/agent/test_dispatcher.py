"""Dispatchers against real workers: what crosses the wire, and what happens when it breaks."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from llava_plus.agent.call_scope import CallScope
from llava_plus.agent.dispatcher import Dispatcher, HttpDispatcher, LocalDispatcher
from llava_plus.skills import ImageRef, ImageStore, Mask, Skill, SkillResult, SkillUse
from llava_plus.skills.errors import (
    BadConfiguration,
    DeadlineExceeded,
    WorkerUnavailable,
)
from llava_plus.skills.progress import Progress, Watch
from llava_plus.skills.wire import DEADLINE_HEADER, STREAM_TYPE
from llava_plus.skills.worker import create_app

from ..serving import png, serving, worker
from ..toy_skills import (
    RELEASE,
    Climb,
    Cover,
    Crash,
    Hang,
    Look,
    Noop,
    Paint,
    Painted,
    Refuse,
    Slow,
)

pytestmark = pytest.mark.asyncio
MASK = Mask.from_array(np.eye(4, dtype=bool))


async def dispatch(
    dispatcher: Dispatcher,
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    images: dict[str, ImageRef] | None = None,
    masks: dict[str, Mask] | None = None,
    store: ImageStore | None = None,
    seconds: float = 5,
    watch: Watch | None = None,
) -> SkillResult:
    return await dispatcher.dispatch(
        SkillUse(id="call_1", name=name, arguments=arguments or {}),
        CallScope(
            images=images or {},
            masks=masks or {},
            store=store or ImageStore(),
            deadline=time.monotonic() + seconds,
            watch=watch,
        ),
    )


@asynccontextmanager
async def http(*urls: str, **options: Any) -> AsyncIterator[HttpDispatcher]:
    dispatcher = HttpDispatcher(urls, **options)
    try:
        yield dispatcher
    finally:
        await dispatcher.aclose()


class Tap:
    """ASGI middleware that counts the requests and the bytes of their bodies."""

    def __init__(self, *skills: Skill, **options: Any) -> None:
        self.app = create_app(skills, **options)
        self.bytes = 0
        self.seen: list[str] = []
        self.bodies: list[bytes] = []
        self.deadlines: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.seen.append(f"{scope['method']} {scope['path'].rsplit('/', 1)[-1][:8]}")
            if told := dict(scope["headers"]).get(DEADLINE_HEADER.lower().encode()):
                self.deadlines.append(float(told))

        async def counted() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                self.bytes += len(message["body"])
                self.bodies.append(message["body"])
            return message

        await self.app(scope, counted, send)


@pytest.fixture(params=["http", "local"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Awaitable[Dispatcher]]]:
    """Makes a dispatcher to some skills, of either kind: both follow the same rules."""
    with contextmanager(_making)(request.param) as make:
        yield make


def _making(kind: str) -> Iterator[Callable[..., Awaitable[Dispatcher]]]:
    stacks: list[Any] = []

    async def make(*skills: Skill) -> Dispatcher:
        if kind == "local":
            return LocalDispatcher(skills)
        served = worker(*skills)
        stacks.append(served)
        return HttpDispatcher([served.__enter__()])

    yield make
    RELEASE.set()
    for served in stacks:
        served.__exit__(None, None, None)
    RELEASE.clear()


async def test_lists_and_runs(make: Callable[..., Awaitable[Dispatcher]]) -> None:
    dispatcher = await make(Noop(), Look())
    assert [spec.name for spec in await dispatcher.specs()] == ["noop", "look"]
    assert await dispatch(dispatcher, "noop", {"text": "hello"}) == SkillResult(
        id="call_1", name="noop", text="hello", data={"said": "hello"}
    )
    await dispatcher.aclose()


async def test_images_and_masks_travel_both_ways(
    make: Callable[..., Awaitable[Dispatcher]],
) -> None:
    dispatcher = await make(Look(), Cover(), Paint())
    store = ImageStore()
    images = {"img_1": store.add(png("blue")), "img_2": store.add(png("red"))}
    seen = await dispatch(dispatcher, "look", {"image": "img_2"}, images=images, store=store)
    assert seen.text == "8 x 6, (255, 0, 0)"

    covered = await dispatch(dispatcher, "cover", {"mask": "mask_1"}, masks={"mask_1": MASK})
    assert covered.data == {"area": 0.25}
    assert covered.artifacts[0].mask == MASK

    painted = await dispatch(dispatcher, "paint", {"colour": "lime"}, store=store)
    made = painted.artifacts[0]
    assert made.label == "a colour"
    assert made.image is not None
    assert store.image(made.image).getpixel((0, 0)) == (0, 255, 0)
    again = await dispatch(
        dispatcher, "look", {"image": "img_3"}, images={"img_3": made.image}, store=store
    )
    assert again.text == "8 x 8, (0, 255, 0)"
    await dispatcher.aclose()


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "words"),
    [
        ("nobody", {}, "UnknownSkill", "there is no skill 'nobody'"),
        ("noop", {"txt": 1}, "BadSkillUse", "txt: Extra inputs"),
        ("look", {"image": "img_9"}, "BadSkillUse", "there is: img_1, img_2"),
        ("refuse", {}, "SkillFailed", "there is nothing to find here"),
        ("crash", {}, "SkillFailed", "RuntimeError"),
    ],
)
async def test_what_the_model_must_know_is_a_result(
    make: Callable[..., Awaitable[Dispatcher]],
    name: str,
    arguments: dict[str, Any],
    kind: str,
    words: str,
) -> None:
    dispatcher = await make(Noop(), Look(), Refuse(), Crash())
    store = ImageStore()
    images = {"img_1": store.add(png("blue")), "img_2": store.add(png("red"))}
    result = await dispatch(dispatcher, name, arguments, images=images, store=store)
    assert result.error is not None
    assert result.error.kind == kind
    assert words in result.error.message
    await dispatcher.aclose()


async def test_the_deadline_ends_the_wait(make: Callable[..., Awaitable[Dispatcher]]) -> None:
    dispatcher = await make(Hang(), Noop())
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="hang was not done within"):
        await dispatch(dispatcher, "hang", seconds=0.2)
    assert time.monotonic() - start < 0.6
    assert (await dispatch(dispatcher, "noop")).error is None
    with pytest.raises(DeadlineExceeded):
        await dispatch(dispatcher, "noop", seconds=-1)
    RELEASE.set()
    await dispatcher.aclose()


async def test_progress_is_heard_and_the_result_is_the_same(
    make: Callable[..., Awaitable[Dispatcher]],
) -> None:
    dispatcher = await make(Climb())
    heard: list[Progress] = []
    arguments = {"steps": 3, "pause": 0.15, "end": "a line\u2028and\nanother"}
    watched = await dispatch(dispatcher, "climb", arguments, watch=heard.append)
    assert heard == [Progress(done=step, total=3) for step in (1, 2, 3)]
    assert watched == await dispatch(dispatcher, "climb", arguments)
    assert len(heard) == 3
    await dispatcher.aclose()


async def test_what_goes_wrong_after_progress_is_told_as_ever(
    make: Callable[..., Awaitable[Dispatcher]],
) -> None:
    dispatcher = await make(Climb())
    heard: list[Progress] = []
    arguments = {"steps": 1, "pause": 0.1}
    failed = await dispatch(dispatcher, "climb", {**arguments, "end": "fail"}, watch=heard.append)
    assert failed.error is not None
    assert failed.error.message == "the last step is missing"
    with pytest.raises(DeadlineExceeded, match="climb was not done within"):
        await dispatch(
            dispatcher, "climb", {**arguments, "end": "hang"}, watch=heard.append, seconds=0.3
        )
    assert heard == [Progress(done=1, total=1)] * 2
    RELEASE.set()
    await dispatcher.aclose()


@pytest.mark.parametrize("end", ["there", "fail"])
async def test_a_connection_is_used_again_after_progress(end: str) -> None:
    app, ports = create_app([Climb()]), set()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            ports.add(scope["client"][1])
        await app(scope, receive, send)

    with serving(noting) as url:
        async with http(url) as dispatcher:
            heard: list[Progress] = []
            for _ in range(3):
                arguments = {"steps": 1, "pause": 0.1, "end": end}
                await dispatch(dispatcher, "climb", arguments, watch=heard.append)
    assert len(heard) == 3
    assert len(ports) == 1


async def test_an_image_crosses_once_and_only_when_named() -> None:
    tap = Tap(Look(), Noop())
    store = ImageStore()
    data = png("blue", 64, 64)
    images = {"img_1": store.add(data), "img_2": store.add(png("red"))}
    with serving(tap) as url:
        async with http(url) as dispatcher:
            uses = [
                dispatch(dispatcher, "look", {"image": "img_1"}, images=images, store=store)
                for _ in range(3)
            ]
            await asyncio.gather(*uses)
            await dispatch(dispatcher, "noop", {"text": "the image"}, images=images, store=store)
    assert [seen for seen in tap.seen if seen.startswith("PUT")] == [
        f"PUT {hashlib.sha256(data).hexdigest()[:8]}"
    ]
    assert tap.bodies.count(data) == 1
    calls = [json.loads(body) for body in tap.bodies if body.startswith(b"{")]
    assert [sorted(call["images"]) for call in calls] == [["img_1"]] * 3 + [[]]
    assert tap.bytes < len(data) + 4 * 300


async def test_handles_are_found_at_any_depth() -> None:
    tap = Tap(Noop())
    store = ImageStore()
    images = {"img_1": store.add(png("blue")), "img_2": store.add(png("red"))}
    arguments = {"deep": [{"er": ["img_2", 3, None]}], "mask": "mask_1"}
    masks = {"mask_1": MASK, "mask_2": MASK}
    with serving(tap) as url:
        async with http(url) as dispatcher:
            await dispatch(dispatcher, "noop", arguments, images=images, masks=masks, store=store)
    call = json.loads(tap.bodies[-1])
    assert list(call["images"]) == ["img_2"]
    assert call["masks"] == {"mask_1": MASK.model_dump(mode="json")}


async def test_a_worker_that_forgot_an_image_gets_it_again() -> None:
    tap = Tap(Look(), store_bytes=20_000)
    store = ImageStore()
    first, second = (store.add(png(colour, 64, 64)) for colour in ("blue", "red"))
    with serving(tap) as url:
        async with http(url) as dispatcher:
            for ref in (first, second, first):
                result = await dispatch(
                    dispatcher, "look", {"image": "img_1"}, images={"img_1": ref}, store=store
                )
                assert result.error is None
    kinds = [seen.split()[0] for seen in tap.seen]
    assert kinds == ["GET", "PUT", "POST", "PUT", "POST", "POST", "PUT", "POST"]


async def test_a_worker_that_keeps_no_image_is_given_up() -> None:
    store = ImageStore()
    images = {f"img_{n}": store.add(png("blue", 64, 64 + n)) for n in (1, 2)}
    with worker(Noop(), store_bytes=1) as url:
        async with http(url) as dispatcher:
            with pytest.raises(WorkerUnavailable, match="does not keep the images for 'noop'"):
                await dispatch(
                    dispatcher,
                    "noop",
                    {"text": "img_1", "image": "img_2"},
                    images=images,
                    store=store,
                )


async def test_the_remaining_deadline_travels() -> None:
    tap = Tap(Noop())
    with serving(tap) as url:
        async with http(url) as dispatcher:
            await dispatch(dispatcher, "noop", seconds=7)
    assert len(tap.deadlines) == 1
    assert 6.5 < tap.deadlines[0] <= 7


async def test_a_busy_worker_is_asked_again_when_it_says() -> None:
    with worker(Slow(), queue=0) as url:
        async with http(url) as dispatcher:
            start = time.monotonic()
            results = await asyncio.gather(
                *(dispatch(dispatcher, "slow", {"seconds": 0.3}) for _ in range(2))
            )
            assert [result.error for result in results] == [None, None]
            assert 1.0 <= time.monotonic() - start < 2.0


async def test_a_worker_that_stays_busy_ends_with_the_deadline() -> None:
    with worker(Hang(), queue=0) as url:
        async with http(url) as dispatcher:
            first = asyncio.create_task(dispatch(dispatcher, "hang"))
            await asyncio.sleep(0.1)
            start = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="no worker was free before the deadline"):
                await dispatch(dispatcher, "hang", seconds=0.5)
            assert time.monotonic() - start < 0.5
            RELEASE.set()
            assert (await first).text == "released"


async def test_two_workers_share_the_calls() -> None:
    slow = Slow(), Slow()
    with worker(slow[0]) as one, worker(slow[1]) as other:
        async with http(one, other) as dispatcher:
            assert [spec.name for spec in await dispatcher.specs()] == ["slow"]
            start = time.monotonic()
            uses = [dispatch(dispatcher, "slow", {"seconds": 0.2}) for _ in range(4)]
            await asyncio.gather(*uses)
            assert time.monotonic() - start < 0.75
    assert [skill.runs for skill in slow] == [2, 2]


async def test_when_one_worker_goes_the_other_serves(caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as first, worker(Noop()) as other:
        one = first.enter_context(worker(Noop()))
        async with http(one, other) as dispatcher:
            await dispatcher.specs()
            first.close()
            for _ in range(3):
                assert (await dispatch(dispatcher, "noop")).error is None
        async with http(one, other) as dispatcher:
            assert [spec.name for spec in await dispatcher.specs()] == ["noop"]
    assert f"worker {one} cannot be reached" in caplog.text


async def test_a_dead_worker_is_named() -> None:
    with worker(Noop()) as url:
        pass
    async with http(url) as dispatcher:
        with pytest.raises(WorkerUnavailable, match=f"worker {url} cannot be reached"):
            await dispatcher.specs()
        told = f"'noop' cannot be run now: worker {url} cannot be reached"
        with pytest.raises(WorkerUnavailable, match=told):
            await dispatch(dispatcher, "noop")


async def test_the_wrong_secret_is_the_operators_fault() -> None:
    with worker(Noop(), secret="right") as url:
        async with http(url, secret="right") as dispatcher:
            assert (await dispatch(dispatcher, "noop")).error is None
        async with http(url, secret="wrong") as dispatcher:
            with pytest.raises(WorkerUnavailable, match="worker's secret"):
                await dispatch(dispatcher, "noop")


async def test_one_name_must_mean_one_skill() -> None:
    class Other(Noop):
        description = "Do something else."

    with worker(Noop()) as one, worker(Other()) as other:
        async with http(one, other) as dispatcher:
            with pytest.raises(BadConfiguration, match="offer different skills as 'noop'"):
                await dispatcher.specs()


async def test_no_worker_is_a_wrong_setting() -> None:
    with pytest.raises(BadConfiguration, match="at least one worker"):
        HttpDispatcher([])


async def test_a_cancelled_use_leaves_the_workers_queue() -> None:
    slow = Slow()
    with worker(slow) as url:
        async with http(url) as dispatcher:
            first = asyncio.create_task(dispatch(dispatcher, "slow", {"seconds": 0.3}))
            await asyncio.sleep(0.1)
            second = asyncio.create_task(dispatch(dispatcher, "slow", {"seconds": 0.3}))
            await asyncio.sleep(0.05)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert (await first).text == "1"
            assert (await dispatch(dispatcher, "slow", {"seconds": 0})).text == "2"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"hello", "its result cannot be read"),
        (200, b'{"id": "call_1", "name": "noop", "error": {"kind": "a", "message": "b"}}', "error"),
        (200, b'{"id": "call_2", "name": "noop"}', "another result"),
        (500, b"<html>", "HTTP status 500 without an error"),
        (302, b"", "HTTP status 302 without an error"),
        (418, b'{"error": {"kind": "Teapot", "message": "short and stout"}}', "short and stout"),
    ],
)
async def test_a_worker_that_talks_nonsense_is_named(status: int, body: bytes, words: str) -> None:
    app = FastAPI()
    real = create_app([Noop()])

    @app.post("/v1/skills/{name}")
    async def answer(request: Request) -> Response:
        return Response(body, status)

    app.mount("/", real)
    with serving(app) as url:
        async with http(url) as dispatcher:
            with pytest.raises(WorkerUnavailable, match=words) as caught:
                await dispatch(dispatcher, "noop")
            assert url in str(caught.value)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (b"", "its result cannot be read"),
        (b"hello", "its result cannot be read"),
        (b'{"id": "call_2", "name": "noop"}\n', "another result"),
        (b'{"error": {"kind": "Teapot", "message": "short and stout"}}\n', "short and stout"),
        (b'{"error": {"kind": "TooBusy", "message": "too late"}}', "too late"),
        (None, "died while running"),
    ],
)
async def test_a_stream_without_its_end_is_told_and_not_asked_for_again(
    last: bytes | None, words: str
) -> None:
    app, calls = FastAPI(), []

    async def lines() -> AsyncIterator[bytes]:
        yield b'{"progress": {"done": 1, '
        yield b'"total": 2, "what": "steps"}}\n'
        if last is None:
            raise OSError("the cable was pulled")
        yield last

    @app.post("/v1/skills/{name}")
    async def answer(name: str) -> Response:
        calls.append(name)
        return StreamingResponse(lines(), media_type=STREAM_TYPE)

    app.mount("/", create_app([Noop()]))
    heard: list[Progress] = []
    with serving(app) as url:
        async with http(url) as dispatcher:
            with pytest.raises(WorkerUnavailable, match=words) as caught:
                await dispatch(dispatcher, "noop", watch=heard.append)
            assert url in str(caught.value)
    assert calls == ["noop"]
    assert heard == [Progress(done=1, total=2)]


async def test_a_result_whose_image_is_lost_is_not_run_again() -> None:
    class Counted(Paint):
        runs = 0

        def run(self, colour: str, width: int = 8) -> Painted:
            Counted.runs += 1
            return super().run(colour, width)

    def forgetful() -> FastAPI:
        app = FastAPI()
        error = b'{"error": {"kind": "Refused", "message": "not now"}}'
        app.add_api_route("/v1/images/{sha256}", lambda: Response(error, 503), methods=["GET"])
        app.mount("/", create_app([Counted()]))
        return app

    with serving(forgetful()) as one, serving(forgetful()) as other:
        async with http(one, other) as dispatcher:
            with pytest.raises(WorkerUnavailable, match="handing over an image that 'paint' made"):
                await dispatch(dispatcher, "paint", {"colour": "red"})
    assert Counted.runs == 1


async def test_a_connection_that_breaks_while_a_skill_runs_is_not_retried() -> None:
    calls = 0
    cards = json.dumps(
        {
            "skills": [{"spec": Noop().spec.model_dump(), "parallel": 1, "queue": 1}],
            "max_image_bytes": 1,
            "max_request_bytes": 1,
        }
    ).encode()

    def answer(listening: socket.socket) -> None:
        nonlocal calls
        while True:
            try:
                wire, _ = listening.accept()
            except OSError:
                return
            with wire:
                if wire.recv(65536).startswith(b"GET"):
                    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                    wire.sendall(head % len(cards) + cards)
                else:
                    calls += 1

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with http(url) as dispatcher:
            with pytest.raises(WorkerUnavailable, match=f"worker {url} died while running 'noop'"):
                await dispatch(dispatcher, "noop")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert calls == 1


async def test_a_nested_string_that_is_no_text_is_told_to_the_model() -> None:
    with worker(Noop()) as url:
        async with http(url) as dispatcher:
            result = await dispatch(dispatcher, "noop", {"text": "\ud800"})
    assert result.error is not None
    assert result.error.kind == "BadSkillUse"
