"""The store of conversations, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from llava_plus.agent.store.store import LEASE_SECONDS, ConversationStore, open_store
from llava_plus.agent.store.tables import Base
from llava_plus.agent.store.values import NotKept, StoreUnavailable, TurnState, Vote, restored
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.skills import ImageStore, SkillResult, SkillUse
from llava_plus.skills.calls import SkillProblem
from llava_plus.skills.errors import BadConfiguration, BadInput
from sqlalchemy.ext.asyncio import create_async_engine

from ..serving import png
from .kept_turns import MASK, PAINT, Talk, painted
from .postgres import postgres

__all__ = ["postgres"]

BLUE, RED, GREEN = (hashlib.sha256(png(colour)).hexdigest() for colour in ("blue", "red", "green"))


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/new/folder/chats.sqlite"
    served: str = request.getfixturevalue("postgres")
    connection = await asyncpg.connect(served.replace("+asyncpg", ""))
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await connection.close()
    return served


class Clock:
    """A clock that goes on when it is told to, and a little with every look."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def pass_by(self, **span: float) -> None:
        self.time += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(url: str, tmp_path: Path, clock: Clock) -> AsyncIterator[ConversationStore]:
    async with open_store(url, str(tmp_path / "bytes"), clock=clock) as opened:
        yield opened


@pytest.fixture
async def talk(store: ConversationStore) -> Talk:
    return await Talk(store).open()


def kept_bytes(tmp_path: Path) -> set[str]:
    """The names of all files that are kept, also of those that were not finished."""
    return {path.name for path in (tmp_path / "bytes").rglob("*") if path.is_file()}


async def test_what_is_kept_comes_back_as_it_was(talk: Talk, store: ConversationStore) -> None:
    first = await talk.paint("Paint it.", "Done ☂ \ud83d \0.", [png("blue")])
    turn, before, asked = await talk.begin("And here?", [png("green")], parent=first.id)
    asked = asked.mark(boxes=[(0.1, 0.2, 0.3, 0.4)], points=[(0.5, 0.5)], masks=[MASK])
    second = await talk.finish(turn, before, painted(asked, talk.images, "Again."))

    path = await store.path(second.id, "ann")
    whole = painted(asked, talk.images, "Again.")
    assert restored(path, (PAINT,)) == whole
    assert [kept.messages[0].text for kept in path] == ["Paint it.", "And here?"]
    assert list(path[1].images) == ["img_3", "img_4"]
    assert list(path[1].masks) == ["mask_2", "mask_3"]
    assert list(path[0].messages[1].skill_uses[0].arguments) == ["to", "as"], "order is kept"
    assert (path[1].steps, path[1].seconds) == (({"tokens": 7},), 1.5)
    assert path[1] == second == await store.turn(second.id, "ann")

    elsewhere = ImageStore()
    await store.load_images(restored(path, (PAINT,)), "ann", elsewhere)
    assert elsewhere.data(whole.images["img_3"]) == png("green")
    assert await store.artifact(RED, "ann") == (whole.images["img_2"], png("red"))
    kept = await store.conversation(talk.id, "ann")
    assert kept.skills == (PAINT,), "with its examples"
    assert (kept.title, kept.head) == ("Paint it.", second.id)
    assert kept.updated.tzinfo is UTC


async def test_turns_with_one_parent_are_branches(talk: Talk, store: ConversationStore) -> None:
    root = await talk.say("Who?", "A dog.", [png("blue")])
    one = await talk.say("Where?", "Here.", [png("red")], parent=root.id)
    other = await talk.say("When?", "Now.", [png("green")], parent=root.id)
    after = await talk.say("Why?", "So.", parent=other.id)
    assert [turn.id for turn in await store.path(after.id, "ann")] == [root.id, other.id, after.id]
    assert [turn.id for turn in await store.turns(talk.id, "ann")] == [
        turn.id for turn in (root, one, other, after)
    ]
    conversation = restored(await store.path(after.id, "ann"), ())
    assert {handle: ref.sha256 for handle, ref in conversation.images.items()} == {
        "img_1": BLUE,
        "img_2": GREEN,
    }
    stranger = await Talk(store).open()
    with pytest.raises(NotKept, match="no turn"):
        await stranger.begin("What?", parent=root.id)


