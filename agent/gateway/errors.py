"""Errors as clients of OpenAI's API know them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel
from starlette.responses import JSONResponse

from ...skills.errors import BadInput

__all__ = ["BadField", "Conflict", "ErrorBody", "ErrorDetail", "UnknownModel", "error_response"]


class ErrorDetail(BaseModel):
    """What went wrong: in words, as a kind, and in which field of the request if in one."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail


class BadField(BadInput):
    """A field of the request cannot be used; `param` is its place."""

    def __init__(self, message: str, *, param: str | None) -> None:
        super().__init__(message)
        self.param = param


class UnknownModel(BadField):
    """No LMM here has the name that was asked for."""


class Conflict(BadInput):
    """What was asked for came to nothing because somebody else changed it, such as a stop."""


def error_response(
    status: int,
    message: str,
    *,
    type: str,
    code: str | None = None,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An answer in the form that OpenAI's clients raise their errors from."""
    detail = ErrorDetail(message=message, type=type, param=param, code=code)
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, headers)
