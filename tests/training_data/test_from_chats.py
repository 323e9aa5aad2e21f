"""Records and preferences from kept conversations, by the command that writes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from llava_plus.agent.record import append_record
from llava_plus.agent.store.places import default_artifacts, default_database
from llava_plus.agent.store.store import ConversationStore, open_store
from llava_plus.agent.store.values import TurnState, Vote, restored
from llava_plus.skills.errors import BadInput
from llava_plus.training_data.commands.data import command
from llava_plus.training_data.commands.from_chats import _BECAUSE
from llava_plus.training_data.from_chats import VOTES, NoPair, NoRecord
from llava_plus.training_data.records.report import Report
from llava_plus.training_data.records.transfer import read_records

from ..agent.kept_turns import PAINT, Talk
from ..serving import png


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults of the store lie in a folder of the test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


@pytest.fixture
async def store() -> AsyncIterator[ConversationStore]:
    async with open_store(default_database(), default_artifacts()) as opened:
        yield opened


def run(*arguments: object) -> str:
    """What the command prints; it raises what the program would tell in one line."""
    given = ["from-chats", *map(str, arguments)]
    done = CliRunner().invoke(command, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def counts(*arguments: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(await asyncio.to_thread(run, *arguments, "--json"))
    return told


async def test_a_record_is_the_path_to_an_answer_that_was_voted_for(
    store: ConversationStore, tmp_path: Path
) -> None:
    talk = await Talk(store).open()
    root = await talk.paint("Paint it.", "Done.", [png("blue")])
    liked = await talk.paint("Again.", "Done again.", [png("green")], parent=root.id)
    branch = await talk.say("Why?", "So.", parent=root.id)
    await store.vote(liked.id, "ann", Vote.UP)
    await store.vote(branch.id, "ann", Vote.DOWN)
    out = tmp_path / "records.jsonl"
    assert await counts("--out", out) == {
        "conversations": 1,
        "turns": 3,
        "records": 1,
        "left_out": {"other-vote": 2},
        "pairs": 0,
        "no_pair": {},
    }
    (record,) = read(out)
    whole = restored(await store.path(liked.id, "ann"), (PAINT,))
    wanted = append_record(whole, talk.images, tmp_path / "wanted.jsonl")
    assert record == {"id": liked.id, "source": "chats", **wanted}
    for file in [*record["images"], *record["made"].values()]:
        assert (tmp_path / file).is_file()
    report = Report()
    assert len(list(read_records(out, report))) == 1
    assert report.refused == 0


@pytest.mark.parametrize(
    ("votes", "wanted"),
    [("up", "u"), ("down", "d"), ("flag", "f"), ("any", "udf"), ("all", "udfn")],
)
async def test_votes_choose_the_turns_of_every_owner(
    store: ConversationStore, tmp_path: Path, votes: str, wanted: str
) -> None:
    answers = {"u": Vote.UP, "d": Vote.DOWN, "f": Vote.FLAG, "n": None}
    for answer, vote in answers.items():
        talk = await Talk(store, owner=f"owner {answer}").open()
        turn = await talk.say("Which?", answer)
        await store.vote(turn.id, talk.owner, vote)
    out = tmp_path / "records.jsonl"
    assert (await counts("--out", out, "--votes", votes))["records"] == len(wanted)
    assert {line["messages"][-1]["content"] for line in read(out)} == set(wanted)


async def test_what_nobody_should_learn_is_left_out_with_the_reason(
    store: ConversationStore, tmp_path: Path
) -> None:
    talk = await Talk(store).open()
    bad = await talk.say("First?", "No.")
    after = await talk.say("Then?", "Yes.", parent=bad.id)
    turn, before, asked = await talk.begin("Stop.", parent=after.id)
    stopped = await talk.finish(turn, before, asked, state=TurnState.STOPPED)
    beyond = await talk.say("Go on.", "On.", parent=stopped.id)
    half = await talk.say("Half?", "\ud83d")
    for liked in (after, stopped, beyond, half):
        await store.vote(liked.id, "ann", Vote.UP)
    await store.vote(bad.id, "ann", Vote.DOWN)
    found = await counts("--out", tmp_path / "records.jsonl")
    assert found["records"] == 0
    assert found["left_out"] == {
        "other-vote": 1,
        "disliked-before": 1,
        "not-finished": 1,
        "unfinished-before": 1,
        "broken-text": 1,
    }
    told = await asyncio.to_thread(run, "--out", tmp_path / "records.jsonl")
    assert "1 conversations, 5 turns: 0 records, 5 left out" in told
    assert "left out, an answer before it was voted down or flagged: 1" in told


@pytest.mark.parametrize(
    ("votes", "pairs", "reasons"),
    [
        ("- -", "2>1", {}),
        ("d -", "2>1", {}),
        ("- u", "2>1", {}),
        ("u d", "1>2", {}),
        ("d u", "2>1", {}),
        ("u -", "", {"vote-against-order": 1}),
        ("- d", "", {"vote-against-order": 1}),
        ("u u", "", {"same-vote": 1}),
        ("f -", "", {"flagged": 1}),
        ("- - -", "2>1 3>2", {"not-next": 1}),
        ("u - d", "1>3", {"vote-against-order": 2}),
    ],
)
async def test_votes_say_which_of_two_answers_is_preferred_and_else_their_order(
    store: ConversationStore, tmp_path: Path, votes: str, pairs: str, reasons: dict[str, int]
) -> None:
    talk = await Talk(store).open()
    root = await talk.say("Hello.", "Hello.", [png("red")])
    named = {"u": Vote.UP, "d": Vote.DOWN, "f": Vote.FLAG, "-": None}
    for number, vote in enumerate(votes.split(), start=1):
        turn = await talk.say("Which?", str(number), [png("blue")], parent=root.id)
        await store.vote(turn.id, "ann", named[vote])
    file = tmp_path / "pairs.jsonl"
    found = await counts("--out", tmp_path / "records.jsonl", "--pairs", file)
    rows = read(file)
    said = [[row[side][0]["content"] for side in ("chosen", "rejected")] for row in rows]
    assert " ".join(">".join(two) for two in said) == pairs
    assert found["no_pair"] == reasons
    assert found["pairs"] == len(rows)
    for row in rows:
        assert [message["role"] for message in row["prompt"]] == ["user", "assistant", "user"]
        parts = [part for message in row["prompt"] for part in message["content"]]
        places = [part for part in parts if isinstance(part, dict) and part["type"] == "image"]
        assert [Path(image).read_bytes() for image in row["images"]] == [png("red"), png("blue")]
        assert len(places) == 2
        assert json.loads(row["tools"]) == [PAINT.tool()]


async def test_only_answers_to_one_request_are_compared(
    store: ConversationStore, tmp_path: Path
) -> None:
    talk = await Talk(store).open()
    await talk.paint("Paint it.", "Done.", [png("blue")])
    await talk.paint("Paint it!", "Done.", [png("blue")])
    await talk.paint("Paint it.", "Done!", [png("green")])
    await talk.paint("Paint it.", "Done!", [png("blue")])
    turn, before, asked = await talk.begin("Paint it.", [png("blue")])
    await talk.finish(turn, before, asked, state=TurnState.FAILED)
    file = tmp_path / "pairs.jsonl"
    found = await counts("--out", tmp_path / "records.jsonl", "--pairs", file)
    assert found["no_pair"] == {"other-request": 7, "not-answered": 2}
    (row,) = read(file)
    assert [message["role"] for message in row["chosen"]] == ["assistant", "tool", "assistant"]
    assert (row["chosen"][-1]["content"], row["rejected"][-1]["content"]) == ("Done!", "Done.")
    call = row["chosen"][0]["tool_calls"][0]["function"]
    assert call["arguments"] == {"to": "rot ☂", "as": [1, None]}, "objects, as templates want them"


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--database"):
        run("--out", tmp_path / "records.jsonl")
    assert not (tmp_path / "home").exists()


def test_every_reason_is_told_in_words() -> None:
    assert set(_BECAUSE) == {*NoRecord, *NoPair}
    option = next(given for given in command.commands["from-chats"].params if given.name == "votes")
    assert list(option.type.choices) == list(VOTES)
