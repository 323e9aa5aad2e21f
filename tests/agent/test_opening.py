"""Settings open chats: several LMMs by the names that clients use, and a store that forgets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from llava_plus.agent.observing.metrics import Metrics
from llava_plus.agent.opening import lmm_labels, open_chats
from llava_plus.agent.settings import Settings, load_settings
from llava_plus.agent.store.store import open_store
from llava_plus.skills.errors import BadConfiguration

LMMS = ("http://127.0.0.1:9/v1#one", "http://127.0.0.1:9/v1#org/two")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        {
            "lmm.name": LMMS,
            "lmm.max_steps": 3,
            "skills_on_offer": (),
            "database.url": f"sqlite+aiosqlite:///{tmp_path}/chats.sqlite",
            "database.artifacts": str(tmp_path / "artifacts"),
            "database.retention_days": 30,
        }
    )


async def test_chats_have_every_lmm_that_is_named(settings: Settings) -> None:
    async with open_chats(settings, metrics=Metrics()) as chats:
        assert list(chats.lmms) == ["one", "org/two"], "no client is told a server's address"
        assert [lmm.name for lmm in chats.lmms.values()] == ["one", "org/two"]
        assert chats.skills == ()
        assert chats.max_steps == 3


def test_a_folder_is_called_by_its_name(tmp_path: Path) -> None:
    assert lmm_labels(["embedded", str(tmp_path), "org/model"]) == [
        "embedded",
        tmp_path.name,
        "org/model",
    ]
    with pytest.raises(BadConfiguration, match="both be called 'one'"):
        lmm_labels([LMMS[0], "http://other#one"])


async def test_what_is_older_than_may_be_kept_is_deleted(settings: Settings) -> None:
    place = settings.database
    long_ago = datetime.now(UTC) - timedelta(days=31)
    async with open_store(place.url, place.artifacts, clock=lambda: long_ago) as store:
        await store.create("ann", (), title="old")
    async with open_store(place.url, place.artifacts) as store:
        await store.create("ann", (), title="new")
    async with asyncio.timeout(10), open_chats(settings) as chats:
        while len(kept := await chats.store.conversations("ann")) > 1:
            await asyncio.sleep(0.01)
    assert [conversation.title for conversation in kept] == ["new"]
