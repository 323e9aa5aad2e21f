"""An LMM behind any server that speaks OpenAI's chat protocol: vLLM, Ollama, a hosted one.

Text from people, images and skills is sent as data. The server turns it into tokens, so it is
the server that must keep it from acting as control tokens; `control` cannot reach that far.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import random
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, Literal

import httpx
from pydantic import SecretStr

from ..skills.errors import (
    BadConfiguration,
    BadInput,
    BadReply,
    DeadlineExceeded,
    LlavaPlusError,
    WorkerUnavailable,
)
from ..skills.images import ImageRef, ImageStore, encode_image
from .chat_stream import Chunk, Heard, read_chunk, read_events, told
from .conversation import AssistantMessage, Conversation, SkillMessage
from .lmm import Event, Replied, SkillUseDelta, TextDelta
from .sampling import Sampling

__all__ = ["API_KEY_VARIABLE", "RemoteLMM", "Timeouts"]

API_KEY_VARIABLE = "LLAVA_PLUS_API_KEY"

_MOST_ENCODED = 256 * 1024 * 1024
_LONGEST_PROBLEM = 64 * 1024
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Timeouts:
    """Seconds to wait for a connection, for the first token (all tries), for more of a reply."""

    connect: float = 10.0
    first_token: float = 120.0
    next_token: float = 60.0


class RemoteLMM:
    """Asks `model` at `base_url`: `http://host:8000`, or with its path, `https://host/api/v1`.

    The key comes from `api_key` or the first of `key_variables` that is set; where the server
    does not take it, the error names them. Most servers take only text as the result of a call,
    so images that skills made follow in a user message, or with `tool_images="none"` stay unseen.
    A server that wants more than `longest_pause` seconds before the next try is given up.
    `options` are further fields of the request, such as `temperature` and `max_tokens`; a None
    leaves out one that the server does not take, as in `{"stream_options": None}`.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        key_variables: Sequence[str] = (API_KEY_VARIABLE,),
        timeouts: Timeouts | None = None,
        retries: int = 3,
        longest_pause: float = 30.0,
        tool_images: Literal["user", "none"] = "user",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = model
        self._url = _completions_url(base_url)
        self._address = str(self._url.copy_with(query=None))
        set_keys = (found for name in key_variables if (found := os.environ.get(name)))
        self._key = _checked_key(api_key or next(set_keys, ""))
        self._key_variables = tuple(key_variables)
        self._timeouts = timeouts or Timeouts()
        self._retries = retries
        self._longest_pause = longest_pause
        self._tool_images = tool_images
        self._options = dict(options or {})
        if taken := {"model", "messages", "stream", "tools"} & self._options.keys():
            raise BadConfiguration(f"options cannot set {', '.join(sorted(taken))}")
        self._encoded = _EncodedImages()
        key = self._key.get_secret_value()
        self._client = httpx.AsyncClient(
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(None, connect=self._timeouts.connect),
        )

    def __repr__(self) -> str:
        return f"RemoteLMM({self._address!r}, {self.name!r})"

    def with_sampling(self, wanted: Sampling) -> RemoteLMM:
        """The same model, asked with what is wanted; fields that are left out stay left out."""
        other = copy(self)
        left_out = {name: None for name, value in self._options.items() if value is None}
        other._options = {**self._options, **wanted.fields(), **left_out}
        return other

    async def reply(
        self, conversation: Conversation, store: ImageStore, *, calls_allowed: bool = True
    ) -> AsyncGenerator[Event, None]:
        """Stream a reply; its calls come when all of it is there."""
        heard = Heard()
        # In a thread, because encoding images would hold up every other conversation.
        body = await asyncio.to_thread(self._body, conversation, store, calls_allowed)
        async with aclosing(self._chunks(body)) as chunks:
            while (chunk := await self._next(chunks, heard)) is not None:
                if text := heard.take(chunk):
                    yield TextDelta(text)
        message = self._message(heard, calls_allowed)
        for use in message.skill_uses:
            yield SkillUseDelta(use)
        yield Replied(message, heard.usage())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _body(self, conversation: Conversation, store: ImageStore, calls_allowed: bool) -> bytes:
        fields: dict[str, Any] = {"stream_options": {"include_usage": True}, **self._options}
        fields |= {"model": self.name, "stream": True}
        fields["messages"] = self._messages(conversation, store)
        if tools := conversation.tools():
            fields["tools"] = tools
            if not calls_allowed:
                fields["tool_choice"] = "none"
        for name, value in self._options.items():
            if value is None:
                del fields[name]
        return json.dumps(fields).encode()

    def _messages(self, conversation: Conversation, store: ImageStore) -> list[dict[str, Any]]:
        def image(handle: str) -> dict[str, Any]:
            url = self._encoded.data_uri(handle, conversation.images[handle], store)
            return {"type": "image_url", "image_url": {"url": url}}

        messages: list[dict[str, Any]] = []
        made: list[str] = []  # by skills, to be shown behind the last of their results
        for message, chat in zip(conversation.messages, conversation.chat_messages(), strict=True):
            if not isinstance(message, SkillMessage):
                messages += _showing(made, image)
                made = []
            elif self._tool_images == "user":
                made += message.images
            messages.append(_on_the_wire(chat, image))
        return messages + _showing(made, image)

    async def _next(self, chunks: AsyncGenerator[Chunk, None], heard: Heard) -> Chunk | None:
        """The next chunk in time, or None at the end."""
        limit, doing = self._timeouts.next_token, "go on with its reply"
        seconds = limit
        if heard.first_token_seconds is None:
            limit, doing = self._timeouts.first_token, "begin its reply"
            seconds = heard.begun + limit - time.monotonic()
        with self._naming_server():
            try:
                async with asyncio.timeout(seconds):
                    return await anext(chunks, None)
            except TimeoutError as error:
                raise DeadlineExceeded(f"did not {doing} within {limit:g} s") from error

    def _message(self, heard: Heard, calls_allowed: bool) -> AssistantMessage:
        with self._naming_server():
            if not heard.finished:
                raise WorkerUnavailable("broke off in the middle of its reply")
            uses = heard.skill_uses()
            if uses and not calls_allowed:
                raise BadReply(f"called {uses[0].name!r} where no call was allowed")
            return AssistantMessage(text=heard.text, skill_uses=uses)

    async def _chunks(self, body: bytes) -> AsyncGenerator[Chunk, None]:
        """The chunks of a reply; asked for again while nothing of it has come."""
        for tried in count():
            received = False
            try:
                async with aclosing(self._try(body)) as chunks:
                    async for chunk in chunks:
                        received = True
                        yield chunk
                return
            except _PassingError as later:
                pause = max(later.pause, random.uniform(0.25, 0.5) * 2**tried)
                if received or tried >= self._retries or pause > self._longest_pause:
                    raise later.problem from later.__cause__
            await asyncio.sleep(pause)

    async def _try(self, body: bytes) -> AsyncGenerator[Chunk, None]:
        try:
            async with self._client.stream("POST", self._url, content=body) as response:
                await _check(response, self._key_variables)
                async with aclosing(read_events(response.aiter_bytes())) as events:
                    async for event in events:
                        yield read_chunk(event)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = str(error) or f"no connection within {self._timeouts.connect:g} s"
            raise _PassingError(WorkerUnavailable(f"cannot be reached: {reason}")) from error
        except httpx.TransportError as error:
            lost = WorkerUnavailable(f"broke off ({type(error).__name__}: {error})")
            raise _PassingError(lost) from error
        except httpx.DecodingError as error:
            raise BadReply(f"sent what cannot be unpacked: {error}") from error

    @contextmanager
    def _naming_server(self) -> Iterator[None]:
        """Say in every error which server it was, and never the key."""
        try:
            yield
        except LlavaPlusError as error:
            text = self._without_key(f"server {self._address} (model {self.name!r}) {error}")
            told = self._without_key(f"the LMM {self.name!r} {error}")
            raise type(error)(text, told=told) from error.__cause__

    def _without_key(self, text: str) -> str:
        key = self._key.get_secret_value()
        return text.replace(key, "***") if key else text


