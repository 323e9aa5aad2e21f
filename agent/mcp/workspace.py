"""What a client's earlier calls made, by handle, for as long as there is room for it."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import OrderedDict

from ...skills.geometry import Mask

__all__ = ["SESSIONS", "SESSION_SECONDS", "Workspace", "Workspaces"]

SESSIONS = 100
"""So many sessions may be open at once over HTTP."""

SESSION_SECONDS = 30 * 60
"""A session that has asked nothing for so long is over."""

_COUNT = 64
_BYTES = 32 * 1024 * 1024
_SHARED = 16
"""So many times the room of one session have all clients without one together."""


class Workspace:
    """The newest images (their bytes) and masks, up to `count` and `max_bytes` in all.

    The handles are `img_1`, `img_2`, `mask_1` for a client of its own. Of a workspace that is
    `shared`, a handle holds 128 random bits, so that only those know it who were told. Several
    threads may use one.
    """

    def __init__(
        self, *, shared: bool = False, count: int = _COUNT, max_bytes: int = _BYTES
    ) -> None:
        self._shared = shared
        self._count = count
        self._max_bytes = max_bytes
        self._size = 0
        self._made = {"img": 0, "mask": 0}
        self._held: OrderedDict[str, bytes | Mask] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, thing: bytes | Mask) -> str:
        """Keep an image or a mask, and give its handle; what is oldest in use makes room."""
        kind = "mask" if isinstance(thing, Mask) else "img"
        with self._lock:
            self._made[kind] += 1
            handle = f"{kind}_{secrets.token_urlsafe(16) if self._shared else self._made[kind]}"
            self._held[handle] = thing
            self._size += _weight(thing)
            while self._is_too_full():
                self._size -= _weight(self._held.popitem(last=False)[1])
        return handle

    def get(self, handle: str) -> bytes | Mask | None:
        """What a handle stands for, or None where it was never given or had to make room."""
        with self._lock:
            if handle in self._held:
                self._held.move_to_end(handle)
            return self._held.get(handle)

    def known(self, kind: str) -> list[str]:
        """The handles that begin with `kind`, which a client may be told."""
        with self._lock:
            return [] if self._shared else [name for name in self._held if name.startswith(kind)]

    def _is_too_full(self) -> bool:
        """Whether something has to go; the newest stays, however large it is."""
        full = len(self._held) > self._count or self._size > self._max_bytes
        return full and len(self._held) > 1


class Workspaces:
    """A workspace for each session, dropped with it, and one for all clients without a session."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Workspace] = OrderedDict()
        self._ends: dict[str, asyncio.TimerHandle] = {}
        self.shared = Workspace(shared=True, count=_COUNT * _SHARED, max_bytes=_BYTES * _SHARED)

    def of(self, session: str) -> Workspace:
        """The workspace of a session; it ends when the session has been idle for too long."""
        if ending := self._ends.pop(session, None):
            ending.cancel()
        loop = asyncio.get_running_loop()
        self._ends[session] = loop.call_later(SESSION_SECONDS, self.drop, session)
        workspace = self._sessions.setdefault(session, Workspace())
        self._sessions.move_to_end(session)
        if len(self._sessions) > SESSIONS:
            self.drop(next(iter(self._sessions)))
        return workspace

    def drop(self, session: str) -> None:
        """Let go of all that a session holds."""
        self._sessions.pop(session, None)
        if ending := self._ends.pop(session, None):
            ending.cancel()


def _weight(thing: bytes | Mask) -> int:
    return len(thing.counts) if isinstance(thing, Mask) else len(thing)
