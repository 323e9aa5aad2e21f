"""Taking and letting go of bytes that several conversations and files may hold.

Whoever takes bytes, and whoever lets go of them, first locks their row until its transaction ends
(SQLite has one writer at a time), so that none are deleted while somebody else takes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, exists, or_, select
from sqlalchemy.orm import Session

from .artifacts import Artifacts
from .database import take_rows
from .engines import apart
from .tables import ArtifactRow, FileRow, LinkRow

__all__ = ["lock_bytes", "release_bytes", "take_bytes"]


def take_bytes(connection: Connection, artifacts: Artifacts, contents: Mapping[str, bytes]) -> None:
    """Keep bytes by their hash; what is to hold them is inserted in the same transaction."""
    rows = {sha256: {"sha256": sha256, "size": len(data)} for sha256, data in contents.items()}
    take_rows(connection, ArtifactRow, rows)
    for sha256, data in contents.items():
        apart(connection, artifacts.put, sha256, data)


def lock_bytes(session: Session, hashes: Iterable[str]) -> list[str]:
    """Lock the rows of those that are kept, before what holds them is deleted."""
    rows = select(ArtifactRow.sha256).where(ArtifactRow.sha256.in_(sorted(set(hashes))))
    locked = rows.order_by(ArtifactRow.sha256).with_for_update()
    return list((session.scalars(locked)).all())


def release_bytes(session: Session, artifacts: Artifacts, locked: list[str]) -> None:
    """Delete those of the locked bytes that nothing holds any more.

    They go before the transaction ends: after it somebody may already have taken them anew.
    """
    linked = exists().where(LinkRow.artifact == ArtifactRow.sha256)
    filed = exists().where(FileRow.artifact == ArtifactRow.sha256)
    loose = select(ArtifactRow.sha256).where(ArtifactRow.sha256.in_(locked), ~or_(linked, filed))
    found = (session.scalars(loose)).all()
    session.execute(delete(ArtifactRow).where(ArtifactRow.sha256.in_(found)))
    for sha256 in found:
        apart(session.connection(), artifacts.remove, sha256)
