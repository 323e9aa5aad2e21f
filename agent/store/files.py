"""Files that clients uploaded."""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

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
        async with self._database.writing() as session:
            await take_bytes(session, self._artifacts, {row.artifact: data})
            session.add(row)
        return kept_file(row)

    async def file(self, id: str, owner: str) -> KeptFile:
        """One file, without its bytes."""
        async with self._database.reading() as session:
            return kept_file(await owned_file(session, id, owner))

    async def file_bytes(self, id: str, owner: str) -> bytes:
        """The bytes of a file."""
        return await self._artifacts.get((await self.file(id, owner)).sha256)

    async def files(self, owner: str) -> list[KeptFile]:
        """All files of an owner, oldest first."""
        query = select(FileRow).where(FileRow.owner == owner).order_by(FileRow.created, FileRow.id)
        async with self._database.reading() as session:
            return [kept_file(row) for row in await session.scalars(query)]

    async def delete_file(self, id: str, owner: str) -> None:
        """Delete a file, and its bytes when nothing else holds them."""
        async with self._database.writing() as session:
            await self._delete_file(session, await owned_file(session, id, owner, lock=True))

    async def expire_files(self, before: datetime) -> int:
        """Delete the files of all owners that came before then; their number."""
        old = select(FileRow.id).where(FileRow.created < before)
        async with self._database.reading() as session:
            found = (await session.scalars(old)).all()
        gone = 0
        for id in found:
            async with self._database.writing() as session:
                still = select(FileRow).where(FileRow.id == id).with_for_update()
                if row := await session.scalar(still):
                    await self._delete_file(session, row)
                    gone += 1
        return gone

    async def _delete_file(self, session: AsyncSession, row: FileRow) -> None:
        locked = await lock_bytes(session, [row.artifact])
        await session.execute(delete(FileRow).where(FileRow.id == row.id))
        await release_bytes(session, self._artifacts, locked)