async def test_a_turn_whose_gateway_died_is_interrupted(
    talk: Talk, store: ConversationStore, clock: Clock
) -> None:
    turn, before, asked = await talk.begin("Paint it.")
    assert turn.state is TurnState.RUNNING
    clock.pass_by(seconds=LEASE_SECONDS - 1)
    await store.renew([turn.id])
    clock.pass_by(seconds=LEASE_SECONDS - 1)
    assert (await store.turn(turn.id, "ann")).state is TurnState.RUNNING
    clock.pass_by(seconds=2)
    assert (await store.turn(turn.id, "ann")).state is TurnState.INTERRUPTED
    assert restored(await store.path(turn.id, "ann"), (PAINT,)) == asked

    problem = SkillProblem(kind="WorkerUnavailable", message="The LMM is down.")
    failed = await talk.finish(turn, before, asked, state=TurnState.FAILED, error=problem)
    clock.pass_by(days=1)
    assert await store.turn(turn.id, "ann") == failed
    assert (failed.state, failed.error) == (TurnState.FAILED, problem)


@pytest.mark.parametrize("state", [TurnState.STOPPED, TurnState.FINISHED])
async def test_calls_without_results_stand_only_where_they_were_handed_back(
    talk: Talk, store: ConversationStore, state: TurnState
) -> None:
    turn, before, asked = await talk.begin("Paint both.", [png("blue")])
    uses = tuple(SkillUse(id=id, name="paint", arguments={}) for id in ("a", "b"))
    made = painted(asked, talk.images, "").messages[2].result
    half = asked.reply(AssistantMessage(skill_uses=uses)).add_result(
        made.model_copy(update={"id": "a"})
    )
    await talk.finish(turn, before, half, state=state)
    again = restored(await store.path(turn.id, "ann"), (PAINT,))
    assert again == (half if state is TurnState.FINISHED else asked)
    following, _, _ = await talk.begin("Never mind.", [png("green")], parent=turn.id)
    conversation = restored(await store.path(following.id, "ann"), (PAINT,))
    assert [message.role for message in conversation.messages] == ["user", "user"]
    assert following.images["img_2" if state is TurnState.STOPPED else "img_3"].sha256 == GREEN


async def test_results_that_a_client_brings_complete_the_calls_of_the_turn_before(
    talk: Talk, store: ConversationStore
) -> None:
    turn, before, asked = await talk.begin("Paint it.")
    use = SkillUse(id="a", name="paint", arguments={})
    called = await talk.finish(turn, before, asked.reply(AssistantMessage(skill_uses=(use,))))
    waiting = restored(await store.path(called.id, "ann"), (PAINT,))
    brought = waiting.add_result(SkillResult(id="a", name="paint", text="Painted."))
    following = await store.begin(
        talk.id, "ann", parent=called.id, before=waiting, asked=brought, images=talk.images
    )
    done = brought.reply(AssistantMessage(text="Done."))
    await talk.finish(following, waiting, done)
    assert restored(await store.path(following.id, "ann"), (PAINT,)) == done


async def test_conversations_are_found_by_title_and_by_what_was_said(
    store: ConversationStore, clock: Clock
) -> None:
    bridge = await Talk(store).open(title="Die GROSSE Brücke")
    sale = await Talk(store).open()
    await sale.say("What does the sign say?", "It says 100% OFF_SEASON.")

    async def found(search: str) -> list[str]:
        return [kept.id for kept in await store.conversations("ann", search=search)]

    assert await found("BRÜCKE") == [bridge.id]
    assert await found(" große ") == [bridge.id]
    assert await found("off_season") == await found("the SIGN") == [sale.id]
    assert await found("0% o") == [sale.id]
    assert await found("off%son") == await found("offxseason") == await found("\0no") == []
    with pytest.raises(BadInput, match="at most 500"):
        await found("a" * 501)

    newest, older = await store.conversations("ann")
    assert (newest.id, older.id) == (sale.id, bridge.id), "the one last changed first"
    assert await store.conversations("ann", limit=1) == [newest]
    assert await store.conversations("ann", before=newest.updated) == [older]
    renamed = await store.rename(sale.id, "ann", "Schild")
    assert (await store.conversation(sale.id, "ann")).title == renamed.title == "Schild"
    assert await found("schild") == [sale.id]


