"""One worker as its clients see it: what it offers, what it holds, and calls sent to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import httpx
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from ..skills.calls import Artifact, SkillResult, SkillSpec, SkillUse
from ..skills.errors import (
    BadInput,
    BadSkillUse,
    LlavaPlusError,
    SkillError,
    WorkerUnavailable,
)
from ..skills.images import ImageRef
from ..skills.progress import Progress, Watch
from ..skills.wire import (
    DEADLINE_HEADER,
    STREAM_TYPE,
    AnswerLost,
    CallRequest,
    ImagesMissing,
    Refused,
    SkillCards,
    TooBusy,
    UnknownImage,
    decode_line,
    decode_problem,
    decode_result,
)
from .call_scope import CallScope

__all__ = ["Call", "CallObserver", "WorkerClient", "call_observer"]

log = logging.getLogger(__name__)

_COOLING = 5.0
"""Seconds for which a worker that could not be reached is asked last."""

_MANY_HASHES = 10_000

_RUNS = 3
"""How often a repeatable call is sent whose answers get lost."""

_PAUSE = 0.5
"""Seconds before it is sent again, for what was lost to be noticed there."""


@dataclass(frozen=True)
class CallObserver:
    """Goes with a call to its workers: `headers` are sent along, `refused` hears of refusals."""

    headers: Mapping[str, str]
    refused: Callable[[Refused], None]


call_observer: ContextVar[CallObserver | None] = ContextVar("call_observer", default=None)
"""Who observes the calls that are made here; observers are no business of the dispatcher's."""


@dataclass(frozen=True)
class Call:
    """A use with what it needs, ready to be sent to any worker, any number of times."""

    use: SkillUse
    body: bytes
    images: frozenset[ImageRef]
    scope: CallScope

    @classmethod
    def of(cls, use: SkillUse, scope: CallScope) -> Call:
        named, named_masks = scope.named(use.arguments)
        try:
            request = CallRequest(
                id=use.id,
                arguments=use.arguments,
                images={handle: ref.sha256 for handle, ref in named.items()},
                masks=named_masks,
            )
            body = request.model_dump_json().encode()
        except (ValidationError, PydanticSerializationError) as error:
            raise BadSkillUse(f"{use.name}: the arguments cannot be sent: {error}") from error
        return cls(use, body, frozenset(named.values()), scope)

    def seconds_left(self) -> float:
        """Time until the deadline. Raises `DeadlineExceeded` when there is none."""
        return self.scope.seconds_left(self.use.name)


