"""Where transactions run: those of SQLite each as a whole in a thread, others in the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.util import await_only

from ...skills.errors import BadConfiguration
from .values import StoreUnavailable

__all__ = ["Transactions", "apart", "transactions"]

_BUSY_SECONDS = 30
"""How long a writer of SQLite waits for one of another process."""

_READERS = 4

T = TypeVar("T")
P = ParamSpec("P")


class Transactions(Protocol):
    """Runs functions of a session, each in a transaction of its own."""

    url: URL

    async def read(self, work: Callable[[Session], T]) -> T:
        """Run what only reads."""

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run what is committed at its end, or undone after an error."""

    async def change(self, work: Callable[[Connection], T]) -> T:
        """As `write`, without a session."""

    async def close(self) -> None:
        """Close all connections."""


def transactions(url: str) -> Transactions:
    """Those of the database under one of SQLAlchemy's asyncio URLs.

    Raises `BadConfiguration` for a URL that cannot be used, `StoreUnavailable` where the folder
    of a SQLite file cannot be made.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername == "sqlite+aiosqlite":
            return _Sqlite(parsed)
        if parsed.get_backend_name() == "postgresql":
            return _Postgres(parsed)
        raise ArgumentError(f"{parsed.drivername} is neither of the two")
    except (ArgumentError, InvalidRequestError, ImportError) as error:
        shown = url.rpartition("@")[2]  # without a password
        raise BadConfiguration(
            f"{shown!r} is no database that conversations can be kept in ({error}): give "
            "sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME"
        ) from error


def apart(connection: Connection, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Do in a transaction what waits for a disk or a network, so that the event loop goes on."""
    if connection.dialect.is_async:
        return await_only(asyncio.to_thread(work, *args, **options))
    return work(*args, **options)


class _Postgres:
    """Transactions in the event loop, which goes on with others while one waits."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engine = create_async_engine(
            url, pool_pre_ping=True, isolation_level="READ COMMITTED"
        )
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False)

    async def read(self, work: Callable[[Session], T]) -> T:
        async with self._sessions() as session:
            return await session.run_sync(work)

    async def write(self, work: Callable[[Session], T]) -> T:
        async with self._sessions.begin() as session:
            return await session.run_sync(work)

    async def change(self, work: Callable[[Connection], T]) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._engine.dispose()


class _Sqlite:
    """Transactions in threads: one hop for each, not one for each of its statements.

    Of SQLite's writers only one can be at work, so there is one thread for them, in which they
    stand in line; readers have others beside it.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        if url.database in (None, "", ":memory:"):
            raise ArgumentError("a database in memory is gone with its connection: name a file")
        _make_folder(Path(str(url.database)).parent)
        self._reading = _sqlite_engine(url, begin="BEGIN")
        self._writing = _sqlite_engine(url, begin="BEGIN IMMEDIATE")
        self._reads = sessionmaker(self._reading, expire_on_commit=False)
        self._writes = sessionmaker(self._writing, expire_on_commit=False)
        self._readers = ThreadPoolExecutor(_READERS, "store-reader")
        self._writer = ThreadPoolExecutor(1, "store-writer")

    async def read(self, work: Callable[[Session], T]) -> T:
        def transaction() -> T:
            with self._reads() as session:
                return work(session)

        return await asyncio.get_running_loop().run_in_executor(self._readers, transaction)

    async def write(self, work: Callable[[Session], T]) -> T:
        def transaction() -> T:
            with self._writes.begin() as session:
                return work(session)

        return await asyncio.get_running_loop().run_in_executor(self._writer, transaction)

    async def change(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with self._writing.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._writer, transaction)

    async def close(self) -> None:
        for threads in (self._readers, self._writer):
            await asyncio.to_thread(threads.shutdown)
        for engine in (self._reading, self._writing):
            engine.dispose()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"the folder {folder} cannot be made: {error.strerror}") from error


def _sqlite_engine(url: URL, *, begin: str) -> Engine:
    """Readers beside one writer (WAL); a connection is lent for one transaction, begun so."""
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"), connect_args={"timeout": _BUSY_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Another one turns it on at this moment, for the file, and so for all.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
        cursor.close()

    # An event of the pool: one of the engine would make each statement look for listeners.
    @event.listens_for(engine, "checkout")
    def lend(connection: Any, record: object, lent: object) -> None:
        connection.execute(begin)

    return engine