async def test_an_owner_learns_nothing_of_what_others_have(
    talk: Talk, store: ConversationStore
) -> None:
    turn = await talk.say("Who?", "A dog.", [png("blue")])
    file = await store.add_file("ann", b"text", "a.txt", "user_data", "text/plain")
    asked = Conversation().ask("Mine?")
    attempts: list[Callable[[str, str], Any]] = [
        lambda id, who: store.conversation(id, who),
        lambda id, who: store.turns(id, who),
        lambda id, who: store.rename(id, who, "mine"),
        lambda id, who: store.delete(id, who),
        lambda id, who: store.begin(
            id, who, parent=None, before=Conversation(), asked=asked, images=talk.images
        ),
        lambda id, who: store.turn(id, who),
        lambda id, who: store.path(id, who),
        lambda id, who: store.vote(id, who, Vote.UP),
        lambda id, who: store.artifact(id, who),
        lambda id, who: store.file(id, who),
        lambda id, who: store.file_bytes(id, who),
        lambda id, who: store.delete_file(id, who),
    ]
    ids = [talk.id] * 5 + [turn.id] * 3 + [BLUE] + [file.id] * 3
    for attempt, id in zip(attempts, ids, strict=True):
        for unknown, who in ((id, "bob"), ("conv_none", "ann"), ("\0", "ann"), ("é" * 99, "ann")):
            with pytest.raises(NotKept, match="you have no"):
                await attempt(unknown, who)
    assert await store.conversations("bob") == []
    assert await store.files("bob") == []
    assert await store.owners() == ["ann"]
    assert (await store.turn(turn.id, "ann")).vote is None


async def test_a_vote_takes_the_place_of_the_one_before(
    talk: Talk, store: ConversationStore
) -> None:
    turn = await talk.say("Who?", "A dog.")
    await store.vote(turn.id, "ann", Vote.DOWN, "It is a cat.")
    kept = await store.turn(turn.id, "ann")
    assert (kept.vote, kept.comment) == (Vote.DOWN, "It is a cat.")
    assert (await store.vote(turn.id, "ann", None)).comment == ""


async def test_deletion_leaves_only_what_something_else_holds(
    talk: Talk, store: ConversationStore, tmp_path: Path, clock: Clock
) -> None:
    await talk.paint("Paint it.", "Done.", [png("blue")])
    other = await Talk(store, owner="bob").open()
    await other.say("Whose?", "Mine.", [png("blue"), png("green")])
    file = await store.add_file("ann", png("red"), "red.png", "vision", "image/png")
    assert kept_bytes(tmp_path) == {BLUE, RED, GREEN}

    await store.delete(talk.id, "ann")
    assert await store.conversations("ann") == []
    assert kept_bytes(tmp_path) == {BLUE, RED, GREEN}, "bob and the file hold them"
    with pytest.raises(NotKept):
        await store.artifact(BLUE, "ann")
    assert (await store.artifact(BLUE, "bob"))[1] == png("blue")
    assert await store.file_bytes(file.id, "ann") == png("red")
    assert await store.files("ann") == [file]

    await store.delete_file(file.id, "ann")
    assert kept_bytes(tmp_path) == {BLUE, GREEN}
    clock.pass_by(days=30)
    fresh = await Talk(store).open()
    await store.add_file("bob", b"old", "old.txt", "user_data", "text/plain")
    clock.pass_by(days=2)
    await fresh.begin("Still here?")
    assert await store.expire(clock.time - timedelta(days=1)) == 2, "bob's chat and his file"
    assert kept_bytes(tmp_path) == set()
    assert await store.owners() == ["ann"]
    await fresh.say("Still?", "Yes.", [png("blue")])
    assert kept_bytes(tmp_path) == {BLUE}


async def test_bytes_that_somebody_takes_while_they_are_let_go_stay(
    url: str, store: ConversationStore, tmp_path: Path
) -> None:
    async with open_store(url, str(tmp_path / "bytes")) as beside:
        for _ in range(8):
            old = await Talk(store).open()
            await old.say("Old?", "Yes.", [png("blue")])
            new = await Talk(beside, owner="bob").open()
            _, turn = await asyncio.gather(
                store.delete(old.id, "ann"), new.say("New?", "Yes.", [png("blue")])
            )
            assert (await beside.artifact(BLUE, "bob"))[1] == png("blue")
            await asyncio.gather(
                beside.delete(new.id, "bob"),
                store.add_file("ann", png("blue"), "a", "b", "image/png"),
            )
            (file,) = await store.files("ann")
            assert await store.file_bytes(file.id, "ann") == png("blue")
            await store.delete_file(file.id, "ann")
            assert kept_bytes(tmp_path) == set()
            assert turn.images["img_1"].sha256 == BLUE


