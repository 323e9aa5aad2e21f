"""`llava-plus data validate`: what is wrong is found, and nothing is said of what may be right."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage
from llava_plus.model.record import Record
from llava_plus.skills.calls import SkillResult, SkillSpec, SkillUse
from llava_plus.skills.discovery import load_skill
from llava_plus.skills.images import ImageRef
from llava_plus.training_data.commands.data import command
from llava_plus.training_data.embedded import EmbeddedSource
from llava_plus.training_data.validation.counting import counts_found, counts_told
from llava_plus.training_data.validation.faithfulness import faithful
from llava_plus.training_data.validation.findings import Case, Check, is_warning
from llava_plus.training_data.validation.near_texts import NearTexts
from llava_plus.training_data.validation.run import Demands, validate
from PIL import Image

from .conversations_drawn import SPEC, WORDS, records

IMAGE = ImageRef(sha256="0" * 64, media_type="image/png", width=40, height=30)
LOOSE = SkillSpec(
    name="look",
    description="Look.",
    parameters={"type": "object", "properties": {"image": {"type": "string"}, "bbox": {}}},
)
FOUND = "Found 2 dogs and no cat.\ndog [0.1, 0.1, 0.3, 0.3]\ndog [0.5, 0.5, 0.9, 0.9]"

Change = Callable[[dict[str, Any]], None]


def record(
    *,
    skill: str = "detect",
    arguments: dict[str, Any] | None = None,
    found: str = FOUND,
    answer: str = "I found 2 dogs and no cat.",
    request: str = "Are there dogs or cats?",
    id: str = "good",
) -> dict[str, Any]:
    """A record with one call, as it stands in a file; by default nothing is wrong with it."""
    given = {"image": "img_1", "labels": ["dog", "cat"]} if arguments is None else arguments
    offered = (load_skill("detect").spec, load_skill("ocr").spec, LOOSE)
    said = (
        Conversation(skills=offered)
        .ask(request, [IMAGE])
        .reply(AssistantMessage(skill_uses=(SkillUse(id="c", name=skill, arguments=given),)))
        .add_result(SkillResult(id="c", name=skill, text=found))
        .reply(AssistantMessage(text=answer))
    )
    raw: dict[str, Any] = json.loads(Record.of(said, {"img_1": "a.png"}, id=id).to_line())
    return raw  # a copy: records share what is written of their tools


def changed(change: Change, **given: Any) -> dict[str, Any]:
    raw = record(**given)
    change(raw)
    return raw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "a.png")
    return tmp_path


def write(path: Path, *raws: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(raw)}\n" for raw in raws), encoding="utf-8")
    return path


def found(path: Path, *options: object) -> tuple[int, dict[str, Any], list[dict[str, Any]]]:
    """Exit code, figures and findings of a validation."""
    findings = path.with_name("findings.jsonl")
    given = ["validate", path, "--json", "--findings", findings, *options]
    result = CliRunner().invoke(command, [str(one) for one in given], catch_exceptions=False)
    told = [json.loads(line) for line in findings.read_text(encoding="utf-8").splitlines()]
    return result.exit_code, json.loads(result.output), told


def checks(path: Path, *options: object) -> list[str]:
    return [finding["check"] for finding in found(path, *options)[2]]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a skill that is not on offer": (record(skill="paint"), "unknown-skill"),
    "an argument that is missing": (record(arguments={"image": "img_1"}), "bad-arguments"),
    "an argument too many": (
        record(skill="look", arguments={"image": "img_1", "loudly": True}),
        "bad-arguments",
    ),
    "an argument of another type": (
        record(arguments={"image": "img_1", "labels": "dog"}),
        "bad-arguments",
    ),
    "a schema that is none": (
        changed(lambda raw: raw["tools"][0]["function"].update(parameters={"type": "thing"})),
        "bad-spec",
    ),
    "an image that is not there yet": (
        record(arguments={"image": "img_2", "labels": ["dog", "cat"]}),
        "unknown-handle",
    ),
    "a mask in an answer that was never made": (
        record(answer="I found 2 dogs: see mask_1."),
        "unknown-handle",
    ),
    "a box beyond the pixels of its image": (
        record(skill="look", arguments={"image": "img_1", "bbox": [0, 0, 60, 20]}),
        "bad-box",
    ),
    "a box that is empty": (
        record(skill="ocr", arguments={"image": "img_1", "region": [0.5, 0.5, 0.5, 0.9]}),
        "bad-box",
    ),
    "another count in words": (record(answer="There are three dogs."), "wrong-count"),
    "another count in digits": (record(answer="I found 4 dogs and no cat."), "wrong-count"),
    "none where some were found": (record(answer="There are no dogs."), "wrong-count"),
    "a quotation that nobody read": (
        record(skill="ocr", arguments={"image": "img_1"}, found="Read 1 line:\nEXIT",
               answer='The sign says "No smoking".'),
        "quote-not-read",
    ),
    "a result that is missing": (
        changed(lambda raw: raw.update(messages=raw["messages"][:2])),
        "missing-result",
    ),
    "a result without a call": (
        changed(lambda raw: raw["messages"].pop(1)),
        "bad-turn",
    ),
    "a request without an answer": (
        changed(lambda raw: raw["messages"].append({"role": "user", "content": "And now?"})),
        "no-answer",
    ),
    "a result without an answer": (changed(lambda raw: raw["messages"].pop()), "no-answer"),
    "an answer that only thinks": (
        changed(lambda raw: raw["messages"][-1].update(content="", reasoning_content="Hm.")),
        "empty-answer",
    ),
    "an image that is not there": (
        changed(lambda raw: raw.update(images=["gone.png"])),
        "image-not-found",
    ),
    "a file that is no image": (
        changed(lambda raw: raw.update(images=["text.png"])),
        "image-unreadable",
    ),
    "an image of another format": (
        changed(lambda raw: raw.update(images=["a.jpg"])),
        "image-format",
    ),
    "half of a character": (record(answer="2 dogs \ud83d."), "broken-text"),
    "a call that is no JSON object": (
        changed(lambda raw: raw["messages"][1]["tool_calls"][0]["function"].update(arguments="[")),
        "bad-call",
    ),
    "a call without an id": (
        changed(lambda raw: raw["messages"][1]["tool_calls"][0].pop("id")),
        "call-id-added",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_found_and_nothing_else(name: str, folder: Path) -> None:
    (folder / "text.png").write_text("no image")
    (folder / "a.jpg").write_bytes((folder / "a.png").read_bytes())
    bad, check = BAD[name]
    if check == "call-id-added":
        bad["messages"][2].pop("tool_call_id")
    good = record(request="Any dogs, any cats?")
    path = write(folder / "records.jsonl", good, {**bad, "id": "bad"})
    code, figures, told = found(path)
    assert [(one["check"], one["line"], one["id"]) for one in told] == [(check, 2, "bad")]
    assert code == figures["failed"] == (not is_warning(check))
    assert figures["checks"] == {check: {"level": told[0]["level"], "findings": 1, "records": 1}}
    assert told[0]["message"]
    assert found(path, "--strict")[0] == 1


def test_every_check_is_tried_here() -> None:
    elsewhere = {"too-long", "duplicate", "leaked-conversation", "leaked-image", "near-request"}
    assert {check for _, check in BAD.values()} | elsewhere >= {str(check) for check in Check}


@pytest.mark.parametrize(
    "answer",
    [
        "There are two dogs.",
        "I found 2 dogs, one of them asleep, and no cat.",
        "One dog sleeps and one dog plays.",
        "There are three dogs or two.",
        "There are no dogs on the sofa.",
        "I did not find 5 dogs.",
        "There are 3 dogs in the poem that you sent.",
        "There are 7 cats and dogs.",
        "There is a large dog. It says \"woof\".",
        "At 3.2 dogs a minute it takes 5 dog years.",
    ],
)  # fmt: skip
def test_an_answer_that_may_be_right_is_left_alone(answer: str) -> None:
    assert told_of(answer) == []


def told_of(answer: str, found: str = FOUND, skill: str = "detect", request: str = "") -> list[str]:
    said = (
        Conversation()
        .ask(request or "How many?", [IMAGE])
        .reply(AssistantMessage(skill_uses=(SkillUse(id="c", name=skill, arguments={}),)))
        .add_result(SkillResult(id="c", name=skill, text=found))
        .reply(AssistantMessage(text=answer))
    )
    return [problem.check for problem in faithful(Case(1, Record.of(said, {})))]


def test_a_number_that_somebody_named_may_be_repeated() -> None:
    assert told_of("There are three dogs.", request="Where are the three dogs?") == []
    assert told_of("There are three dogs.", request="Where are the 2 cats and 3 dogs?") == []
    assert told_of("There are three dogs.", request="Where are the dogs?") == ["wrong-count"]


def test_a_quotation_may_leave_out_change_case_and_translate() -> None:
    read = "Read 2 lines:\nSALE until\n5 May"
    for answer in (
        'It says "Sale until 5 May".',
        'It says "SALE … May".',
        'It says "solde", which means sale.',
        'A "fine" offer.',
    ):
        assert told_of(answer, read, "ocr") == []
    assert told_of('It says "Sale until 6 May".', read, "ocr") == ["quote-not-read"]


def test_counts_are_read_as_findings_state_and_answers_tell_them() -> None:
    assert counts_found("Found 1 traffic light, 2 people and no dog. More.") == [
        (1, "traffic light"),
        (2, "person"),
        (0, "dog"),
    ]
    assert counts_found("Found 3 things for 2 people to do and more.") == [
        (3, "thing for 2 people to do and more")
    ]
    assert counts_found("Read 3 lines:\n2 dogs") == []
    assert list(counts_told("I can see two dogs and 1 cat in the image, a nice pair.")) == [
        (2, "dog"),
        (1, "cat"),
    ]


def test_repeated_records_are_found_by_words_images_and_skills(folder: Path) -> None:
    Image.new("RGB", (40, 30), "navy").save(folder / "b.png")
    other = changed(lambda raw: raw.update(images=["b.png"]))
    copied = changed(lambda raw: raw.update(images=["c.png"]), answer="I found 2  DOGS and no cat.")
    fewer = changed(lambda raw: raw["tools"].pop())
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    path = write(folder / "records.jsonl", record(), other, copied, fewer)
    _, _, told = found(path)
    assert [(one["check"], one["line"], one["message"]) for one in told] == [
        ("duplicate", 3, "the same as record 1")
    ]


def test_what_stands_in_another_split_is_found(folder: Path) -> None:
    (folder / "test").mkdir()
    (folder / "test" / "other.png").write_bytes((folder / "a.png").read_bytes())
    Image.new("RGB", (40, 30), "navy").save(folder / "b.png")
    in_test = changed(lambda raw: raw.update(images=["other.png"]))
    against = write(folder / "test" / "test.jsonl", in_test, {"messages": 5})
    request = "So, are there any dogs or cats?"
    path = write(
        folder / "train.jsonl",
        record(),
        record(answer="2 dogs."),
        changed(lambda raw: raw.update(images=["b.png"]), answer="There are two dogs."),
        changed(lambda raw: raw.update(images=["b.png"]), request=request, answer="2 dogs."),
        changed(lambda raw: raw.update(images=["b.png"]), request="Who?", answer="2 dogs."),
    )
    code, figures, told = found(path, "--against", against)
    assert [(one["line"], one["check"]) for one in told] == [
        (1, "leaked-conversation"),
        (2, "leaked-image"),
        (3, "near-request"),
    ]
    assert "test.jsonl:1" in told[0]["message"]
    assert code == 1
    assert figures["against"] == {str(against): {"records": 1, "unreadable": 1}}
    assert checks(path) == []


@given(
    st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=9), max_size=8),
    st.lists(st.sampled_from("abcdefghijk"), min_size=1, max_size=9),
)
def test_near_texts_are_those_that_comparing_all_would_find(
    known: list[list[str]], asked: list[str]
) -> None:
    near = NearTexts(0.7)
    overlaps = [0.0]
    for place, words in enumerate(known):
        near.add(" ".join(words), str(place))
        if min(len(set(words)), len(set(asked))) >= 4:
            overlaps.append(len({*words} & {*asked}) / len({*words} | {*asked}))
    best = near.near(" ".join(asked))
    assert (best[1] if best else 0) == (max(overlaps) if max(overlaps) >= 0.7 else 0)


def test_records_that_pass_are_written_and_the_others_counted(folder: Path) -> None:
    (folder / "out").mkdir()
    bad = record(skill="paint")
    noted = {**record(answer="2 dogs."), "mood": "calm"}
    path = write(folder / "records.jsonl", record(), bad, noted)
    clean = folder / "out" / "clean.jsonl"
    given = ["validate", str(path), "--clean", str(clean)]
    result = CliRunner().invoke(command, given, catch_exceptions=False)
    assert result.exit_code == 1
    for part in ("unknown-skill", "3 records: 1 with errors", "2 records, 1 left out", "mood 1"):
        assert part in result.output
    kept = [json.loads(line) for line in clean.read_text(encoding="utf-8").splitlines()]
    assert kept[0] == {**record(), "images": [str(folder / "a.png")]}
    assert "mood" not in kept[1]
    assert found(clean)[0] == 0


def test_what_is_read_is_never_written_over(folder: Path) -> None:
    path = write(folder / "records.jsonl", record())
    for option in ("--clean", "--findings"):
        result = CliRunner().invoke(command, ["validate", str(path), option, str(path)])
        assert (result.exit_code, "name another file" in result.output) == (2, True)
    assert found(path)[0] == 0


def test_records_longer_than_a_model_is_to_read_are_found(folder: Path) -> None:
    long = record(answer="2 dogs. " * 300)
    path = write(folder / "records.jsonl", record(), long)
    _, _, told = found(path, "--longest", 900)
    assert [(one["line"], one["check"]) for one in told] == [(2, "too-long")]


def test_without_images_no_file_is_touched(folder: Path) -> None:
    gone = changed(lambda raw: raw.update(images=["gone.png"]))
    assert checks(write(folder / "records.jsonl", record(), gone), "--no-images") == []


def test_an_image_is_held_to_the_limits_of_the_project(folder: Path) -> None:
    data = io.BytesIO()
    Image.new("1", (9000, 9000)).save(data, "PNG")
    (folder / "a.png").write_bytes(data.getvalue())
    _, _, told = found(write(folder / "records.jsonl", record()))
    assert [one["check"] for one in told] == ["image-unreadable"]
    assert "81,000,000 pixels" in told[0]["message"]


def test_what_the_project_composes_for_its_own_model_has_no_fault(tmp_path: Path) -> None:
    source = EmbeddedSource(scenes=20)
    path = tmp_path / "records.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(5):
            for example in source.group(number):
                files = dict.fromkeys(example.conversation.images, "a.png")
                file.write(f"{Record.of(example.conversation, files).to_line()}\n")
    validation = validate(path, Demands(images=False))
    assert (validation.read, dict(validation.findings)) == (40, {})


@settings(max_examples=25, deadline=None)
@given(drawn=records(WORDS.filter(lambda text: '"' not in text)))
def test_a_record_that_is_right_gives_no_finding(
    drawn: tuple[Conversation, Record], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Calls are drawn for images that are not there yet, which is put right first."""
    _, record = drawn
    called = {
        use.name
        for message in record.messages
        if isinstance(message, AssistantMessage)
        for use in message.skill_uses
    }
    specs = [SPEC if name == SPEC.name else load_skill(name).spec for name in sorted(called)]
    messages = [_about_the_first_image(message) for message in record.messages]
    right = record.model_copy(update={"skills": tuple(specs), "messages": tuple(messages)})
    path = tmp_path_factory.mktemp("drawn") / "records.jsonl"
    path.write_text(f"{right.to_line()}\n", encoding="utf-8")
    validation = validate(path, Demands(images=False))
    assert (validation.read, dict(validation.findings)) == (1, {})


def _about_the_first_image(message: Any) -> Any:
    if not isinstance(message, AssistantMessage):
        assert isinstance(message, SkillMessage) or message.role == "user"
        return message
    uses = tuple(
        use.model_copy(update={"arguments": {**use.arguments, "image": "img_1"}})
        if "image" in use.arguments
        else use
        for use in message.skill_uses
    )
    return message.model_copy(update={"skill_uses": uses})
