"""Files of records by number, and lines read back as exactly what was written."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage
from llava_plus.model.finetuning.record_files import RecordFile, RecordFiles
from llava_plus.model.record import Record
from llava_plus.model.record_reading import read_record
from llava_plus.skills import Artifact, SkillProblem, SkillResult, SkillUse
from llava_plus.skills.errors import BadConfiguration, BadInput

from .conversations import MASK, SPEC, conversations, image


def said(id: str) -> Record:
    chat = Conversation().ask(f"Who is {id}?").reply(AssistantMessage(text=f"I am {id}."))
    return Record.of(chat, {}, id=id)


def everything() -> Record:
    """With marks, thoughts, masks, an error, and an image that only a later request shows."""
    detect = SkillUse(id="a", name="detect", arguments={"labels": ["dög"], "x": 1.5})
    chat = Conversation(skills=(SPEC,)).ask("What is there?", [image(1)])
    chat = chat.mark(boxes=[(0.1, 0.2, 0.3, 0.4)], masks=[MASK])
    chat = chat.reply(AssistantMessage(thoughts="Look.", skill_uses=(detect, detect)))
    made = (Artifact(label="dog", mask=MASK), Artifact(image=image(2)))
    found = SkillResult(id="a", name="detect", text="Found 1.", data={"n": 1}, artifacts=made)
    problem = SkillProblem(kind="SkillError", message="no such thing")
    chat = chat.add_result(found).add_result(SkillResult(id="a", name="detect", error=problem))
    chat = chat.reply(AssistantMessage(text="A dog.")).ask("And here?", [image(3)])
    files = {"img_1": "a.png", "img_2": "b.png", "img_3": "c.png"}
    return Record.of(chat.reply(AssistantMessage(text="No.")), files, id="all")


def test_a_record_is_read_as_it_was_written() -> None:
    record = everything()
    read = read_record(record.to_line())
    assert read == record.model_copy(update={"source": ""})
    assert read.shown == ("img_1", "img_3")
    told = next(m for m in read.messages if isinstance(m, SkillMessage))
    assert (told.images, told.masks) == (("img_2",), ("mask_2",))


@given(conversation=conversations())
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_read_is_written_the_same(conversation: Conversation) -> None:
    files = {handle: f"images/{handle}.png" for handle in conversation.images}
    line = Record.of(conversation, files, id="1").to_line()
    assert read_record(line).to_line() == line


def changed(**fields: Any) -> str:
    return json.dumps({**everything().to_json(), **fields})


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (everything().to_line()[:-40], "Invalid JSON"),
        ('["a"]', "object"),
        (changed(images=["a.png"]), "show 2 images"),
        (changed(data=["{}"]), "2 results"),
        (changed(messages=[{"role": "system", "content": "Be brief."}]), "messages.0"),
        (changed(messages=[{"role": "assistant", "content": "x", "thinking": "y"}]), "thinking"),
        (changed(made=3), "made"),
        (changed(masks={"mask_1": {"size": [4, 4], "counts": "0"}}), "mask"),
        (changed(id="\ud800"), "hex escape"),
        (
            changed(
                data=None,
                messages=[
                    {
                        "role": "user",
                        "content": [
                            {"type": "image"},
                            {"type": "image"},
                            {"type": "text", "text": "img_1\n"},
                            {"type": "text", "text": "Hi"},
                        ],
                    }
                ],
            ),
            "handle of an image",
        ),
        (
            changed(
                images=[],
                data=None,
                messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}] * 2}],
            ),
            "handle of an image",
        ),
    ],
)
def test_what_this_project_does_not_write_is_bad_input(line: str, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        read_record(line)


def test_records_are_read_by_number_whatever_stands_between_them(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    lines = [said("a").to_line(), "", "  ", said("b").to_line(), "no JSON", said("ü").to_line()]
    path.write_text("\n".join(lines), encoding="utf-8")
    file: RecordFile = pickle.loads(pickle.dumps(RecordFile(path)))
    assert len(file) == 4
    assert [file[number].id for number in (3, 0, 1)] == ["ü", "a", "b"]
    assert [file.place(number) for number in range(4)] == [f"r.jsonl:{n}" for n in (1, 4, 5, 6)]
    with pytest.raises(BadInput, match=r"r\.jsonl:5"):
        file[2]
    with pytest.raises(IndexError):
        file[4]


def test_a_file_that_has_changed_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(said("a").to_line(), encoding="utf-8")
    file = RecordFile(path)
    path.write_text(f"\n{said('b').to_line()}", encoding="utf-8")
    with pytest.raises(BadConfiguration, match="has changed"):
        file[0]
    assert RecordFile(path).content_hash != file.content_hash


def test_several_files_are_one(tmp_path: Path) -> None:
    paths = [tmp_path / "one" / "r.jsonl", tmp_path / "two" / "r.jsonl"]
    for path, ids in zip(paths, ("ab", "c"), strict=True):
        path.parent.mkdir()
        path.write_text("".join(f"{said(id).to_line()}\n" for id in ids), encoding="utf-8")
    files = RecordFiles(paths)
    assert [files[number].id for number in range(len(files))] == ["a", "b", "c"]
    file, number = files.find(2)
    assert (file.folder, number) == (paths[1].parent, 0)
    assert files.content_hash != RecordFiles(paths[::-1]).content_hash
    with pytest.raises(IndexError):
        files[3]


@pytest.mark.parametrize("content", [None, "", "\n\n"])
def test_a_file_without_records_is_bad_input(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "r.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=r"r\.jsonl"):
        RecordFile(path)
