"""`llava-plus data generate`: a labeler on loopback, real skills, and records to train on."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage
from llava_plus.model.loading import load_processor
from llava_plus.model.record import Record
from llava_plus.model.rendering import ChatRenderer
from llava_plus.model.scripted import ScriptedLMM
from llava_plus.model.shipped import embedded_folder
from llava_plus.skills import ImageStore, SkillResult
from llava_plus.skills.discovery import load_skill
from llava_plus.skills.errors import BadConfiguration, BadInput, BadReply, WorkerUnavailable
from llava_plus.skills.geometry import Position
from llava_plus.training_data.commands.data import command
from llava_plus.training_data.generation.agreement import check_answer
from llava_plus.training_data.generation.items import read_coco, read_items
from llava_plus.training_data.generation.kept import Kept
from llava_plus.training_data.generation.labeler import Labeler
from llava_plus.training_data.generation.opening import Opening, open_stage
from llava_plus.training_data.generation.outcome import GivenUp, Refused, Unfit
from llava_plus.training_data.generation.pace import Pace
from llava_plus.training_data.generation.prompts import Prompts
from llava_plus.training_data.generation.recipe import Recipe
from llava_plus.training_data.generation.replies import (
    Requested,
    read_answer,
    read_description,
    read_pairs,
    read_request,
)
from llava_plus.training_data.generation.run import jobs_of, make
from llava_plus.training_data.records.image_files import ImageFiles, load_conversation
from llava_plus.training_data.records.report import Report
from llava_plus.training_data.records.transfer import read_records
from llava_plus.training_data.suites.answers import AnswerFile

from ..serving import worker
from ..toy_skills import Hang, Paint, Refuse
from .answering import asked_text
from .labeling import REQUESTS, Reply, labeling, labels, pairs, sign, use

PAGE = Path(__file__).parents[2] / "docs" / "generation.md"
WRONG = 'Answer: There are 7 QR codes. The sign says "Nothing else".'


@pytest.fixture(scope="module")
def workers() -> Iterator[str]:
    """A worker with real skills and their backends."""
    with worker(*(load_skill(name) for name in ("ocr", "detect", "adjust"))) as url:
        yield url


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Three images; `stumbling` below is too hasty with the second and fails at the third."""
    signs = {"plain": "NO PARKING", "hasty": "Exit", "stubborn": "Gate 4"}
    for name, line in signs.items():
        sign(tmp_path / "photos" / f"{name}.png", line)
    rows = [{"id": name, "image": f"{name}.png", "captions": [f"A {name} sign."]} for name in signs]
    return write_lines(tmp_path / "items.jsonl", *rows)


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stumbling(body: dict[str, Any]) -> Reply:
    """Wrong about what is hasty until told so, and about what is stubborn for ever."""
    text = asked_text(body)
    wrong = "stubborn" in text or ("hasty" in text and "This is try" not in text)
    return Reply(WRONG) if wrong and "Request: ..." not in text else labels(body)


def words(items: Path, labeler: str, out: Path, *more: object) -> list[str]:
    photos = items.parent / "photos"
    given = ["generate", items, "--images", photos, "--out", out, "--labeler", labeler, *more]
    return [str(word) for word in given]


def generate(items: Path, labeler: str, out: Path, *more: object) -> dict[str, Any]:
    """The counts of a run. Raises what the program would tell in one line."""
    return run(*words(items, labeler, out, *more, "--json"))


