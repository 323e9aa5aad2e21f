"""Asking a worker of LLaVA-Plus, over the protocol of its `serve/` folder.

A worker that is not there raises `WorkerUnavailable`, one that is too slow `DeadlineExceeded`,
and one that says `error_code` raises `SkillFailed` with its words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from ..errors import (
    BadConfiguration,
    BadInput,
    DeadlineExceeded,
    SkillFailed,
    WorkerUnavailable,
)
from ..geometry import Corners
from ..images import shrunk
from ..peer_wire import corners, decode_picture, encode_picture
from ..skill import describe_validation
from . import Licence, Packages

if TYPE_CHECKING:
    import httpx
    from PIL.Image import Image

__all__ = ["Peer", "box_of", "picture_of", "rows"]

_CONNECT = 5.0
"""Seconds for a connection; a machine that is there takes milliseconds."""

_NO_ADDRESS = (
    "no worker of LLaVA-Plus is named: give its `url`, or its `controller`'s, as a setting"
)

Answer = TypeVar("Answer", bound=BaseModel)


@dataclass(config=ConfigDict(extra="forbid"))
class Peer:
    """What all of them share: where the worker is, and what goes with every request.

    Images are sent as PNG with a longer side of `side` pixels at most. `timeout` is in seconds.
    """

    url: str = ""
    controller: str = ""
    api: str = ""
    timeout: float = Field(default=60, gt=0, allow_inf_nan=False)
    side: int = Field(default=800, ge=16, le=8192)
    box_threshold: float = Field(default=0.3, ge=0, le=1)
    text_threshold: float = Field(default=0.25, ge=0, le=1)

    licence: ClassVar[Licence] = Licence("BSD-3-Clause", "those of the worker's model")
    packages: ClassVar[Packages] = Packages("", ("httpx",))

    def __post_init__(self) -> None:
        given = [address for address in (self.url, self.controller) if address]
        if len(given) > 1:
            raise ValueError("give the `url` of a worker or that of its `controller`, not both")
        if given and not given[0].startswith(("http://", "https://")):
            raise ValueError(f"{given[0]!r} is no address: it must begin with http://")

    def lacks(self) -> str:
        """The address, as long as the settings have none."""
        return "" if self.url or self.controller else _NO_ADDRESS

    def load(self, device: str) -> None:
        """Nothing to load: the worker has the model, and may be started later than this.

        Raises `BadConfiguration` when the settings have no address.
        """
        if lacking := self.lacks():
            raise BadConfiguration(lacking)

    def ask(
        self, answer: type[Answer], image: Image | None = None, **fields: object
    ) -> tuple[Answer, str]:
        """What the worker answers, and how errors name the worker."""
        worker = f"{self.api!r} of LLaVA-Plus at {self.url or self.controller}"
        thresholds = {"box_threshold": self.box_threshold, "text_threshold": self.text_threshold}
        pictured = {} if image is None else {"image": encode_picture(shrunk(image, self.side))}
        address = self.url or self._address(worker)
        told = self._post(address, "worker_generate", {**thresholds, **pictured, **fields}, worker)
        if told.get("error_code"):
            raise SkillFailed(f"{worker} failed: {told.get('text') or told['error_code']}")
        return _checked(answer, told, worker), worker

    def _address(self, worker: str) -> str:
        """The address that the controller knows for the API.

        The controller is not told to refresh its list, as the old client does before each call:
        that makes it forget workers that are busy.
        """
        asked = {"model": self.api}
        told = self._post(self.controller, "get_worker_address", asked, worker)
        if address := told.get("address"):
            return str(address)
        known = self._post(self.controller, "list_models", {}, worker).get("models") or ["none"]
        raise WorkerUnavailable(
            f"{worker}: the controller has no worker for it; it has: {', '.join(map(str, known))}"
        )

    def _post(self, address: str, path: str, body: object, worker: str) -> dict[str, Any]:
        import httpx

        limits = httpx.Timeout(self.timeout, connect=min(_CONNECT, self.timeout))
        try:
            response = _client().post(f"{address.rstrip('/')}/{path}", json=body, timeout=limits)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL) as error:
            raise WorkerUnavailable(f"{worker} cannot be reached ({address}): {error}") from error
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"{worker} was not done within {self.timeout:g} s") from error
        except httpx.TransportError as error:
            raise WorkerUnavailable(f"{worker} broke off: {error!r}") from error
        try:
            told = response.json() if response.status_code == 200 else None
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise WorkerUnavailable(
                f"{worker} answered with HTTP status {response.status_code} and no JSON object: "
                f"{response.text[:200]!r}"
            )
        return told


@cache
def _client() -> httpx.Client:
    """One client for all, because making one takes a fifth of a second.

    Connections are not kept: an old worker may close an idle one at any moment.
    """
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.Client(limits=limits, trust_env=False)


def _checked(answer: type[Answer], told: dict[str, Any], worker: str) -> Answer:
    try:
        return answer.model_validate(told)
    except ValidationError as error:
        reason = describe_validation(error)
        raise WorkerUnavailable(f"the answer of {worker} cannot be read: {reason}") from error


def rows(worker: str, *columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Lists that belong together, row by row."""
    try:
        return list(zip(*columns, strict=True))
    except ValueError as error:
        lengths = ", ".join(str(len(column)) for column in columns)
        raise WorkerUnavailable(f"{worker} sent lists of unlike lengths: {lengths}") from error


def box_of(worker: str, box: Sequence[float]) -> Corners:
    """A box that the worker sent, cut to the image."""
    try:
        return corners(box)
    except ValueError as error:
        raise WorkerUnavailable(f"the answer of {worker} cannot be read: {error}") from error


def picture_of(worker: str, text: str) -> Image:
    """A picture that the worker sent."""
    try:
        return decode_picture(text, name="its picture")
    except BadInput as error:
        raise WorkerUnavailable(f"the answer of {worker} cannot be read: {error}") from error
