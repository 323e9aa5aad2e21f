"""The worker protocol in types: what both sides read and write (see docs/worker-protocol.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError

from .calls import SkillProblem, SkillResult, SkillSpec
from .errors import (
    BadConfiguration,
    BadInput,
    BadSkillUse,
    DeadlineExceeded,
    LlavaPlusError,
    SkillFailed,
    UnknownSkill,
    WorkerUnavailable,
)
from .geometry import Mask
from .progress import Progress

__all__ = [
    "DEADLINE_HEADER",
    "MAX_REQUEST_BYTES",
    "SECRET_VARIABLE",
    "STREAM_TYPE",
    "AnswerLost",
    "BadSecret",
    "CallRequest",
    "ImagesMissing",
    "Readiness",
    "Refused",
    "SkillCard",
    "SkillCards",
    "SkillCrashed",
    "SkillState",
    "TooBusy",
    "TooLarge",
    "UnknownImage",
    "decode_line",
    "decode_problem",
    "decode_result",
    "encode_problem",
    "encode_progress",
    "encode_result",
    "known_class",
    "status_of",
]

SECRET_VARIABLE = "LLAVA_PLUS_WORKER_SECRET"
"""Environment variable with what callers have to show; an argument would show in the process list.
"""

DEADLINE_HEADER = "X-Deadline-Seconds"
"""How many seconds the caller still waits; a span, because two machines' clocks differ."""

MAX_REQUEST_BYTES = 32 * 1024 * 1024

STREAM_TYPE = "application/x-ndjson"
"""What a client accepts that wants to hear of a call's progress: one JSON object a line."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CallRequest(BaseModel):
    """Body of `POST /v1/skills/{name}`: the call, and what its handles stand for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    arguments: dict[str, Any]
    images: dict[str, Sha256] = {}
    masks: dict[str, Mask] = {}


class SkillCard(BaseModel):
    """A skill that a worker serves, with its limits: calls at once, and calls that may wait.

    A call of it may be sent again though it may have run, where it is `repeatable`.
    """

    model_config = ConfigDict(frozen=True)

    spec: SkillSpec
    parallel: int
    queue: int
    repeatable: bool = False


class SkillCards(BaseModel):
    """Body of `GET /v1/skills`."""

    model_config = ConfigDict(frozen=True)

    skills: tuple[SkillCard, ...]
    max_image_bytes: int
    max_request_bytes: int


class SkillState(BaseModel):
    """Whether a skill can be called now; `reason` says why not."""

    model_config = ConfigDict(frozen=True)

    state: Literal["ready", "starting", "broken", "stuck"]
    reason: str = ""


class Readiness(BaseModel):
    """Body of `GET /readyz`: 200 when every skill is ready, else 503."""

    model_config = ConfigDict(frozen=True)

    ready: bool
    skills: dict[str, SkillState]


class Refused(WorkerUnavailable):
    """The worker did not take the request up: nothing ran, so it may be sent again."""


class AnswerLost(WorkerUnavailable):
    """No answer of the worker's own came back; whether the skill ran is not known."""

    @property
    def kind(self) -> str:
        """The kind of its base: only a client that may send the call again tells them apart."""
        return WorkerUnavailable.__name__


class TooBusy(Refused):
    """Every slot of the skill is taken and its queue is full; ask again after some seconds."""

    def __init__(self, message: str, *, retry_after: float = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ImagesMissing(Refused):
    """The worker does not hold these images (any more): upload them and send the call again."""

    def __init__(self, missing: list[str]) -> None:
        super().__init__(f"these images are not here: {', '.join(missing)}")
        self.missing = missing


class BadSecret(BadConfiguration):
    """The caller did not show the secret that the worker was started with."""


class UnknownImage(BadInput):
    """No image with this hash is here (any more)."""


class TooLarge(BadInput):
    """The body of a request is larger than the worker takes."""


class SkillCrashed(SkillFailed):
    """The skill raised what it never announced; to the model it is a failure like any other."""

    @property
    def kind(self) -> str:
        """The kind of its base: the crash shows only in the HTTP status, for the operator."""
        return SkillFailed.__name__


_STATUS: dict[type[LlavaPlusError], int] = {
    BadInput: 400,
    BadSecret: 401,
    UnknownSkill: 404,
    UnknownImage: 404,
    ImagesMissing: 409,
    TooLarge: 413,
    BadSkillUse: 422,
    SkillFailed: 424,
    TooBusy: 429,
    SkillCrashed: 500,
    LlavaPlusError: 500,
    Refused: 503,
    WorkerUnavailable: 503,
    DeadlineExceeded: 504,
}
_KINDS = {error.__name__: error for error in _STATUS if error is not ImagesMissing}


class _Problem(SkillProblem):
    missing: tuple[Sha256, ...] = ()


class _ErrorBody(BaseModel):
    error: _Problem


class _ProgressBody(BaseModel):
    progress: Progress


class _Line(BaseModel):
    """What tells the lines of a stream apart; the line of a result has neither."""

    progress: Progress | None = None
    error: _Problem | None = None


def status_of(error: LlavaPlusError) -> int:
    """The HTTP status under which `error` travels: that of the nearest class listed above."""
    return _STATUS[known_class(error)]


def known_class(error: LlavaPlusError) -> type[LlavaPlusError]:
    """The nearest class of `error` that every worker and client knows."""
    return next(base for base in type(error).__mro__ if base in _STATUS)


def encode_problem(error: LlavaPlusError) -> bytes:
    """The JSON body of an error: `{"error": {"kind": ..., "message": ...}}`."""
    missing = tuple(error.missing) if isinstance(error, ImagesMissing) else ()
    body = _ErrorBody(error=_Problem(kind=error.kind, message=str(error), missing=missing))
    return body.model_dump_json(exclude_defaults=True).encode()


def decode_problem(status: int, body: bytes) -> LlavaPlusError:
    """The error that a response other than 200 stands for."""
    try:
        problem = _ErrorBody.model_validate_json(body).error
    except ValidationError:
        return AnswerLost(f"HTTP status {status} without an error in the known form")
    return _error_of(problem)


def _error_of(problem: _Problem) -> LlavaPlusError:
    if problem.missing:
        return ImagesMissing(list(problem.missing))
    return _KINDS.get(problem.kind, WorkerUnavailable)(problem.message)


def encode_result(result: SkillResult) -> bytes:
    """The JSON body of a result. Raises `SkillCrashed` when it cannot be written as JSON."""
    try:
        return result.model_dump_json(exclude={"error"}).encode()
    except PydanticSerializationError as error:
        raise SkillCrashed(f"{result.name} made a result that is not JSON: {error}") from error


def decode_result(body: bytes) -> SkillResult:
    """The result in a 200 response. Raises `WorkerUnavailable` when it is none."""
    try:
        result = SkillResult.model_validate_json(body)
    except ValidationError as error:
        raise WorkerUnavailable(f"its result cannot be read: {error}") from error
    if result.error:
        raise WorkerUnavailable("its result has status 200 and an error inside")
    return result


def encode_progress(progress: Progress) -> bytes:
    """The line of a stream that tells of progress: `{"progress": {"done": 3, ...}}`."""
    return _ProgressBody(progress=progress).model_dump_json().encode()


def decode_line(line: bytes) -> Progress | LlavaPlusError | None:
    """The progress or the error in a line of a stream; none where it can only be the result."""
    try:
        parsed = _Line.model_validate_json(line)
    except ValidationError:
        return None
    return _error_of(parsed.error) if parsed.error else parsed.progress
