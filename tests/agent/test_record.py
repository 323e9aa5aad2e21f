"""Conversations as training records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from llava_plus.agent.record import append_record
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.skills import Artifact, ImageStore, Mask, SkillResult, SkillSpec, SkillUse

from ..serving import png

SPEC = SkillSpec(name="paint", description="Paint.", parameters={"type": "object"})


def painted(store: ImageStore) -> Conversation:
    mask = Mask(size=(4, 4), counts="0`0")
    made = (Artifact(image=store.add(png("red"))), Artifact(mask=mask))
    use = SkillUse(id="a", name="paint", arguments={"colour": "rot ☂"})
    conversation = Conversation(skills=(SPEC,)).ask("Paint it.", [store.add(png("blue"))])
    conversation = conversation.reply(AssistantMessage(skill_uses=(use,)))
    result = SkillResult(id="a", name="paint", text="Painted.", artifacts=made)
    return conversation.add_result(result).reply(AssistantMessage(text="Done."))


def test_a_record_is_one_line_with_its_images_beside_it(tmp_path: Path) -> None:
    store = ImageStore()
    path = tmp_path / "new" / "records.jsonl"
    for _ in range(2):
        append_record(painted(store), store, path)
    first, second = path.read_text(encoding="utf-8").splitlines()
    assert first == second
    record = json.loads(first)
    assert [message["role"] for message in record["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    assert record["tools"] == [SPEC.tool()]
    (shown,) = record["images"]
    assert list(record["made"]) == ["img_2"]
    assert list(record["masks"]) == ["mask_1"]
    parts = record["messages"][0]["content"]
    assert sum(part["type"] == "image" for part in parts) == len(record["images"])
    for file, colour in ((shown, "blue"), (record["made"]["img_2"], "red")):
        data = (path.parent / file).read_bytes()
        assert data == png(colour)
        assert Path(file).stem == hashlib.sha256(data).hexdigest()
