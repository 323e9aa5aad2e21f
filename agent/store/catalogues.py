"""The skills on offer in conversations, each list of them kept once, by its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from weakref import ref

from sqlalchemy import Connection, bindparam, delete, exists, select
from sqlalchemy.orm import Session

from ...skills.calls import SkillSpec
from .database import take_rows
from .tables import Base, CatalogueRow, ConversationRow

__all__ = ["Catalogues", "release_catalogue"]

_MOST = 256
"""So many of each kind are remembered: clients may bring lists of their own."""

_catalogues = Base.metadata.tables["catalogues"]
_THERE = (
    select(_catalogues.c.sha256)
    .where(_catalogues.c.sha256 == bindparam("sha256"))
    .with_for_update(read=True)
)


class Catalogues:
    """Lists of skills on their way to the database and back.

    They never change, so each is hashed once and read once. Any thread may ask.
    """

    def __init__(self) -> None:
        self._hashes: dict[tuple[int, ...], tuple[str, list[ref[SkillSpec]]]] = {}
        self._read: dict[str, tuple[SkillSpec, ...]] = {}

    def hash(self, skills: Sequence[SkillSpec]) -> str:
        """The hash of the specs as they are told, in their order."""
        ids = tuple(map(id, skills))
        known, specs = self._hashes.get(ids, ("", []))
        # The id of an object that is gone may be another's now.
        if not known or any(kept() is not spec for kept, spec in zip(specs, skills, strict=True)):
            if len(self._hashes) >= _MOST:
                self._hashes = {}
            known = hashlib.sha256(json.dumps(_told(skills)).encode()).hexdigest()
            self._hashes[ids] = known, [ref(spec) for spec in skills]
        return known

    def take(self, connection: Connection, sha256: str, skills: Sequence[SkillSpec]) -> None:
        """See that the specs are kept until a conversation of this transaction has them."""
        if connection.scalar(_THERE, {"sha256": sha256}) is None:
            rows = {sha256: {"sha256": sha256, "specs": _told(skills)}}
            take_rows(connection, CatalogueRow, rows)

    def read(
        self, session: Session, hashes: AbstractSet[str]
    ) -> Mapping[str, tuple[SkillSpec, ...]]:
        """The specs with these hashes, each of them read once."""
        if len(self._read) > _MOST:
            self._read = {}
        known = self._read
        if unknown := hashes - set(known):
            query = select(CatalogueRow).where(CatalogueRow.sha256.in_(sorted(unknown)))
            for found in session.scalars(query):
                known[found.sha256] = tuple(map(SkillSpec.model_validate, found.specs))
        return known


def release_catalogue(session: Session, sha256: str) -> None:
    """Delete the specs that no conversation has: a client's own may say something of it."""
    locked = select(CatalogueRow.sha256).where(CatalogueRow.sha256 == sha256).with_for_update()
    session.execute(locked)
    used = exists().where(ConversationRow.catalogue == CatalogueRow.sha256)
    session.execute(delete(CatalogueRow).where(CatalogueRow.sha256 == sha256, ~used))


def _told(skills: Sequence[SkillSpec]) -> list[dict[str, Any]]:
    return [spec.model_dump(mode="json") for spec in skills]
