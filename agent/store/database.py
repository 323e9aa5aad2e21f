"""A database of the store: how it is opened, migrated, read and written, and how it fails."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event, make_url, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    InvalidRequestError,
    NotSupportedError,
    ProgrammingError,
    TimeoutError,
)
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from ...skills.errors import BadConfiguration
from .tables import ArtifactRow, Base, CatalogueRow
from .values import StoreUnavailable

__all__ = ["Database", "take_rows"]

_LOCK = 0x6C6C6176615F70  # "llava_p"
"""PostgreSQL's advisory lock under which one gateway at a time migrates."""

_BUSY_SECONDS = 30
"""How long a writer of SQLite waits for another one."""

_WRITES = "llava_plus_writes"
_OUR_FAULT = (IntegrityError, DataError, ProgrammingError, NotSupportedError)
_TRIES = 5


class Database:
    """Sessions on one database, SQLite or PostgreSQL, by any of SQLAlchemy's asyncio URLs.

    Raises `BadConfiguration` for a URL that cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._name = self._engine.url.render_as_string(hide_password=True)
        self._reads = async_sessionmaker(self._engine, expire_on_commit=False)
        writing = self._engine.execution_options(**{_WRITES: True})
        self._writes = async_sessionmaker(writing, expire_on_commit=False)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that only reads. Raises `StoreUnavailable`."""
        with self._failing():
            async with self._reads() as session:
                yield session

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A session that is committed at its end, or undone after an error.

        On SQLite it is alone in writing from its beginning. Raises `StoreUnavailable`.
        """
        with self._failing():
            async with self._writes.begin() as session:
                yield session

    async def migrate(self) -> None:
        """Bring the tables to the newest form; of several gateways one does it.

        Raises `StoreUnavailable`, or `BadConfiguration` when a newer release made the tables.
        """
        async with self.writing() as session:
            if self._engine.dialect.name == "postgresql":
                await session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            connection = await session.connection()
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Raise what the operator must see to as `StoreUnavailable`."""
        try:
            yield
        except (DBAPIError, TimeoutError, OSError) as error:
            if isinstance(error, _OUR_FAULT):
                raise
            problem = error.orig if isinstance(error, DBAPIError) else error
            raise StoreUnavailable(
                f"the database {self._name} cannot be used ({type(problem).__name__}: {problem}): "
                "see that it runs, can be reached and has room, and try again"
            ) from error


async def take_rows(
    session: AsyncSession,
    table: type[ArtifactRow] | type[CatalogueRow],
    rows: Mapping[str, Mapping[str, Any]],
) -> None:
    """See that the rows, by their hash, are there, and that nobody deletes them meanwhile.

    They stay locked to the end of the transaction. Raises `StoreUnavailable`.
    """
    if not rows:
        return
    key = table.sha256
    wanted = sorted(rows)  # one order for all: no two can wait for each other
    locked = select(key).where(key.in_(wanted)).order_by(key).with_for_update(read=True)
    for _ in range(_TRIES):
        await _insert_new(session, table, [rows[name] for name in wanted])
        if len((await session.scalars(locked)).all()) == len(wanted):
            return
        # Somebody deleted one between the two statements: it is inserted again.
    raise StoreUnavailable(f"{table.__tablename__} change too fast: try again")


async def _insert_new(
    session: AsyncSession, table: type[Base], rows: Sequence[Mapping[str, Any]]
) -> None:
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(postgresql.insert(table).on_conflict_do_nothing(), rows)
    else:
        await session.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
        engine = create_async_engine(parsed, **_options(parsed))
    except (ArgumentError, InvalidRequestError, ImportError) as error:
        raise _unusable(url, error) from error
    if engine.dialect.name == "sqlite":
        _set_up_sqlite(engine)
    return engine


def _options(url: URL) -> dict[str, Any]:
    """What the engine of a database needs; the folder of a SQLite file is made."""
    if url.get_backend_name() == "postgresql":
        return {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
    if url.get_backend_name() != "sqlite":
        raise ArgumentError(f"{url.get_backend_name()} is neither sqlite nor postgresql")
    if url.database in (None, "", ":memory:"):
        raise ArgumentError("a database in memory is gone with its connection: name a file")
    folder = Path(str(url.database)).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"the folder {folder} cannot be made: {error.strerror}") from error
    return {"connect_args": {"timeout": _BUSY_SECONDS}}


def _unusable(url: str, error: Exception) -> BadConfiguration:
    shown = url.rpartition("@")[2]  # without a password
    return BadConfiguration(
        f"{shown!r} is no database that conversations can be kept in ({error}): give "
        "sqlite+aiosqlite:///FILE or postgresql+asyncpg://USER:PASSWORD@HOST/NAME"
    )


def _set_up_sqlite(engine: AsyncEngine) -> None:
    """Readers beside one writer (WAL), and transactions that begin where SQLAlchemy says."""

    @event.listens_for(engine.sync_engine, "connect")
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

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", f"{__package__}:migrations")
    config.attributes.update(connection=connection, metadata=Base.metadata)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise BadConfiguration(
            f"the tables of the database cannot be brought to this release's form: {error}; "
            "a newer release may have made them: install that one"
        ) from error
