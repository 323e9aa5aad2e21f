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
_WRITES = "llava_plus_writes"

T = TypeVar("T")
P = ParamSpec("P")


class Transactions(Protocol):
    """Runs functions of a session, each in a transaction of its own."""

    url: URL

    async def read(self, work: Callable[[Session], T]) -> T:
        """Run what only reads."""

    async def write(self, work: Callable[[Session], T]) -> T:
        """Run what is committed at its end, or undone after an error."""

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


def apart(session: Session, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Do in a transaction what waits for a disk or a network, so that the event loop goes on."""
    if session.get_bind().dialect.is_async:
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
        engine = create_engine(
            url.set(drivername="sqlite+pysqlite"), connect_args={"timeout": _BUSY_SECONDS}
        )
        _set_up(engine)
        self._engine = engine
        self._reads = sessionmaker(engine, expire_on_commit=False)
        writing = engine.execution_options(**{_WRITES: True})
        self._writes = sessionmaker(writing, expire_on_commit=False)
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

    async def close(self) -> None:
        for threads in (self._readers, self._writer):
            await asyncio.to_thread(threads.shutdown)
        self._engine.dispose()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"the folder {folder} cannot be made: {error.strerror}") from error


def _set_up(engine: Engine) -> None:
    """Readers beside one writer (WAL), and transactions that begin where SQLAlchemy says."""

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

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