def run(*given: str) -> dict[str, Any]:
    result = CliRunner().invoke(command, given, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def records(path: Path) -> dict[str, Record]:
    return {record.id: record for record in read_records(path, Report())}


def refusals(out: Path) -> list[dict[str, str]]:
    lines = out.with_name(f"{out.name}.refused.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def said(record: Record) -> list[str]:
    return [message.text for message in record.messages]


# --- instruction data


def test_each_image_becomes_a_conversation_a_description_and_a_question(
    items: Path, tmp_path: Path
) -> None:
    out = tmp_path / "records.jsonl"
    with labeling(labels) as server:
        counts = generate(items, server.url, out, "--price", "0.5,2")
        again = generate(items, server.url, out, "--price", "0.5,2")
    assert counts["kept"] == {"conversation": 3, "detail": 3, "reasoning": 3}
    assert counts["requests"] == len(server.answered) == 9
    # 900 tokens in at 0.5 and 90 out at 2 a million.
    assert (counts["prompt_tokens"], counts["completion_tokens"]) == (900, 90)
    assert counts["money"] == pytest.approx(0.00045 + 0.00018)
    assert (again["requests"], again["known_before"], again["money"]) == (0, 9, 0)
    made = records(out)
    assert list(made)[:4] == [
        *("plain:conversation", "plain:detail", "plain:reasoning", "hasty:conversation"),
    ]
    talk = made["plain:conversation"]
    assert said(talk) == [
        *("What is there? a plain sign", "It is so.", "Where is it?", "It is so."),
    ]
    assert (talk.images, talk.source) == ({"img_1": "photos/plain.png"}, "generated by labeler")
    described = made["plain:detail"]
    assert described.messages[0].text in Prompts.load().lines("detail-requests")
    assert said(described)[1] == "There is a plain sign, in full view."
    assert not out.with_name("records.jsonl.refused.jsonl").exists()


def test_a_reply_in_another_form_is_asked_for_again_with_the_problem_and_then_refused(
    items: Path, tmp_path: Path
) -> None:
    out = tmp_path / "records.jsonl"
    with labeling(stumbling) as server:
        counts = generate(items, server.url, out, "--kinds", "conversation", "--tries", 3)
    assert counts["refused"] == {"bad-reply": 1}
    assert list(records(out)) == ["plain:conversation", "hasty:conversation"]
    (refused,) = refusals(out)
    assert (refused["id"], refused["refused"]) == ("stubborn:conversation", "bad-reply")
    assert "block 1 is not one 'Question: ...'" in refused["because"]
    assert refused["said"] == WRONG
    (again,) = (
        text
        for body in server.seen
        if "hasty" in (text := asked_text(body)) and "This is try 2" in text
    )
    assert WRONG in again
    assert "block 1 is not one 'Question: ...'" in again
    assert len(server.answered) == 1 + 2 + 3


def test_cocos_files_are_joined_and_told_as_captions_and_boxes(tmp_path: Path) -> None:
    image = {"id": 7, "file_name": "a.png", "width": 200, "height": 100}
    sign(tmp_path / "photos" / "a.png", "A")
    captions, instances = coco(
        tmp_path,
        [image, {**image, "id": 8}],
        [{"image_id": 7, "caption": "A dog\n{{ runs }}. "}, {"image_id": 7, "caption": " "}],
        [
            {"image_id": 7, "category_id": 3, "bbox": [20, 10, 100, 50]},
            {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"image_id": 7, "category_id": 3, "bbox": [5, 5, 0, 9]},
        ],
    )
    with labeling(labels) as server:
        given = ["--captions", captions, "--instances", instances, "--kinds", "detail"]
        given += ["--images", tmp_path / "photos", "--out", tmp_path / "o.jsonl"]
        run("generate", *map(str, given), "--labeler", server.url, "--json")
    (body,) = server.seen
    assert asked_text(body) == "A dog {{ runs }}.\n\ndog: [0.1, 0.1, 0.6, 0.6]"
    assert list(records(tmp_path / "o.jsonl")) == ["7:detail"]


def coco(folder: Path, images: list[Any], captions: list[Any], things: list[Any]) -> list[Path]:
    files = {
        "captions.json": {"images": images, "annotations": captions},
        "instances.json": {
            "images": images,
            "annotations": things,
            "categories": [{"id": 3, "name": "dog"}],
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return [folder / name for name in files]


def test_an_annotation_of_what_is_not_there_is_named(tmp_path: Path) -> None:
    image = {"id": 7, "file_name": "a.png"}
    things = [{"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9]}]
    _, instances = coco(tmp_path, [image], [], things)
    with pytest.raises(BadInput, match="names image 7 and category 3"):
        read_coco(None, instances)


def test_lines_that_are_no_items_and_images_that_are_not_there_are_refused(
    items: Path, tmp_path: Path
) -> None:
    lines = [
        '{"image": "plain.png"}',
        "{oops",
        '{"image": "plain.png", "boxes": [{"label": "x", "box": [0.5, 0, 0.5, 1]}]}',
        '{"image": "../items.jsonl", "tags": ["x"]}',
        '{"image": "none.png", "tags": ["x"]}',
        '{"image": "plain.png", "tags": ["x"]}',
    ]
    items.write_text("\n".join(lines))
    out = tmp_path / "records.jsonl"
    with labeling(labels) as server:
        generate(items, server.url, out, "--kinds", "reasoning")
    assert [(line["id"], line["refused"]) for line in refusals(out)] == [
        ("items.jsonl:1", "bad-item"),
        ("items.jsonl:2", "bad-item"),
        ("items.jsonl:3", "bad-item"),
        ("../items.jsonl:reasoning", "bad-image"),
        ("none.png:reasoning", "bad-image"),
    ]
    assert list(records(out)) == ["plain.png:reasoning"]
    assert len(server.seen) == 1


# --- tool use


def test_skills_are_really_run_and_the_record_trains(
    items: Path, tmp_path: Path, workers: str
) -> None:
    """With the tokenizer and the template of the model that ships."""
    out = tmp_path / "records.jsonl"
    families = ",".join(REQUESTS)
    given = ["--kinds", "tools", "--skills", families, "--per-image", 4, "--limit", 4]
    with labeling(labels) as server:
        generate(items, server.url, out, *given, "--thoughts", "--workers", workers)
    made = records(out)
    assert list(made) == [f"plain:{family}" for family in REQUESTS]
    asked, called, found, answered = made["plain:ocr"].messages
    assert asked.text == REQUESTS["ocr"]
    assert isinstance(called, AssistantMessage)
    assert called.thoughts == "I need a tool for this."
    assert [(use.id, use.name) for use in called.skill_uses] == [("call_1", "ocr")]
    assert isinstance(found, SkillMessage)
    assert re.match(r"Read \d lines?:\nNO PARKING\b", found.text)
    assert found.result.data["lines"][0]["text"] == "NO PARKING"
    assert answered.text == 'The sign says "NO PARKING".'

    both = made["plain:detect+adjust"]
    uses = [use for m in both.messages if isinstance(m, AssistantMessage) for use in m.skill_uses]
    assert [(use.id, use.name) for use in uses] == [("call_1", "detect"), ("call_2", "adjust")]
    assert json.dumps(uses[1].arguments["target"][0]) in said(both)[2]
    assert said(both)[4].endswith("Made img_2.")
    assert said(both)[-1] == "Done: see img_2."
    assert (tmp_path / both.images["img_2"]).read_bytes().startswith(b"\x89PNG")
    assert {spec.name for spec in both.skills} == {"ocr", "detect", "adjust"}

    calling = [body for body in server.seen if "Call the tool" in asked_text(body)]
    offered = [[tool["function"]["name"] for tool in body["tools"]] for body in calling]
    assert offered == [["ocr", "detect", "adjust"]] * 5
    assert not any("A plain sign" in asked_text(body) for body in calling)

    stats = run("stats", str(out), "--json")
    assert stats["calls"] == {"detect": 2, "adjust": 2, "ocr": 1}
    assert (stats["records"], stats["errors"], stats["unreadable"]) == (4, 0, 0)

    renderer = ChatRenderer(load_processor(str(embedded_folder())))
    conversation = load_conversation(both, tmp_path, ImageStore())
    rendered = renderer.training(conversation, lambda handle: [])
    pairs = list(zip(rendered.ids, rendered.learned, strict=True))
    learned, read = (
        renderer.tokenizer.decode([token for token, on in pairs if on is wanted])
        for wanted in (True, False)
    )
    for text in ("adjust", "blur", "QR code", "Done: see img_2."):
        assert text in learned
    assert "Made img_2." in read
    assert "Made img_2." not in learned
    assert REQUESTS["detect+adjust"] in read


def test_an_answer_that_contradicts_the_results_is_asked_for_again_and_then_refused(
    items: Path, tmp_path: Path, workers: str
) -> None:
    out = tmp_path / "records.jsonl"
    items.write_text("".join(items.read_text().splitlines(keepends=True)[1:]))
    given = ["--kinds", "tools", "--skills", "ocr,detect", "--per-image", 2]
    with labeling(stumbling) as server:
        counts = generate(items, server.url, out, *given, "--workers", workers)
    assert counts["refused"] == {"contradicts-result": 2}
    read, counted = refusals(out)
    assert read["id"] == "stubborn:ocr"
    assert "'Nothing else'" in read["because"]
    assert "tells 7 of 'qr code', the result 1" in counted["because"]
    assert said(records(out)["hasty:ocr"])[-1] == 'The sign says "Exit".'


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("See img_4.", "a reply names img_4, which is not there yet"),
        ("The cat is at [0.1, 0.2, 0.3, 0.5].", r"\[0.1, 0.2, 0.3, 0.5\] is in no result"),
        ("I found 2 cats.", "tells 2 of 'cat', the result 1"),
        ("There is one cat in img_1, at [0.1, 0.2, 0.3, 0.4].", ""),
    ],
)
def test_answers_keep_to_handles_places_and_counts(answer: str, problem: str) -> None:
    called = AssistantMessage(skill_uses=(use("detect", image="img_1", labels=["cat"]),))
    found = "Found 1 cat.\ncat [0.1, 0.2, 0.3, 0.4]"
    result = SkillResult(id=called.skill_uses[0].id, name="detect", text=found)
    conversation = Conversation().ask_about("How many cats?", ["img_1"]).reply(called)
    closed = conversation.add_result(result).reply(AssistantMessage(text=answer))
    with pytest.raises(Unfit, match=problem) if problem else nullcontext():
        check_answer(closed, [found])


@pytest.mark.parametrize(
    ("uses", "problem"),
    [
        ((), "no skill was called; the request needs adjust"),
        ((use("segment", image="img_1"),), "there is no skill 'segment'"),
        ((use("adjust", image="img_1"),), "'operation' is a required property"),
        ((use("adjust", image="img_9", operation="flip"),), "there is no image 'img_9' here"),
        ((use("adjust", image="img_1", operation="blur", amount=7),), "amount is 7; it is the"),
        (
            (use("adjust", image="img_1", operation="blur", target=[[0.1, 0.2, 0.4, 0.7]]),),
            "[0.1, 0.2, 0.4, 0.7] is neither in the request nor in a result",
        ),
        ((use("ocr", image="img_1"),), "is to be met with adjust, not with ocr"),
        ((use("adjust", image="img_1", operation="flip"),) * 2, "one call is there twice"),
    ],
    ids="none unknown-skill spec handle range place other-skill twice".split(),
)
def test_a_call_that_does_not_fit_is_asked_for_again_and_leaves_no_trace(
    uses: tuple[Any, ...], problem: str, items: Path, tmp_path: Path, workers: str
) -> None:
    def errs_once(body: dict[str, Any]) -> Reply:
        text = asked_text(body)
        wrong = "Call the tool" in text and "This is try" not in text
        return Reply("So.", uses) if wrong else labels(body)

    out = tmp_path / "records.jsonl"
    given = ["--kinds", "tools", "--skills", "adjust,ocr", "--limit", 1]
    with labeling(errs_once) as server:
        counts = generate(items, server.url, out, *given, "--workers", workers)
    assert counts["kept"] == {"adjust": 1}
    (again,) = (text for body in server.seen if "This is try" in (text := asked_text(body)))
    assert problem in again
    (record,) = records(out).values()
    assert len(record.messages) == 4
    assert said(record)[2] == "Rotated the image by 90 degrees.\nMade img_2."


def test_places_that_a_person_points_at_become_marks(
    items: Path, tmp_path: Path, workers: str
) -> None:
    box = [0.02, 0.1, 0.6, 0.5]

    def points(body: dict[str, Any]) -> Reply:
        text = asked_text(body)
        if "Request: ..." in text:
            return Reply(f"Request: Blur this.\nBox: {box}")
        if "Call the tool" in text:
            return Reply(uses=(use("adjust", operation="blur", image="img_1", target=[box]),))
        return labels(body)

    out = tmp_path / "records.jsonl"
    given = ["--kinds", "tools", "--skills", "adjust", "--limit", 1, "--workers", workers]
    with labeling(points) as server:
        generate(items, server.url, out, *given)
    (record,) = records(out).values()
    content = json.loads(out.read_text())["messages"][0]["content"]
    assert content[-1]["text"] == f"Blur this.\nMarked in img_1: box {box}"
    assert said(record)[2] == "Blurred 1 region.\nMade img_2."


def test_requests_and_skills_that_come_to_nothing_are_refused(items: Path, tmp_path: Path) -> None:
    def toys(body: dict[str, Any]) -> Reply:
        text = asked_text(body)
        if "Request: ..." in text:
            name = re.findall(r"^Skill (\w+):", text, flags=re.M)[0]
            return Reply("No request: why paint?" if name == "paint" else f"Request: Do {name}.")
        name = re.findall(r"Request: Do (\w+)\.", text)[0]
        return Reply(uses=(use(name),))

    out = tmp_path / "records.jsonl"
    given = ["--kinds", "tools", "--skills", "refuse,hang,paint", "--skill-seconds", 0.3]
    with labeling(toys) as server, worker(Refuse(), Hang(), Paint()) as url:
        generate(items, server.url, out, *given, "--workers", url)
    assert out.read_text() == ""
    assert [(line["id"], line["refused"]) for line in refusals(out)] == [
        ("plain:refuse", "skill-failed"),
        ("hasty:hang", "skill-too-slow"),
        ("stubborn:paint", "no-request"),
    ]


# --- runs that break off, limits


def test_a_killed_run_goes_on_to_the_same_records_and_asks_nothing_twice(
    items: Path, tmp_path: Path, workers: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    given = ["--kinds", "conversation,detail,tools", "--skills", "detect,detect+adjust"]
    given += ["--per-image", "2", "--workers", workers, "--concurrency", "3", "--thoughts"]
    with labeling(stumbling) as server:
        counts = generate(items, server.url, whole / "r.jsonl", *given)
        asked = len(server.answered)
        assert counts["requests"] == asked

        server.hangs_after = asked + 17
        given = words(items, server.url, killed / "r.jsonl", *given)
        program = [sys.executable, "-m", "llava_plus.agent", "data", *given]
        process = subprocess.Popen(program, stderr=subprocess.DEVNULL)
        kept = killed / "r.jsonl.labels" / "said.jsonl"
        deadline = time.monotonic() + 90
        while len(server.seen) < asked + 18 or kept.read_bytes().count(b"\n") < 17:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        while server.waiting:
            time.sleep(0.02)
        assert not (killed / "r.jsonl").exists()

        server.hangs_after = float("inf")
        run(*given, "--json")
        assert len(server.answered) == 2 * asked
    for name in ("r.jsonl", "r.jsonl.refused.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    pictures = {path.name for path in (whole / "images").iterdir()}
    assert pictures
    assert {path.name for path in (killed / "images").iterdir()} == pictures


def test_a_server_that_is_busy_is_asked_again_when_it_says(
    items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAVA_PLUS_LABELER_API_KEY", "labeling-key")
    out = tmp_path / "records.jsonl"
    with labeling(labels) as server:
        server.refuses = [(429, "1")]
        began = time.monotonic()
        assert generate(items, server.url, out, "--kinds", "detail")["requests"] == 3
        assert time.monotonic() - began >= 1
        server.refuses = [(429, "3000")]
        with pytest.raises(WorkerUnavailable, match="try again in 3000 s"):
            generate(items, server.url, tmp_path / "later.jsonl", "--kinds", "detail")
    assert server.keys == {"Bearer labeling-key"}


def test_a_labeler_that_cannot_be_read_at_all_ends_the_run(items: Path, tmp_path: Path) -> None:
    with labeling(labels) as server:
        server.refuses = [(400, "0")] * 20
        with pytest.raises(BadReply, match=r"no reply of 8 can be read.* answered 400: not now"):
            generate(items, server.url, tmp_path / "records.jsonl")
    assert not (tmp_path / "records.jsonl").exists()


async def test_requests_and_tokens_of_any_minute_are_bounded() -> None:
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    pace = Pace(requests=2, clock=lambda: now[0], sleep=sleep)
    assert [(await pace.admit(9)).at for _ in range(5)] == [0, 0, 60, 60, 120]

    now = [0.0]
    pace = Pace(tokens=100, clock=lambda: now[0], sleep=sleep)
    first = await pace.admit(60)
    first.tokens = 30  # as the server counted
    assert [(await pace.admit(tokens)).at for tokens in (60, 60, 500, 1)] == [0, 60, 120, 180]


async def test_a_reply_that_is_no_text_is_a_problem_and_is_kept_as_one(tmp_path: Path) -> None:
    lmm = ScriptedLMM([use("ocr", image="\ud800"), "Hm."])
    for _ in range(2):
        with AnswerFile(tmp_path / "said.jsonl") as file:
            labeler = Labeler(lmm, "scripted", Kept(file))
            replies = [await labeler.say(Conversation().ask(text)) for text in "ab"]
    assert "cannot be written as UTF-8" in replies[0].problem
    assert replies[1].text == "Hm."
    assert len(lmm.asked) == 2


async def test_what_is_wanted_twice_at_once_is_asked_once(tmp_path: Path) -> None:
    lmm = ScriptedLMM(["Once."])
    with AnswerFile(tmp_path / "said.jsonl") as file:
        labeler = Labeler(lmm, "scripted", Kept(file))
        asked = Conversation().ask("Hi.")
        replies = await asyncio.gather(*(labeler.say(asked) for _ in range(5)))
    assert {reply.text for reply in replies} == {"Once."}
    assert (labeler.spent.asked, labeler.spent.known) == (1, 4)


async def test_jobs_recipes_and_outcomes_can_be_sent_to_another_process(
    items: Path, tmp_path: Path
) -> None:
    roots = [tmp_path / "photos"]
    recipe = Recipe(Prompts.load(), ImageFiles(roots, tmp_path), tmp_path, tries=1)
    jobs = list(jobs_of(read_items(items), ["conversation"]))
    with labeling(stumbling) as server:
        async with open_stage(Opening(server.url, tmp_path / "labels")) as stage:
            here = [await make(job, recipe, stage) for job in jobs]
            sent = pickle.loads(pickle.dumps((jobs, recipe)))
            there = [await make(job, sent[1], stage) for job in sent[0]]
    assert pickle.loads(pickle.dumps(there)) == here
    assert [type(outcome) for outcome in here] == [Record, Refused, Refused]


async def test_a_result_is_kept_under_the_settings_of_its_skills(
    items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAVA_PLUS_CONFIG", str(tmp_path / "settings.toml"))
    opening = Opening("http://127.0.0.1:9/v1#m", tmp_path, tools=True, families=("adjust",))
    kept = []
    for rounds in (4, 4, 5):  # of the backend of `segment`, which `adjust` uses
        (tmp_path / "settings.toml").write_text(f"[skills.segment]\nrounds = {rounds}\n")
        store = ImageStore()
        image = store.add((items.parent / "photos" / "plain.png").read_bytes())
        turned = use("adjust", image="img_1", operation="grayscale")
        async with open_stage(opening) as stage:
            asked = Conversation().ask("Take its colours.", [image])
            assert (await stage.skills().run(turned, asked, store)).error is None
        kept.append(len((tmp_path / "runs.jsonl").read_text().splitlines()))
    assert kept == [1, 1, 2]


# --- prompts


def test_prompts_of_ones_own_take_the_place_of_those_that_ship(items: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "detail-requests.md").write_text("Go on.\n")
    (own / "detail.md").write_text(
        "# Instructions\nDescribe the image in detail, in a verse.\n# Given\nImage:\n{{ seen }}\n"
    )
    out = tmp_path / "records.jsonl"
    with labeling(labels) as server:
        generate(items, server.url, out, "--kinds", "detail", "--prompts", own, "--limit", 1)
    assert asked_text(server.seen[0]) == (
        "Describe the image in detail, in a verse.\n\nImage:\nA plain sign."
    )
    assert said(records(out)["plain:detail"])[0] == "Go on."


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("detial.md", "x", "no prompt is named detial.md; there is again.md, answer.md"),
        ("detail.md", "Describe it.", "detail.md needs the headings"),
        ("detail.md", "# Instructions\nx\n# Reply\ny\n# Given\nz", "needs the headings"),
        ("again.md", "{% if %}", "again.md is no template"),
        ("detail-requests.md", "\n", "detail-requests.md has no line"),
    ],
)
def test_prompts_that_do_not_fit_are_named(
    name: str, text: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadConfiguration, match=problem):
        Prompts.load(tmp_path)


def test_what_is_put_into_a_prompt_stays_as_it_is() -> None:
    told = "# Given\n{{ seen }} <b> {% raw %}"
    (*_, asked) = Prompts.load().ask("detail", seen=told).messages
    assert asked.text == told


# --- replies

line = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda text: (
        not re.match(r"(Thoughts|Answer|Question|Request):|===$", text)
        and not re.search("caption|coordinates|box", text, re.IGNORECASE)
    )
)


@given(st.lists(st.tuples(line, line), min_size=1, max_size=10, unique_by=lambda pair: pair[0]))
def test_questions_and_answers_come_back_as_they_were_written(said: list[tuple[str, str]]) -> None:
    text = "\n===\n".join(f"Question: {q}\n===\nAnswer: {a}" for q, a in said)
    assert read_pairs(f"\n{text}\n===\n", least=1, most=10) == said


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the reply is empty"),
        ("Sure.\n" + pairs("Why?"), "block 1 is not"),
        (pairs("Why?").replace("===", "---"), "block 1 is not one 'Question"),
        (pairs("Why?") + "\n===\nQuestion: How?", "the last question has no answer"),
        (pairs("Why?", "How?"), "there are 2 questions where 1 were asked for"),
        (pairs("What does the caption say?"), "it speaks of 'caption'"),
        (pairs("Why?").replace("so.", "so in the provided description."), "speak as one who sees"),
    ],
)
def test_pairs_are_read_strictly(text: str, problem: str) -> None:
    with pytest.raises(Unfit, match=problem):
        read_pairs(text, least=1, most=1)


def test_requests_answers_and_descriptions_are_read_strictly() -> None:
    assert read_request("Request: Cut it out.\nPoint: [0.5, 1]") == Requested(
        "Cut it out.", points=(Position(0.5, 1),)
    )
    for text in (
        "Cut it out.",
        "Request: Cut.\nPlease.",
        "Request: Cut.\nBox: [0, 0, 0, 1]",
        "Request: Cut.\nPoint: __import__('os')",
    ):
        with pytest.raises(Unfit):
            read_request(text)
    with pytest.raises(GivenUp, match="nothing to read"):
        read_request("No request: nothing to read")
    assert read_answer("Thoughts: It is there.\nAnswer: Yes.\n\nTwo.", thoughts=True).text == (
        "Yes.\n\nTwo."
    )
    for text, thoughts in (
        ("Yes.", False),
        ("Answer: Yes.", True),
        ("Answer:", False),
        ("Thoughts: So.\nAnswer: Yes.", False),
        ("Answer: a\nAnswer: b", False),
    ):
        with pytest.raises(Unfit):
            read_answer(text, thoughts=thoughts)
    with pytest.raises(Unfit, match="write the description alone"):
        read_description("Answer: A dog.")


# --- the command


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["--out", "r.jsonl"], "give ITEMS, or COCO's files"),
        (["items.jsonl", "--captions", "items.jsonl", "--out", "r.jsonl"], "give ITEMS, or COCO"),
        (["items.jsonl", "--out", "none/r.jsonl"], "there is no folder none"),
        (["items.jsonl", "--out", "r.jsonl", "--kinds", "poem"], "choose among conversation"),
        (["items.jsonl", "--out", "r.jsonl", "--skills", "ocr"], "are for --kinds tools"),
        (["items.jsonl", "--out", "r.jsonl", "--price", "1"], "is not IN,OUT"),
        (["items.jsonl", "--out", "r.jsonl", "--request", "[]"], "is no JSON object"),
    ],
)
def test_wrong_usage_is_told(
    given: list[str], problem: str, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(items.parent)
    result = CliRunner().invoke(command, ["generate", *given, "--labeler", "http://h/v1#m"])
    assert result.exit_code == 2
    assert problem in " ".join(result.output.replace("│", " ").split())


def test_a_labeler_or_a_family_that_there_is_not_is_named(items: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    with pytest.raises(BadConfiguration, match="'embedded' is no labeler: give URL#MODEL"):
        generate(items, "embedded", out)
    with pytest.raises(BadInput, match="'ocr\\+ocr' is no family"):
        generate(items, "http://h/v1#m", out, "--kinds", "tools", "--skills", "ocr+ocr")


def test_the_commands_of_the_documentation_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among them one that starts its own workers."""
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text()
    ((name, text),) = re.findall(r'^```\w+ title="(.+?)"\n(.*?)^```$', page, flags=re.M | re.S)
    Path(name).write_text(text)
    for file in ("sign.png", "track.png"):
        sign(tmp_path / "photos" / file, "Platform 3")
    image = {"id": 7, "file_name": "sign.png", "width": 200, "height": 100}
    coco(tmp_path, [image], [{"image_id": 7, "caption": "A sign."}], [])
    told = []
    with labeling(labels) as server:
        for line in re.findall(r"^\$ llava-plus data (.+)$", page, flags=re.M):
            given = shlex.split(line.replace("http://127.0.0.1:8000/v1#labeler", server.url))
            result = CliRunner().invoke(command, given, catch_exceptions=False)
            assert result.exit_code == 0, result.output
            told.append(result.stdout.splitlines()[0])
    assert told == [
        "6 jobs: 6 records, 0 refused",
        "1 jobs: 1 records, 0 refused",
        "8 jobs: 8 records, 0 refused",
        "records        8",
    ]
