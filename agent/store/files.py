"""Files that clients uploaded."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import partial

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from .holding import lock_bytes, release_bytes, take_bytes
from .owned import owned_file
from .part import Part
from .rows import clean, kept_file, new_id
from .tables import FileRow
from .values import KeptFile

__all__ = ["Files"]


class Files(Part):
    """What a store does with files. All methods raise `NotKept` for what the owner has not."""

    async def add_file(
        self, owner: str, data: bytes, filename: str, purpose: str, media_type: str
    ) -> KeptFile:
        """Keep a file; the same bytes twice are two files, whose bytes are kept once."""
        row = FileRow(
            id=new_id("file", "-"),
            owner=owner,
            filename=clean(filename),
            purpose=clean(purpose),
            media_type=clean(media_type),
            size=len(data),
            artifact=hashlib.sha256(data).hexdigest(),
            created=self._now(),
        )

        def add(session: Session) -> KeptFile:
            take_bytes(session.connection(), self._artifacts, {row.artifact: data})
            session.add(row)
            return kept_file(row)

        return await self._database.writing(add)

    async def file(self, id: str, owner: str) -> KeptFile:
        """One file, without its bytes."""
        return await self._database.reading(
            lambda session: kept_file(owned_file(session, id, owner))
        )

    async def file_bytes(self, id: str, owner: str) -> bytes:
        """The bytes of a file."""
        return await self._artifacts.get((await self.file(id, owner)).sha256)

    async def files(self, owner: str) -> list[KeptFile]:
        """All files of an owner, oldest first."""
        query = select(FileRow).where(FileRow.owner == owner).order_by(FileRow.created, FileRow.id)
        return await self._database.reading(
            lambda session: [kept_file(row) for row in session.scalars(query)]
        )

    async def delete_file(self, id: str, owner: str) -> None:
        """Delete a file, and its bytes when nothing else holds them."""
        await self._database.writing(
            lambda session: self._delete_file(session, owned_file(session, id, owner, lock=True))
        )

    async def expire_files(self, before: datetime) -> int:
        """Delete the files of all owners that came before then; their number."""
        old = select(FileRow.id).where(FileRow.created < before)
        found = await self._database.reading(lambda session: session.scalars(old).all())
        gone = [await self._database.writing(partial(self._expire_file, id=id)) for id in found]
        return sum(gone)

    def _expire_file(self, session: Session, id: str) -> bool:
        row = session.scalar(select(FileRow).where(FileRow.id == id).with_for_update())
        if row is None:  # somebody deleted it meanwhile
            return False
        self._delete_file(session, row)
        return True

    def _delete_file(self, session: Session, row: FileRow) -> None:
        locked = lock_bytes(session, [row.artifact])
        session.execute(delete(FileRow).where(FileRow.id == row.id))
        release_bytes(session, self._artifacts, locked)
