"""Keys of the gateway. A secret is shown once; the database has only its hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from ...skills.errors import BadInput
from .part import Part
from .rows import clean, new_id
from .tables import KeyRow
from .values import NotKept

__all__ = ["SCOPES", "KeptKey", "Keys"]

SCOPES = frozenset({"chat", "skills", "admin"})
_SECRET = "lp_"
_BYTES = 32


@dataclass(frozen=True)
class KeptKey:
    """A key without its secret; its `id` is the owner of what it makes."""

    id: str
    name: str
    scopes: frozenset[str]
    limits: Mapping[str, int]
    created: datetime
    revoked: datetime | None


class Keys(Part):
    """What a store does with keys."""

    async def create(
        self, name: str, scopes: Collection[str], limits: Mapping[str, int]
    ) -> tuple[KeptKey, str]:
        """Make a key, and give its secret, which nobody can read later.

        Raises `BadInput` for a key without a name, or with a scope that is none.
        """
        if not name.strip():
            raise BadInput("the key has no name: say who or what it is for")
        if not scopes or set(scopes) - SCOPES:
            raise BadInput(
                f"scopes {sorted(scopes)} cannot be given: choose among {', '.join(sorted(SCOPES))}"
            )
        secret = _SECRET + secrets.token_urlsafe(_BYTES)
        row = KeyRow(
            id=new_id("key"),
            name=clean(name.strip()),
            scopes=sorted(set(scopes)),
            limits=dict(limits),
            sha256=_hash(secret),
            created=self._now(),
        )
        key = _kept(row)
        await self._database.writing(lambda session: session.add(row))
        return key, secret

    async def verify(self, secret: str) -> KeptKey | None:
        """The key with this secret, or None where there is none or it was revoked.

        How long it takes tells nothing of other secrets: they are found by a hash, of which
        nobody can choose the beginning, and it is compared in constant time.
        """
        sha256 = _hash(secret)
        query = select(KeyRow).where(KeyRow.sha256 == sha256, KeyRow.revoked.is_(None))
        row = await self._database.reading(lambda session: session.scalar(query))
        return _kept(row) if row and hmac.compare_digest(row.sha256, sha256) else None

    async def revoke(self, id: str) -> KeptKey:
        """End a key; one that has ended stays as it is. Raises `NotKept`."""

        def revoke(session: Session) -> KeptKey:
            row = session.get(KeyRow, id, with_for_update=True)
            if row is None:
                raise NotKept(f"there is no key {id!r}: `llava-plus keys list` has all of them")
            row.revoked = row.revoked or self._now()
            return _kept(row)

        return await self._database.writing(revoke)

    async def list(self) -> list[KeptKey]:
        """All keys, oldest first, also those that have ended."""
        query = select(KeyRow).order_by(KeyRow.created, KeyRow.id)
        return await self._database.reading(
            lambda session: [_kept(row) for row in session.scalars(query)]
        )


def _hash(secret: str) -> str:
    # 256 random bits need no slow hash: there is nothing to guess from.
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _kept(row: KeyRow) -> KeptKey:
    return KeptKey(
        id=row.id,
        name=row.name,
        scopes=frozenset(row.scopes),
        limits=dict(row.limits),
        created=row.created,
        revoked=row.revoked,
    )
