"""What a tool of an MCP server answered, as the result of a skill. All of it is data."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from typing import Any

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import TypeAdapter, ValidationError

from ...skills.calls import Artifact, SkillProblem, SkillResult, SkillUse
from ...skills.errors import BadInput, SkillFailed
from ...skills.images import ImageStore
from .outputs import MADE, Made

__all__ = ["read_result"]

_LONGEST = 20_000
"""Letters of text that an LMM is given to read; a web page can be any length."""

_MADE_LIST = TypeAdapter(list[Made])


def read_result(use: SkillUse, result: CallToolResult, store: ImageStore) -> SkillResult:
    """The result of `use`, its images checked and in `store`.

    An image that cannot be used is named in the text instead.
    """
    data = _data(result.structured_content)
    if result.is_error:
        told = _cut("\n".join(_texts(result.content))) or f"{use.name} failed without a word"
        problem = SkillProblem(kind=SkillFailed.__name__, message=told)
        return SkillResult(id=use.id, name=use.name, error=problem)
    made = _own(data, result.content)
    if made:
        data = {key: value for key, value in data.items() if key != MADE}
    artifacts, troubles = _artifacts(result.content, made, store)
    text = "\n".join([*_texts(result.content), *troubles])
    if made:
        # Our own server named handles there, which are others in this conversation.
        text = text.rpartition("\nMade ")[0] or text
    if not text:
        text = json.dumps(data, ensure_ascii=False) if data else _counted(use, artifacts)
    return SkillResult(
        id=use.id, name=use.name, text=_cut(text), data=data, artifacts=tuple(artifacts)
    )


def _data(structured: Any) -> dict[str, Any]:
    if structured is None:
        return {}
    return structured if isinstance(structured, dict) else {"result": structured}


def _own(data: dict[str, Any], content: Sequence[ContentBlock]) -> list[Made]:
    """What a server of this project says that it made; empty for other servers."""
    try:
        made = _MADE_LIST.validate_python(data.get(MADE, []))
    except ValidationError:
        return []
    places = [place for place, part in enumerate(content) if isinstance(part, ImageContent)]
    return made if all(one.content in places for one in made) else []


def _artifacts(
    content: Sequence[ContentBlock], made: Sequence[Made], store: ImageStore
) -> tuple[list[Artifact], list[str]]:
    """The images and masks, and words about images that cannot be used."""
    if made:
        wanted = [(content[one.content], one) for one in made]
    else:
        wanted = [(part, Made(handle="", content=0)) for part in content]
    artifacts, troubles = [], []
    for part, told in wanted:
        if told.mask:
            artifacts.append(Artifact(label=told.label, mask=told.mask))
        elif encoded := _image(part):
            try:
                ref = store.add(base64.b64decode(encoded, validate=True), name="an image")
                artifacts.append(Artifact(label=told.label, image=ref))
            except (BadInput, binascii.Error) as error:
                troubles.append(f"(An image came along that cannot be shown: {error}.)")
    return artifacts, troubles


def _image(part: ContentBlock) -> str | None:
    """An image in base64, given as such or as an embedded resource."""
    if isinstance(part, ImageContent):
        return part.data
    if isinstance(part, EmbeddedResource) and isinstance(part.resource, BlobResourceContents):
        return part.resource.blob if _is_image(part.resource.mime_type) else None
    return None


def _is_image(media_type: str | None) -> bool:
    return (media_type or "").startswith("image/")


def _texts(content: Sequence[ContentBlock]) -> Iterator[str]:
    for part in content:
        match part:
            case TextContent() if part.text:
                yield part.text
            case ResourceLink():
                yield f"{part.title or part.name}: {part.uri}"
            case AudioContent():
                yield f"(A sound of type {part.mime_type} came along, which cannot be heard here.)"
            case EmbeddedResource(resource=TextResourceContents() as resource):
                yield resource.text
            case EmbeddedResource(resource=resource) if not _is_image(resource.mime_type):
                yield f"({resource.uri} came along, of type {resource.mime_type}.)"


def _counted(use: SkillUse, artifacts: Sequence[Artifact]) -> str:
    return f"{use.name} is done." if artifacts else f"{use.name} is done; it brought nothing."


def _cut(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}\n(The rest, {len(text) - _LONGEST:,} letters, is left out.)"