class WorkerClient:
    """One worker as the dispatcher knows it."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url.rstrip("/")
        self.specs: dict[str, SkillSpec] | None = None
        self.trouble: LlavaPlusError | None = None
        self._client = client
        self._repeatable: set[str] = set()
        self._known: set[str] = set()
        self._uploading = asyncio.Lock()
        self._in_flight = 0
        self._served = 0
        self._unreachable_until = 0.0

    @property
    def cooling(self) -> bool:
        """Whether it could not be reached a short while ago."""
        return time.monotonic() < self._unreachable_until

    def rank(self, call: Call) -> tuple[bool, int, int, int]:
        """Smaller is better: reachable, not busy, holding the images, and each in its turn."""
        unknown = sum(ref.sha256 not in self._known for ref in call.images)
        return self.cooling, self._in_flight, unknown, self._served

    async def learn_skills(self) -> None:
        """Fetch the skills on offer; what goes wrong is kept as `trouble`."""
        request = self._client.build_request("GET", f"{self.url}/v1/skills")
        try:
            async with asyncio.timeout(10):
                response = await self._exchange(request, "listing its skills", may_run=False)
            self._check(response, "listing its skills")
            cards = SkillCards.model_validate_json(response.content)
        except TimeoutError:
            self.trouble = WorkerUnavailable(f"worker {self.url} does not say what it serves")
        except ValidationError as error:
            self.trouble = WorkerUnavailable(f"worker {self.url} lists no skills: {error}")
        except LlavaPlusError as error:
            self.trouble = error
        else:
            self.trouble = None
            self.specs = {card.spec.name: card.spec for card in cards.skills}
            self._repeatable = {card.spec.name for card in cards.skills if card.repeatable}

    async def run(self, call: Call) -> SkillResult:
        """Run a call here. Raises `Refused` when nothing ran, so that another may be tried."""
        self._in_flight += 1
        self._served += 1
        try:
            for _ in range(_RUNS - 1 if call.use.name in self._repeatable else 0):
                try:
                    return await self._run_with_images(call)
                except AnswerLost as error:
                    log.warning("%s; it is sent again", error)
                    await asyncio.sleep(_PAUSE)
            return await self._run_with_images(call)
        except Refused as error:
            if observer := call_observer.get():
                observer.refused(error)
            raise
        finally:
            self._in_flight -= 1

    async def _run_with_images(self, call: Call) -> SkillResult:
        for _ in range(2):
            await self._upload(call)
            try:
                return await self._run(call)
            except ImagesMissing as error:
                # It was restarted, or let them go to make room.
                self._known.difference_update(error.missing)
        raise Refused(f"worker {self.url} does not keep the images for {call.use.name!r}")

    async def _run(self, call: Call) -> SkillResult:
        name = call.use.name
        headers = {DEADLINE_HEADER: f"{call.seconds_left():.3f}"}
        if call.scope.watch:
            headers["Accept"] = STREAM_TYPE
        if observer := call_observer.get():
            headers.update(observer.headers)
        request = self._client.build_request(
            "POST", f"{self.url}/v1/skills/{name}", content=call.body, headers=headers
        )
        if call.scope.watch:
            body = await self._follow(request, f"running {name!r}", call.scope.watch)
        else:
            response = await self._exchange(request, f"running {name!r}", may_run=True)
            self._check(response, f"running {name!r}")
            body = response.content
        try:
            result = decode_result(body)
        except WorkerUnavailable as error:
            raise AnswerLost(f"worker {self.url} ran {name!r}, but {error}") from error
        if (result.id, result.name) != (call.use.id, name):
            raise WorkerUnavailable(f"worker {self.url} answered {name!r} with another result")
        if any(artifact.image for artifact in result.artifacts):
            try:
                fetched = [await self._fetch(artifact, call) for artifact in result.artifacts]
            except Refused as error:  # only the fetching was refused: the skill has run
                raise AnswerLost(str(error)) from error
            result = result.model_copy(update={"artifacts": tuple(fetched)})
        return result

    async def _upload(self, call: Call) -> None:
        """Give the worker the images that it does not have; each crosses once."""
        if all(ref.sha256 in self._known for ref in call.images):
            return
        async with self._uploading:
            for ref in call.images:
                if ref.sha256 in self._known:
                    continue
                request = self._client.build_request(
                    "PUT",
                    f"{self.url}/v1/images/{ref.sha256}",
                    content=call.scope.store.data(ref),
                    headers={"Content-Type": ref.media_type},
                )
                response = await self._exchange(request, "taking an image", may_run=False)
                self._check(response, "taking an image")
                self._remember(ref.sha256)

    async def _fetch(self, artifact: Artifact, call: Call) -> Artifact:
        """Bring an image that the skill made into the caller's store."""
        if artifact.image is None:
            return artifact
        sha256 = artifact.image.sha256
        self._remember(sha256)
        ref = call.scope.store.get(sha256)
        if ref is None:
            doing = f"handing over an image that {call.use.name!r} made"
            request = self._client.build_request("GET", f"{self.url}/v1/images/{sha256}")
            response = await self._exchange(request, doing, may_run=True)
            self._check(response, doing)
            try:
                # In a thread, because decoding would hold up every other conversation.
                ref = await asyncio.to_thread(call.scope.store.add, response.content)
            except BadInput as error:
                raise WorkerUnavailable(f"worker {self.url} failed {doing}: {error}") from error
            if ref.sha256 != sha256:
                raise WorkerUnavailable(f"worker {self.url} gave another image when {doing}")
        return artifact.model_copy(update={"image": ref})

    async def _follow(self, request: httpx.Request, doing: str, watch: Watch) -> bytes:
        """Send a call and tell its progress; gives the body of its result."""
        line, told = b"", None
        with self._telling_of_loss(doing, may_run=True):
            response = await self._client.send(request, stream=True)
            try:
                if not response.headers.get("Content-Type", "").startswith(STREAM_TYPE):
                    line = await response.aread()
                    self._check(response, doing)
                    return line
                # To the end, or the connection could not be used again.
                async for line in _lines(response):
                    told = decode_line(line)
                    if isinstance(told, Progress):
                        watch(told)
            finally:
                await response.aclose()
        if isinstance(told, Refused):  # nothing that has begun may be sent again
            told = WorkerUnavailable(str(told))
        if isinstance(told, LlavaPlusError):
            raise self._named(told, doing)
        return line

    async def _exchange(
        self, request: httpx.Request, doing: str, *, may_run: bool
    ) -> httpx.Response:
        """Send a request. Raises `Refused` when it is certain that no skill ran because of it."""
        with self._telling_of_loss(doing, may_run=may_run):
            return await self._client.send(request)

    @contextmanager
    def _telling_of_loss(self, doing: str, *, may_run: bool) -> Iterator[None]:
        """Raise what the loss of the connection means for what was being done."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._unreachable_until = time.monotonic() + _COOLING
            raise Refused(f"worker {self.url} cannot be reached: {error}") from error
        except httpx.TransportError as error:
            lost = Refused if not may_run else AnswerLost
            told = f"worker {self.url} died while {doing}"
            raise lost(f"{told} ({type(error).__name__}: {error})") from error

    def _check(self, response: httpx.Response, doing: str) -> None:
        """Raise the error that a response stands for; the operator's ones name the worker."""
        if response.is_success:
            return
        error = decode_problem(response.status_code, response.content)
        if isinstance(error, TooBusy):
            error.retry_after = _seconds(response.headers.get("Retry-After"))
        raise self._named(error, doing)

    def _named(self, error: LlavaPlusError, doing: str) -> LlavaPlusError:
        """The error, with this worker's URL in it where it is the operator's."""
        if isinstance(error, SkillError | ImagesMissing):
            return error
        told = f"worker {self.url} failed {doing}: {error}"
        if isinstance(error, TooBusy):
            return TooBusy(told, retry_after=error.retry_after)
        if isinstance(error, UnknownImage):  # of those that the skill made, one is gone
            return AnswerLost(told)
        return (type(error) if isinstance(error, WorkerUnavailable) else WorkerUnavailable)(told)

    def _remember(self, sha256: str) -> None:
        if len(self._known) >= _MANY_HASHES:
            self._known.clear()
        self._known.add(sha256)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """The lines of a body; httpx's own end at U+2028 too, which JSON may hold."""
    rest: list[bytes] = []
    async for chunk in response.aiter_bytes():
        more, *begun = chunk.split(b"\n")
        rest.append(more)
        for piece in begun:
            yield b"".join(rest)
            rest = [piece]
    if any(rest):
        yield b"".join(rest)


def _seconds(retry_after: str | None) -> float:
    return float(retry_after) if retry_after and retry_after.isdecimal() else 1.0
