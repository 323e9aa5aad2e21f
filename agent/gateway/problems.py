"""What each error of the project is to a client: an HTTP status and a kind."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ...skills.errors import (
    BadConfiguration,
    BadInput,
    BadReply,
    DeadlineExceeded,
    LlavaPlusError,
    SkillError,
    WorkerUnavailable,
)
from ...skills.wire import TooLarge
from ..store.values import NotKept
from .access import Forbidden, Unauthorized
from .errors import (
    BadField,
    Conflict,
    ErrorBody,
    ErrorDetail,
    UnknownModel,
    error_response,
)
from .limits import TooManyRequests

__all__ = ["HANDLERS", "Problem", "documented", "problem_of"]

log = logging.getLogger(__name__)

_CLIENT_CLOSED_REQUEST = 499
_BROKE = "something in this server broke; its log says what"

_INVALID = "invalid_request_error"
_SERVER = "server_error"
_ERRORS: dict[type[Exception], tuple[int, str, str | None]] = {
    Unauthorized: (401, "authentication_error", "invalid_api_key"),
    Forbidden: (403, "permission_error", "insufficient_scope"),
    NotKept: (404, _INVALID, "not_found"),
    UnknownModel: (404, _INVALID, "model_not_found"),
    Conflict: (409, _INVALID, "conflict"),
    TooLarge: (413, _INVALID, "request_too_large"),
    TooManyRequests: (429, "rate_limit_error", "rate_limit_exceeded"),
    BadInput: (400, _INVALID, None),
    SkillError: (400, _INVALID, None),  # such as the name of a skill that is not on offer
    BadReply: (502, _SERVER, "bad_reply"),
    DeadlineExceeded: (504, _SERVER, "deadline_exceeded"),
    WorkerUnavailable: (503, _SERVER, "unavailable"),
    BadConfiguration: (500, _SERVER, "bad_configuration"),
    LlavaPlusError: (500, _SERVER, "internal_error"),
    Exception: (500, _SERVER, "internal_error"),
}


@dataclass(frozen=True)
class Problem:
    """An error as it travels, in an answer of its own or as the last event of a stream."""

    status: int
    detail: ErrorDetail
    headers: Mapping[str, str]

    def response(self) -> Response:
        """The answer that tells it."""
        shown = self.detail
        return error_response(
            self.status,
            shown.message,
            type=shown.type,
            code=shown.code,
            param=shown.param,
            headers=self.headers,
        )


def problem_of(error: Exception) -> Problem:
    """What a client is told; of an error that is no `LlavaPlusError`, only that there was one."""
    nearest = next(base for base in type(error).__mro__ if base in _ERRORS)
    status, kind, code = _ERRORS[nearest]
    message = error.told if isinstance(error, LlavaPlusError) else _BROKE
    param = error.param if isinstance(error, BadField) else None
    headers = {}
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, TooLarge):
        headers["Connection"] = "close"  # or the rest of the body would be read to its end
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    detail = ErrorDetail(message=message, type=kind, param=param, code=code)
    return Problem(status, detail, headers)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with beside those of every route, for its document."""
    common = (400, 401, 403, 413, 429, 500, 503)
    return {
        status: {"model": ErrorBody, "description": HTTPStatus(status).phrase}
        for status in sorted({*common, *statuses})
    }


async def _tell(request: Request, error: Exception) -> Response:
    if isinstance(error, LlavaPlusError) and error.told != str(error):
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return problem_of(error).response()


async def _tell_bug(request: Request, error: Exception) -> Response:
    log.error("%s %s broke", request.method, request.url.path, exc_info=error)
    return problem_of(error).response()


async def _tell_nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_CLOSED_REQUEST)


async def _tell_http(request: Request, error: Exception) -> Response:
    """No such route, a wrong method, a body that cannot be taken apart."""
    assert isinstance(error, HTTPException)
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code)
    message = f"{request.method} {request.url.path}: {error.detail}"
    kind = _INVALID if error.status_code < 500 else _SERVER
    return error_response(error.status_code, message, type=kind, code=code, headers=error.headers)


async def _tell_invalid(request: Request, error: Exception) -> Response:
    """A request that does not fit its form: the problem that lies deepest, so the most telling."""
    assert isinstance(error, RequestValidationError)
    found = [(_place(problem["loc"], error.body), problem) for problem in error.errors()]
    place, problem = max(found, key=lambda one: len(one[0]))
    param = ".".join(map(str, place)) or None
    message = str(problem.get("ctx", {}).get("error", problem["msg"]))
    told = f"{param}: {message}" if param else message
    return error_response(400, told, type=_INVALID, param=param)


def _place(location: Sequence[int | str], body: Any) -> list[int | str]:
    """Where in the request a problem lies: pydantic names the members of unions too."""
    kind, *steps = location
    if kind != "body":
        return steps
    place: list[int | str] = []
    value = body
    for number, step in enumerate(steps):
        there = (
            step < len(value)
            if isinstance(value, list) and isinstance(step, int)
            else (isinstance(value, Mapping) and step in value)
        )
        missing = isinstance(value, Mapping) and number == len(steps) - 1
        if there or missing:
            place.append(step)
        value = value[step] if there else value
    return place


HANDLERS: dict[int | type[Exception], Callable[[Request, Exception], Any]] = {
    LlavaPlusError: _tell,
    RequestValidationError: _tell_invalid,
    HTTPException: _tell_http,
    ClientDisconnect: _tell_nobody,
    Exception: _tell_bug,
}
"""For FastAPI: every error becomes an answer in OpenAI's form, and no traceback leaves."""
