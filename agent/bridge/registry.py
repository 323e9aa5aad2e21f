"""Workers of others that have registered here, as LLaVA-Plus's controller keeps them."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import httpx
from pydantic import BaseModel, Field, ValidationError

__all__ = ["HeartBeat", "Registration", "Registry", "Status"]

_SILENCE = 90.0
"""Seconds without a heart beat after which a worker is forgotten: two of its beats."""
_STATUS_SECONDS = 5.0


class Status(BaseModel):
    """What a worker says of itself."""

    model_names: list[str]
    speed: Annotated[float, Field(gt=0)] = 1
    queue_length: Annotated[int, Field(ge=0)] = 0


class Registration(BaseModel):
    """Body of `/register_worker`."""

    worker_name: Annotated[str, Field(pattern=r"^https?://")]
    check_heart_beat: bool
    worker_status: Status | None = None


class HeartBeat(BaseModel):
    """Body of `/receive_heart_beat`."""

    worker_name: str
    queue_length: Annotated[int, Field(ge=0)]


class _Worker:
    def __init__(self, status: Status, *, beats: bool) -> None:
        self.status = status
        self.beats = beats
        self.last_beat = time.monotonic()

    @property
    def silent(self) -> bool:
        return self.beats and time.monotonic() - self.last_beat > _SILENCE


class Registry:
    """Registered workers by address; of several for a name, the one with the shortest queue."""

    def __init__(self) -> None:
        self._workers: dict[str, _Worker] = {}

    @property
    def models(self) -> set[str]:
        """Every name that a worker serves."""
        return {name for worker in self._living().values() for name in worker.status.model_names}

    def address(self, model: str) -> str:
        """A worker for the name, which counts as busier by one from now on; empty for none."""
        serving = [
            (worker.status.queue_length / worker.status.speed, address)
            for address, worker in self._living().items()
            if model in worker.status.model_names
        ]
        if not serving:
            return ""
        _, address = min(serving)
        self._workers[address].status.queue_length += 1
        return address

    async def register(self, registration: Registration) -> None:
        """Add a worker, or bring it up to date; one that does not say what it serves is asked."""
        address = registration.worker_name
        status = registration.worker_status or await _ask(address)
        if status:
            self._workers[address] = _Worker(status, beats=registration.check_heart_beat)

    def beat(self, heart_beat: HeartBeat) -> bool:
        """Note that a worker lives; False when it is to register again."""
        worker = self._living().get(heart_beat.worker_name)
        if worker is None:
            return False
        worker.last_beat = time.monotonic()
        worker.status.queue_length = heart_beat.queue_length
        return True

    async def refresh(self) -> None:
        """Ask every worker how it is, and forget those that are gone.

        One that is too busy to answer in time is kept, unlike in LLaVA-Plus's controller.
        """
        living = dict(self._living())  # others may come while we wait
        statuses = await asyncio.gather(*(_ask(address) for address in living))
        for (address, worker), status in zip(living.items(), statuses, strict=True):
            if status is None:
                self._workers.pop(address, None)
            elif status.model_names:
                worker.status = status

    def _living(self) -> dict[str, _Worker]:
        self._workers = {
            address: worker for address, worker in self._workers.items() if not worker.silent
        }
        return self._workers


async def _ask(address: str) -> Status | None:
    """How a worker is: None when it is gone, and without names when it is too busy to say."""
    try:
        async with httpx.AsyncClient(timeout=_STATUS_SECONDS, trust_env=False) as client:
            response = await client.post(f"{address}/worker_get_status")
        return Status.model_validate_json(response.content)
    except httpx.ReadTimeout:
        return Status(model_names=[])
    except (httpx.HTTPError, httpx.InvalidURL, ValidationError):
        return None
