"""/v1/files: images that are uploaded once and named in many requests. And what skills made."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from ...skills.errors import BadInput
from ...skills.images import MAX_BYTES, read_image
from ..store.values import KeptFile
from .access import Caller
from .errors import BadField
from .inbound import check_image
from .problems import documented
from .routing import ChatCaller, Id, Sha256, chats_of

__all__ = ["router"]

router = APIRouter(tags=["files"])

Purpose = Literal["vision", "user_data"]
_LONGEST_NAME = 200
_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The image.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class FileObject(BaseModel):
    """A file without its bytes."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    media_type: str

    @classmethod
    def of(cls, file: KeptFile) -> FileObject:
        """The form in which a kept file is told."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=int(file.created.timestamp()),
            filename=file.filename,
            purpose=file.purpose,
            media_type=file.media_type,
        )


class FileList(BaseModel):
    """All files of the caller, oldest first."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: Literal[False] = False


class FileDeleted(BaseModel):
    """The file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


@router.post("/v1/files", responses=documented())
async def upload_file(
    request: Request,
    file: Annotated[UploadFile, File()],
    purpose: Annotated[Purpose, Form()],
    caller: ChatCaller,
) -> FileObject:
    """Keep an image; that it is one is told by its content, whatever its name says."""
    data = await file.read(MAX_BYTES + 1)
    try:
        media_type = await asyncio.to_thread(_media_type, data, caller)
    except BadInput as error:
        raise BadField(str(error), param="file") from error
    name = (file.filename or "image").replace("\0", "")[:_LONGEST_NAME]
    kept = await chats_of(request).store.add_file(caller.owner, data, name, purpose, media_type)
    return FileObject.of(kept)


@router.get("/v1/files", responses=documented())
async def list_files(
    request: Request, caller: ChatCaller, purpose: Purpose | None = None
) -> FileList:
    """The caller's files, all or those for one purpose."""
    files = await chats_of(request).store.files(caller.owner)
    chosen = [file for file in files if purpose in (None, file.purpose)]
    return FileList(data=[FileObject.of(file) for file in chosen])


@router.get("/v1/files/{file_id}", responses=documented(404))
async def retrieve_file(request: Request, file_id: Id, caller: ChatCaller) -> FileObject:
    """What is known of a file."""
    return FileObject.of(await chats_of(request).store.file(file_id, caller.owner))


@router.get(
    "/v1/files/{file_id}/content", response_class=Response, responses=_IMAGE | documented(404)
)
async def file_content(request: Request, file_id: Id, caller: ChatCaller) -> Response:
    """The bytes of a file."""
    store = chats_of(request).store
    file = await store.file(file_id, caller.owner)
    return _image(await store.file_bytes(file_id, caller.owner), file.media_type)


@router.delete("/v1/files/{file_id}", responses=documented(404))
async def delete_file(request: Request, file_id: Id, caller: ChatCaller) -> FileDeleted:
    """Delete a file; conversations keep what they were shown of it."""
    await chats_of(request).store.delete_file(file_id, caller.owner)
    return FileDeleted(id=file_id)


@router.get("/v1/artifacts/{sha256}", response_class=Response, responses=_IMAGE | documented(404))
async def artifact(request: Request, sha256: Sha256, caller: ChatCaller) -> Response:
    """An image of one of the caller's conversations: one that was sent, or that a skill made."""
    ref, data = await chats_of(request).image(caller.owner, sha256)
    return _image(data, ref.media_type)


def _media_type(data: bytes, caller: Caller) -> str:
    check_image(data, caller.limits.pixels)
    return read_image(data, name="the file")[0].media_type


def _image(data: bytes, media_type: str) -> Response:
    """An image that never changes, and that no browser takes for anything else."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    return Response(data, headers=headers, media_type=media_type)
