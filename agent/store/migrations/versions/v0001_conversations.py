"""Conversations, turns, artifacts, files and keys."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

__all__ = ["down_revision", "revision", "upgrade"]

revision = "0001"
down_revision = None

_TOLD = ("messages", "images", "masks", "steps")


def upgrade() -> None:
    """Make the tables."""
    _make_what_is_shared()
    _make_conversations()
    _make_turns()
    _make_holders()
    _make_keys()


def _make_what_is_shared() -> None:
    op.create_table(
        "catalogues",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("specs", sa.JSON(), nullable=False),
    )
    op.create_table(
        "artifacts",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
    )


def _make_conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(64), primary_key=True),
        *_texts("owner", "title", "sought", "lmm"),
        _reference("catalogue", "catalogues.sha256"),
        sa.Column("head", sa.String(64)),
        _time("created"),
        _time("updated"),
    )
    _index("conversations", "catalogue")
    _index("conversations", "owner", "updated")
    _index("conversations", "updated")


def _make_turns() -> None:
    op.create_table(
        "turns",
        sa.Column("id", sa.String(64), primary_key=True),
        _reference("conversation", "conversations.id", cascade=True),
        _reference("parent", "turns.id", nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in _TOLD),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("vote", sa.String(16)),
        *_texts("comment", "sought"),
        _time("created"),
        _time("finished", nullable=True),
        _time("lease_until", nullable=True),
    )
    _index("turns", "conversation", "created")
    _index("turns", "parent")


def _make_holders() -> None:
    op.create_table(
        "links",
        _reference("conversation", "conversations.id", cascade=True, primary_key=True),
        _reference("artifact", "artifacts.sha256", primary_key=True),
        *_texts("media_type"),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
    )
    _index("links", "artifact")
    op.create_table(
        "files",
        sa.Column("id", sa.String(64), primary_key=True),
        *_texts("owner", "filename", "purpose", "media_type"),
        sa.Column("size", sa.BigInteger(), nullable=False),
        _reference("artifact", "artifacts.sha256"),
        _time("created"),
    )
    _index("files", "artifact")
    _index("files", "owner", "created")


def _make_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(64), primary_key=True),
        *_texts("name"),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        _time("created"),
        _time("revoked", nullable=True),
        sa.UniqueConstraint("sha256", name="uq_keys_sha256"),
    )


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _reference(
    name: str,
    target: str,
    *,
    cascade: bool = False,
    primary_key: bool = False,
    nullable: bool = False,
) -> sa.Column[Any]:
    key = sa.ForeignKey(target, ondelete="CASCADE" if cascade else None)
    return sa.Column(name, sa.String(64), key, primary_key=primary_key, nullable=nullable)


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)
