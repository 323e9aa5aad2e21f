"""Where conversations are kept unless a person says otherwise."""

from __future__ import annotations

from ...skills.folders import data_folder

__all__ = ["default_artifacts", "default_database"]


def default_database() -> str:
    """The URL of a SQLite database in the user's data folder."""
    return f"sqlite+aiosqlite:///{data_folder() / 'conversations.sqlite'}"


def default_artifacts() -> str:
    """The folder of the bytes of images and files, beside the database."""
    return str(data_folder() / "artifacts")