class _PassingError(Exception):
    """Nothing of a reply has come; the same request may be made again after a pause."""

    def __init__(self, problem: WorkerUnavailable, pause: float = 0.0) -> None:
        super().__init__(str(problem))
        self.problem = problem
        self.pause = pause


class _EncodedImages:
    """Images as data URIs, each encoded once; the longest unused go when there are too many."""

    def __init__(self) -> None:
        self._uris: dict[str, str] = {}
        self._size = 0
        self._lock = threading.Lock()

    def data_uri(self, handle: str, ref: ImageRef, store: ImageStore) -> str:
        """Raises `BadInput` when the image is no longer in the store."""
        with self._lock:
            uri = self._uris.pop(ref.sha256, None)
            if uri is None:
                try:
                    uri = _data_uri(ref, store)
                except KeyError as error:
                    raise BadInput(f"{handle} is no longer here: send the image again") from error
                self._size += len(uri)
            self._uris[ref.sha256] = uri
            while self._size > _MOST_ENCODED and len(self._uris) > 1:
                self._size -= len(self._uris.pop(next(iter(self._uris))))
            return uri


def _data_uri(ref: ImageRef, store: ImageStore) -> str:
    """The bytes as they came where every reader sees them alike, else a PNG of what is shown.

    A server may ignore that a photo is to be turned, or put a transparent image on black: boxes
    would then be off. And not every one reads TIFF.
    """
    from PIL import Image

    data, media_type = store.data(ref), ref.media_type
    with Image.open(io.BytesIO(data)) as opened:
        plain = opened.mode in ("L", "RGB") and "transparency" not in opened.info
        turned = opened.getexif().get(_ORIENTATION, 1) != 1
    if not plain or turned or media_type not in ("image/jpeg", "image/png", "image/webp"):
        data, media_type = encode_image(store.image(ref)), "image/png"
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _on_the_wire(message: dict[str, Any], image: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, list):
        parts = [image(part["image"]) if part["type"] == "image" else part for part in content]
        return {**message, "content": parts}
    if message.get("tool_calls") and not content:
        return {**message, "content": None}
    return message


