"""A database of the store: how it is opened, migrated, read and written, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    NotSupportedError,
    ProgrammingError,
    TimeoutError,
)
from sqlalchemy.orm import Session

from ...skills.errors import BadConfiguration
from .engines import transactions
from .tables import ArtifactRow, Base, CatalogueRow
from .values import StoreUnavailable

__all__ = ["Database", "take_rows"]

_LOCK = 0x6C6C6176615F70  # "llava_p"
"""PostgreSQL's advisory lock under which one gateway at a time migrates."""

_OUR_FAULT = (IntegrityError, DataError, ProgrammingError, NotSupportedError)
_TRIES = 5

T = TypeVar("T")


class Database:
    """Transactions on one database, SQLite or PostgreSQL, by any of SQLAlchemy's asyncio URLs.

    What a transaction does is a plain function of its session, and gives values, not rows.
    Raises `BadConfiguration` for a URL that cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._transactions = transactions(url)

    async def reading(self, work: Callable[[Session], T]) -> T:
        """Run what only reads. Raises `StoreUnavailable`."""
        with self._failing():
            return await self._transactions.read(work)

    async def writing(self, work: Callable[[Session], T]) -> T:
        """Run what is committed at its end, or undone after an error.

        On SQLite it is alone in writing from its beginning. Raises `StoreUnavailable`.
        """
        with self._failing():
            return await self._transactions.write(work)

    async def changing(self, work: Callable[[Connection], T]) -> T:
        """As `writing`, for what every turn does: a session would cost as much as its statements.

        Raises `StoreUnavailable`.
        """
        with self._failing():
            return await self._transactions.change(work)

    async def migrate(self) -> None:
        """Bring the tables to the newest form; of several gateways one does it.

        Raises `StoreUnavailable`, or `BadConfiguration` when a newer release made the tables.
        """
        await self.writing(_migrate)

    async def close(self) -> None:
        """Close all connections."""
        await self._transactions.close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Raise what the operator must see to as `StoreUnavailable`."""
        try:
            yield
        except (DBAPIError, TimeoutError, OSError) as error:
            if isinstance(error, _OUR_FAULT):
                raise
            problem = error.orig if isinstance(error, DBAPIError) else error
            name = self._transactions.url.render_as_string(hide_password=True)
            raise StoreUnavailable(
                f"the database {name} cannot be used ({type(problem).__name__}: {problem}): "
                "see that it runs, can be reached and has room, and try again"
            ) from error


def take_rows(
    connection: Connection,
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
        _insert_new(connection, table, [rows[name] for name in wanted])
        if len(connection.scalars(locked).all()) == len(wanted):
            return
        # Somebody deleted one between the two statements: it is inserted again.
    raise StoreUnavailable(f"{table.__tablename__} change too fast: try again")


def _insert_new(
    connection: Connection, table: type[Base], rows: Sequence[Mapping[str, Any]]
) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(postgresql.insert(table).on_conflict_do_nothing(), rows)
    else:
        connection.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)


def _migrate(session: Session) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    _upgrade(session.connection())


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
