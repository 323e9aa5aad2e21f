"""A result of a skill as MCP carries it: text, images, and the same for programs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from mcp.types import CallToolResult, ContentBlock, ImageContent, TextContent
from pydantic import BaseModel, ConfigDict

from ...model.conversation import made_text
from ...skills.calls import Artifact, SkillResult
from ...skills.errors import LlavaPlusError
from ...skills.geometry import Mask
from ...skills.images import ImageRef, ImageStore, encode_image
from ..drawing import annotate
from .workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MADE", "Made", "image_content", "mask_image", "told_error", "told_result"]

MADE = "made"
"""The key of the structured content under which stands a list of `Made`."""


class Made(BaseModel):
    """An image or a mask that a call made: `content` is the place of its picture in the content."""

    model_config = ConfigDict(frozen=True)

    handle: str
    label: str = ""
    content: int
    mask: Mask | None = None


def told_result(
    result: SkillResult, store: ImageStore, workspace: Workspace, asked: ImageRef | None
) -> CallToolResult:
    """A result with the handles under which `workspace` keeps what was made.

    The content is the finding, a picture of every image and mask that was made, and last, where
    the skill found places in the image `asked` about, that image with the finding on it. Takes
    some tenths of a second for large images.
    """
    if result.error:
        return _told_problem(result.error.kind, result.error.message)
    pictures, made = [], []
    for place, artifact in enumerate(result.artifacts, 1):
        pictures.append(_picture(artifact, store))
        handle = workspace.keep(artifact.mask or _data(artifact, store))
        made.append(Made(handle=handle, label=artifact.label, content=place, mask=artifact.mask))
    text = made_text(result.text, [(one.handle, one.label) for one in made])
    content: list[ContentBlock] = [TextContent(text=text), *pictures]
    if asked and (drawn := annotate(store.image(asked), result)):
        content.append(image_content(_jpeg(drawn), "image/jpeg"))
    listed = [one.model_dump(mode="json", exclude_none=True) for one in made]
    structured: dict[str, Any] = {**result.data, **({MADE: listed} if listed else {})}
    return CallToolResult(content=content, structured_content=structured)


def told_error(error: LlavaPlusError) -> CallToolResult:
    """What went wrong with a call, for the model that made it."""
    return _told_problem(error.kind, str(error))


def image_content(data: bytes, media_type: str) -> ImageContent:
    """Image bytes as a part of the content."""
    return ImageContent(data=base64.b64encode(data).decode("ascii"), mime_type=media_type)


def mask_image(mask: Mask) -> bytes:
    """A mask as a PNG image of its size, white where the mask is and black elsewhere."""
    from PIL import Image as Pillow

    return encode_image(Pillow.fromarray(mask.array()).convert("L"))


def _told_problem(kind: str, message: str) -> CallToolResult:
    error = {"error": {"kind": kind, "message": message}}
    content: list[ContentBlock] = [TextContent(text=message)]
    return CallToolResult(content=content, structured_content=error, is_error=True)


def _picture(artifact: Artifact, store: ImageStore) -> ImageContent:
    if artifact.mask:
        return image_content(mask_image(artifact.mask), "image/png")
    assert artifact.image
    return image_content(store.data(artifact.image), artifact.image.media_type)


def _data(artifact: Artifact, store: ImageStore) -> bytes:
    assert artifact.image
    return store.data(artifact.image)


def _jpeg(image: Image) -> bytes:
    """A picture that is only looked at, so it need not be exact."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()