async def test_two_gateways_start_at_once_on_an_empty_database(url: str, tmp_path: Path) -> None:
    async def start(owner: str) -> list[str]:
        async with open_store(url, str(tmp_path / "bytes")) as opened:
            await Talk(opened, owner=owner).open()
            return await opened.owners()

    owners = await asyncio.gather(*(start(owner) for owner in "abcd"))
    assert max(owners, key=len) == list("abcd")


async def test_the_migrations_make_what_the_models_say(url: str, store: ConversationStore) -> None:
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        differences = await connection.run_sync(
            lambda plain: compare_metadata(MigrationContext.configure(plain), Base.metadata)
        )
    await engine.dispose()
    assert differences == []


async def test_tables_of_a_newer_release_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "chats.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    with pytest.raises(BadConfiguration, match="newer release"):
        async with open_store(f"sqlite+aiosqlite:///{file}", str(tmp_path)):
            pass


async def test_a_key_is_known_by_its_secret_alone_until_it_is_revoked(
    store: ConversationStore, tmp_path: Path, url: str
) -> None:
    key, secret = await store.keys.create("laptop", ["chat", "skills"], {"per_minute": 60})
    assert secret.startswith("lp_")
    assert await store.keys.verify(secret) == key
    assert (key.scopes, key.limits) == (frozenset({"chat", "skills"}), {"per_minute": 60})
    for wrong in (secret[:-1], f"{secret}x", key.id, "", "lp_\ud83d"):
        assert await store.keys.verify(wrong) is None
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        (row,) = await connection.exec_driver_sql("SELECT * FROM keys")
    await engine.dispose()
    assert secret not in str(row)
    assert hashlib.sha256(secret.encode()).hexdigest() in row

    ended = await store.keys.revoke(key.id)
    assert ended.revoked is not None
    assert await store.keys.verify(secret) is None
    assert await store.keys.list() == [ended] == [await store.keys.revoke(key.id)]
    with pytest.raises(NotKept, match="no key"):
        await store.keys.revoke("key_none")
    with pytest.raises(BadInput, match="choose among admin, chat, skills"):
        await store.keys.create("laptop", ["root"], {})


async def test_bytes_that_changed_on_disk_are_not_given_out(
    talk: Talk, store: ConversationStore, tmp_path: Path
) -> None:
    await talk.say("Who?", "A dog.", [png("blue")])
    file = tmp_path / "bytes" / BLUE[:2] / BLUE[2:4] / BLUE
    file.write_bytes(png("red"))
    with pytest.raises(StoreUnavailable, match="damaged"):
        await store.artifact(BLUE, "ann")
    file.unlink()
    with pytest.raises(StoreUnavailable, match="FileNotFoundError"):
        await store.artifact(BLUE, "ann")
    file.write_bytes(png("blue")[:10])
    await (await Talk(store, owner="bob").open()).say("Who?", "A dog.", [png("blue")])
    assert (await store.artifact(BLUE, "ann"))[1] == png("blue"), "whoever brings them heals them"


async def test_a_turn_is_not_half_kept_when_its_bytes_cannot_be(
    talk: Talk, store: ConversationStore, tmp_path: Path
) -> None:
    (tmp_path / "bytes").write_text("no folder")
    with pytest.raises(StoreUnavailable, match="room"):
        await talk.begin("Who?", [png("blue")])
    assert await store.turns(talk.id, "ann") == []
    assert (await store.conversation(talk.id, "ann")).head is None
    (tmp_path / "bytes").unlink()
    await talk.begin("Who?", [png("blue")])
    assert kept_bytes(tmp_path) == {BLUE}


async def test_a_database_that_is_not_there_or_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="see that it runs") as told:
        async with open_store("postgresql+asyncpg://u:secret@127.0.0.1:1/x", str(tmp_path)):
            pass
    assert "secret" not in str(told.value)
    (tmp_path / "chats.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        async with open_store(f"sqlite+aiosqlite:///{tmp_path}/chats.sqlite", str(tmp_path)):
            pass


async def test_a_server_without_the_database_is_told(postgres: str, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match='"nothing" does not exist'):
        async with open_store(postgres.replace("/postgres", "/nothing"), str(tmp_path)):
            pass


@pytest.mark.parametrize(
    "url", ["sqlite+aiosqlite://", "mysql+aiomysql://u:secret@h/x", "chats.sqlite", "sqlite:///x"]
)
async def test_a_url_that_cannot_be_used_is_named_without_its_password(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(BadConfiguration, match=r"sqlite\+aiosqlite:///FILE") as told:
        async with open_store(url, str(tmp_path)):
            pass
    assert "secret" not in str(told.value)
