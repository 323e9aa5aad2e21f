"""From a client's messages to a turn: images, history, tools."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from ...model.conversation import AssistantMessage, Conversation
from ...skills.calls import SkillResult, SkillSpec, SkillUse
from ...skills.errors import BadConfiguration, BadInput
from ...skills.images import MAX_BYTES, MAX_PIXELS, ImageStore
from ...skills.wire import TooLarge
from ..checking import UseChecker
from ..fetching import ImageUrls, fetch_image
from ..store.store import ConversationStore
from ..store.values import NotKept
from .access import Caller
from .errors import BadField
from .wire import (
    AssistantSaid,
    ClientTool,
    FilePart,
    ImagePart,
    Said,
    SystemSaid,
    TextPart,
    ToolCall,
    ToolSaid,
    UserPart,
    UserSaid,
)

__all__ = ["History", "ImageReader", "check_image", "client_specs", "results_in", "words_of"]

MOST_IMAGES = 64
"""In one request; each may be an address to fetch from."""

_FETCH_SECONDS = 20.0
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+(?:;[\w.+=-]+)*;base64,", re.ASCII)
_LONGEST_HEAD = 200


class ImageReader:
    """Brings the bytes of the images of one request, wherever they are.

    Raises `BadField` for what is no image that may be had, `TooLarge` for too much of them.
    """

    def __init__(self, store: ConversationStore, caller: Caller, urls: ImageUrls) -> None:
        self.caller = caller
        self._store = store
        self._urls = urls
        self._count = 0
        self._bytes = 0

    async def read(self, part: ImagePart | FilePart, param: str) -> bytes:
        """The bytes of one image; `param` is the place of the part in the request."""
        self._count += 1
        if self._count > MOST_IMAGES:
            raise BadField(f"at most {MOST_IMAGES} images are taken at once", param=param)
        try:
            data = await self._data(part)
            await asyncio.to_thread(check_image, data, self.caller.limits.pixels)
        except (NotKept, TooLarge):
            raise
        except BadInput as error:
            raise BadField(f"{param}: {error}", param=param) from error
        self._bytes += len(data)
        if self._bytes > self.caller.limits.upload_bytes:
            raise TooLarge(f"the images have more than {self.caller.limits.upload_bytes:,} bytes")
        return data

    async def _data(self, part: ImagePart | FilePart) -> bytes:
        if isinstance(part, FilePart):
            return await self._store.file_bytes(part.file.file_id, self.caller.owner)
        return await self.at(part.image_url.url)

    async def at(self, url: str) -> bytes:
        """The bytes behind a data URI, or an address of the web where these are allowed."""
        if url.startswith("data:"):
            return await asyncio.to_thread(_decoded, url)
        if url.startswith(("http://", "https://")):
            return await fetch_image(
                url, allowed=self._urls, max_bytes=MAX_BYTES, timeout=_FETCH_SECONDS
            )
        raise BadInput("an image is a data URI with base64, or an address that begins with http")


def check_image(data: bytes, pixels: int) -> None:
    """Raises `BadInput` for an image larger than the caller may send, by what its head says.

    Whether it is an image at all is found out where it is decoded.
    """
    from PIL import Image

    if pixels >= MAX_PIXELS:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                size = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return
    if size[0] * size[1] > pixels:
        raise BadInput(f"the image is {size[0]} x {size[1]}; at most {pixels:,} pixels are taken")


def _decoded(uri: str) -> bytes:
    head = _DATA_URI.match(uri[:_LONGEST_HEAD])
    if not head:
        raise BadInput("a data URI must begin like data:image/png;base64,")
    body = uri[head.end() :]
    if len(body) * 3 // 4 > MAX_BYTES + 2:
        raise BadInput(f"the image has more than the {MAX_BYTES:,} bytes that are taken")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"the data URI is not base64: {error}") from error


class History:
    """A whole history that a client sent, put together message by message.

    System messages, which a conversation does not have, stand before the next request, as they
    do in records that are imported. `root` is where in the request the messages are. Raises
    `BadField`.
    """

    def __init__(self, reader: ImageReader, root: str) -> None:
        self.value = Conversation()
        self.images = ImageStore()
        self._reader = reader
        self._root = root
        self._system: list[str] = []
        self._open: dict[str, str] = {}  # names of the client's tools by the ids of calls

    async def read(self, messages: Sequence[Said]) -> None:
        """Take in all messages, of which the last must want an answer."""
        for number, message in enumerate(messages):
            param = f"{self._root}.{number}"
            if isinstance(message, SystemSaid):
                self._system.append(words_of(message.content))
                continue
            if self._open and not isinstance(message, ToolSaid):
                waiting = ", ".join(self._open)
                raise BadField(
                    f"{param}: results of these calls are missing: {waiting}", param=param
                )
            match message:
                case UserSaid():
                    await self._ask(message, param)
                case AssistantSaid():
                    self._reply(message, param)
                case ToolSaid():
                    self._result(message, param)
        if self._open:
            waiting = ", ".join(self._open)
            raise BadField(f"results of these calls are missing: {waiting}", param=self._root)
        if not isinstance(messages[-1], UserSaid | ToolSaid):
            raise BadField("the last message must be a request or a result", param=self._root)

    async def _ask(self, message: UserSaid, param: str) -> None:
        text, given = await read_request(self._reader, message.content, param)
        text = "\n\n".join([*self._system, text]) if text.strip() else text
        self._system = []
        try:
            refs = [
                await asyncio.to_thread(self.images.add, data, name=f"image {number}")
                for number, data in enumerate(given, 1)
            ]
            self.value = self.value.ask(text, refs)
        except BadInput as error:
            raise BadField(f"{param}: {error}", param=f"{param}.content") from error

    def _reply(self, message: AssistantSaid, param: str) -> None:
        calls = message.tool_calls or []
        uses = tuple(
            _use(call, f"{param}.tool_calls.{number}") for number, call in enumerate(calls)
        )
        self._open = {use.id: use.name for use in uses}
        if len(self._open) < len(uses):
            raise BadField(f"{param}: two calls have one id", param=f"{param}.tool_calls")
        text = words_of(message.content or "")
        self.value = self.value.reply(AssistantMessage(text=text, skill_uses=uses))

    def _result(self, message: ToolSaid, param: str) -> None:
        id_ = message.tool_call_id
        if id_ not in self._open:
            raise BadField(
                f"{param}: no call before it has the id {id_!r}", param=f"{param}.tool_call_id"
            )
        text = words_of(message.content)
        result = SkillResult(id=id_, name=self._open.pop(id_), text=text)
        self.value = self.value.add_result(result)


async def read_request(
    reader: ImageReader, content: str | Sequence[UserPart], param: str
) -> tuple[str, list[bytes]]:
    """The words of a request and the bytes of its images."""
    if isinstance(content, str):
        return content, []
    images = [
        await reader.read(part, f"{param}.content.{number}")
        for number, part in enumerate(content)
        if not isinstance(part, TextPart)
    ]
    return words_of([part for part in content if isinstance(part, TextPart)]), images


def results_in(messages: Sequence[ToolSaid], names: dict[str, str]) -> list[SkillResult]:
    """Results of calls whose tools have these names, by id."""
    return [
        SkillResult(
            id=message.tool_call_id,
            name=names.get(message.tool_call_id, ""),
            text=words_of(message.content),
        )
        for message in messages
    ]


def words_of(content: str | Iterable[TextPart]) -> str:
    """The text of a message, whose parts stand on lines of their own."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def client_specs(tools: Sequence[ClientTool]) -> tuple[SkillSpec, ...]:
    """The client's tools as they are offered to the LMM. Raises `BadField`."""
    specs: dict[str, SkillSpec] = {}
    for number, tool in enumerate(tools):
        param = f"tools.{number}.function"
        function = tool.function
        spec = SkillSpec(
            name=function.name,
            description=function.description or "",
            parameters=function.parameters or {"type": "object", "properties": {}},
        )
        if spec.name in specs:
            raise BadField(f"two tools are named {spec.name!r}", param=f"{param}.name")
        _check_finite(spec.parameters, f"{param}.parameters")
        try:
            UseChecker([spec])
        except BadConfiguration as error:
            raise BadField(str(error), param=f"{param}.parameters") from error
        specs[spec.name] = spec
    return tuple(specs.values())


def _use(call: ToolCall, param: str) -> SkillUse:
    """A call in a history. Raises `BadField` when its arguments are not a JSON object."""
    place = f"{param}.function.arguments"
    try:
        arguments = json.loads(call.function.arguments)
    except (ValueError, RecursionError) as error:
        raise BadField(f"{place} are not JSON: {error}", param=place) from error
    if not isinstance(arguments, dict):
        raise BadField(f"{place} are not a JSON object", param=place)
    _check_finite(arguments, place)
    return SkillUse(id=call.id, name=call.function.name, arguments=arguments)


def _check_finite(value: dict[str, Any], param: str) -> None:
    """Raises `BadField` for what only Python takes for JSON: NaN, infinity, half characters."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise BadField(f"{param} cannot be written as JSON: {error}", param=param) from error