def _showing(handles: list[str], image: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    """A user message with the images, or nothing when there are none."""
    parts: list[dict[str, Any]] = []
    for handle in handles:
        parts += [{"type": "text", "text": f"The image {handle}:"}, image(handle)]
    return [{"role": "user", "content": parts}] if parts else []


async def _check(response: httpx.Response, key_variables: Sequence[str]) -> None:
    """Raise what an answer stands for that is not a stream of events."""
    status, headers = response.status_code, response.headers
    if response.is_success:
        kind = headers.get("Content-Type", "no content type")
        if not kind.startswith("text/event-stream"):
            raise BadReply(f"answered with {kind} where a stream of events was asked for")
        return
    if response.is_redirect:
        raise BadConfiguration(f"sends on to {headers.get('Location')}: ask there at once")
    answer = f"answered {status}: {await _words(response)}"
    if status in (408, 429) or status >= 500:
        pause = _seconds(headers.get("Retry-After", ""))
        wish = f" (try again in {pause:.0f} s)" if pause else ""
        raise _PassingError(WorkerUnavailable(answer + wish), pause)
    if status in (401, 403):
        raise BadConfiguration(f"{answer} (check the key in {' or '.join(key_variables)})")
    if status == 404:
        raise BadConfiguration(f"{answer} (check its address and the name of the model)")
    raise BadReply(answer)


async def _words(response: httpx.Response) -> str:
    """What an error answer says, without reading more of it than can be shown."""
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > _LONGEST_PROBLEM:
            break
    text = data.decode(errors="replace")
    try:
        return told(json.loads(text))
    except (ValueError, RecursionError):
        return told(text)


def _seconds(retry_after: str) -> float:
    """`Retry-After` is a number of seconds or a date; 0 when it is neither."""
    try:
        if retry_after.strip().isdecimal():
            return float(retry_after)
        return (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0


def _completions_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise BadConfiguration(f"{base_url!r} is not the address of a server: {error}") from error
    if url.userinfo:
        raise BadConfiguration("the address of a server may not hold a password: give an api_key")
    if url.scheme not in ("http", "https") or not url.host:
        raise BadConfiguration(f"{base_url!r} is not the address of a server: http://host:port")
    path = url.path.rstrip("/") or "/v1"
    return url.copy_with(path=f"{path}/chat/completions")


def _checked_key(key: str) -> SecretStr:
    key = key.strip()
    if not key.isascii() or not key.isprintable():
        # Found out here, because a failing request would print it.
        raise BadConfiguration("the API key holds characters that no key can have")
    return SecretStr(key)
