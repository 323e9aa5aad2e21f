"""Who asks: from the key that a request shows, or the session of a browser, to a `Caller`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from fastapi.security import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection, Request

from ...skills.errors import BadInput
from ...skills.wire import TooLarge
from ..settings import Settings
from ..store.keys import SCOPES, KeptKey
from .limits import Limits, Meter

__all__ = [
    "KEY_PREFIX",
    "LOCAL",
    "Access",
    "Caller",
    "Forbidden",
    "KeyStore",
    "Unauthorized",
    "caller",
]

LOCAL = "local"
"""The owner of what is made where no key is needed."""

KEY_PREFIX = "lp_"

_TRUSTED_SECONDS = 3.0
"""How long a key counts as found; one that is revoked stops within this."""
_REMEMBERED = 10_000


class Unauthorized(BadInput):
    """The request shows no key, or one that is not known (any more)."""


class Forbidden(BadInput):
    """The key is known, and not for this."""


@dataclass(frozen=True)
class Caller:
    """Who asks, for whom what it makes is kept, and what it may do."""

    owner: str
    scopes: frozenset[str]
    limits: Limits

    def require(self, scope: str) -> None:
        """Raises `Forbidden` unless the caller has the scope."""
        if scope not in self.scopes:
            raise Forbidden(f"this key is not for {scope!r}; it is for: {_named(self.scopes)}")


class KeyStore(Protocol):
    """What is asked of the keys that the database holds."""

    async def verify(self, secret: str) -> KeptKey | None:
        """The key with this secret, unless there is none or it has been revoked."""

    async def list(self) -> list[KeptKey]:
        """Every key, those that have been revoked included."""


class Access:
    """Knows callers by their keys, and counts what they ask."""

    def __init__(
        self, keys: KeyStore, settings: Settings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.key_needed = settings.key_needed
        self._keys = keys
        self._settings = settings.access
        self._clock = clock
        self._meter = Meter(clock)
        self._found: dict[bytes, tuple[KeptKey, float]] = {}
        self.local = Caller(LOCAL, SCOPES, Limits.of(self._settings))
        """Whoever asks where no key is needed."""
        self._valid: tuple[dict[str, KeptKey], float] = ({}, float("-inf"))

    async def of_secret(self, secret: str) -> Caller:
        """The caller with this key. Raises `Unauthorized`."""
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        now = self._clock()
        key, until = self._found.get(digest, (None, now))
        if key is None or until <= now:
            self._found.pop(digest, None)
            key = await self._keys.verify(secret)
            if key is None:
                raise Unauthorized("the key is not known, or has been revoked")
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[digest] = (key, now + _TRUSTED_SECONDS)
        return self._caller(key)

    async def of_key(self, id_: str) -> Caller | None:
        """The caller whose key has this id, or None when the key has been revoked."""
        now = self._clock()
        if self._valid[1] <= now:
            valid = {key.id: key for key in await self._keys.list() if key.revoked is None}
            self._valid = (valid, now + _TRUSTED_SECONDS)
        key = self._valid[0].get(id_)
        return self._caller(key) if key else None

    async def of_request(self, request: HTTPConnection) -> Caller:
        """Who sent a request. Raises `Unauthorized`.

        Where no key is needed, what is no key of ours is passed over: clients of OpenAI's API
        must send something.
        """
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        secret = secret.strip() if kind.lower() == "bearer" else ""
        if secret and (self.key_needed or secret.startswith(KEY_PREFIX)):
            return await self.of_secret(secret)
        if not self.key_needed:
            return self.local
        of_session = request.scope.get(SESSION_CALLER)
        if isinstance(of_session, Caller):
            return of_session
        raise Unauthorized("a key is needed: send the header 'Authorization: Bearer lp_…'")

    def count(self, caller: Caller) -> None:
        """Count one request. Raises `TooManyRequests`."""
        self._meter.take(caller.owner, caller.limits.requests_per_minute)

    def turn(self, caller: Caller) -> AbstractContextManager[None]:
        """Hold one of the turns that the caller may have at once. Raises `TooManyRequests`."""
        return self._meter.turn(caller.owner, caller.limits.concurrent)

    def _caller(self, key: KeptKey) -> Caller:
        return Caller(key.id, key.scopes, Limits.of(self._settings, key.limits))


SESSION_CALLER = "llava_plus.caller"
"""Where in the ASGI scope `Gate` puts who sits before the browser."""

_BEARER = HTTPBearer(auto_error=False, bearerFormat="lp_…", description="A key of this server.")


def caller(scope: str) -> Callable[[Request], Awaitable[Caller]]:
    """A FastAPI dependency: who sent the request, with the scope, and one request counted.

    It raises `Unauthorized`, `Forbidden` or `TooManyRequests`.
    """
    return _Known(scope)


class _Known(SecurityBase):
    """A dependency that the document tells of as a key, without one of its own for that."""

    def __init__(self, scope: str) -> None:
        self.model, self.scheme_name = _BEARER.model, _BEARER.scheme_name
        self._scope = scope

    async def __call__(self, request: Request) -> Caller:
        access: Access = request.app.state.access
        found = await access.of_request(request)
        found.require(self._scope)
        access.count(found)
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > found.limits.upload_bytes:
            raise TooLarge(f"this key may send {found.limits.upload_bytes:,} bytes at once")
        return found


def _named(scopes: frozenset[str]) -> str:
    return ", ".join(sorted(scopes)) or "nothing"
