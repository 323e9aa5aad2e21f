"""The tables. `migrations` brings a database to this form, and a test holds the two together.

Times are in UTC. What a conversation is made of stands as JSON text (on PostgreSQL `json`, not
`jsonb`, which changes the order of arguments and takes no NUL), so that it comes back exactly.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "ArtifactRow",
    "Base",
    "CatalogueRow",
    "ConversationRow",
    "FileRow",
    "KeyRow",
    "LinkRow",
    "TurnRow",
    "UtcTime",
]

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC, also in SQLite, which knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment in UTC. Raises `ValueError` when it has no time zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The moment, aware of its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """All tables, with names for their constraints that migrations can rely on."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {datetime: UtcTime()}  # noqa: RUF012  (SQLAlchemy's own declaration)


class CatalogueRow(Base):
    """The skills on offer, by the hash of their specs: many conversations share one."""

    __tablename__ = "catalogues"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    specs: Mapped[list[dict[str, Any]]] = mapped_column(JSON)


class ConversationRow(Base):
    """A conversation; `sought` is its title as search reads it."""

    __tablename__ = "conversations"
    __table_args__ = (Index(None, "owner", "updated"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    title: Mapped[str] = mapped_column(Text)
    sought: Mapped[str] = mapped_column(Text)
    lmm: Mapped[str] = mapped_column(Text)
    catalogue: Mapped[str] = mapped_column(ForeignKey("catalogues.sha256"), index=True)
    # No foreign key: it would be a circle, and a turn goes only with its conversation.
    head: Mapped[str | None] = mapped_column(String(64))
    created: Mapped[datetime]
    updated: Mapped[datetime] = mapped_column(index=True)


class TurnRow(Base):
    """A turn; `sought` is what was said in it as search reads it."""

    __tablename__ = "turns"
    __table_args__ = (Index(None, "conversation", "created"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    conversation: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    parent: Mapped[str | None] = mapped_column(ForeignKey("turns.id"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    messages: Mapped[list[Any]] = mapped_column(JSON)
    images: Mapped[dict[str, Any]] = mapped_column(JSON)
    masks: Mapped[dict[str, Any]] = mapped_column(JSON)
    steps: Mapped[list[Any]] = mapped_column(JSON)
    seconds: Mapped[float] = mapped_column(Float)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    vote: Mapped[str | None] = mapped_column(String(16))
    comment: Mapped[str] = mapped_column(Text)
    sought: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime]
    finished: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]


class ArtifactRow(Base):
    """Bytes that are kept, by their hash. Whoever takes or lets go of them locks this row."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)


class LinkRow(Base):
    """That a conversation holds an artifact, and as which image; sizes are in pixels."""

    __tablename__ = "links"

    conversation: Mapped[str] = mapped_column(
        ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True
    )
    artifact: Mapped[str] = mapped_column(
        ForeignKey("artifacts.sha256"), primary_key=True, index=True
    )
    media_type: Mapped[str] = mapped_column(Text)
    width: Mapped[int] = mapped_column(Integer)
    height: Mapped[int] = mapped_column(Integer)


class FileRow(Base):
    """An uploaded file, which holds an artifact."""

    __tablename__ = "files"
    __table_args__ = (Index(None, "owner", "created"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(Text)
    filename: Mapped[str] = mapped_column(Text)
    purpose: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    artifact: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    created: Mapped[datetime]


class KeyRow(Base):
    """A key of the gateway; of its secret only the hash."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    limits: Mapped[dict[str, int]] = mapped_column(JSON)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime]
    revoked: Mapped[datetime | None]
