"""Importing records: every oddity that is published, and a report that leaves nothing out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llava_plus.agent.bridge.llava_plus import APIS as BRIDGED
from llava_plus.model.conversation import AssistantMessage, SkillMessage, UserMessage
from llava_plus.model.llava_plus.calls import APIS
from llava_plus.model.record import Record
from llava_plus.training_data.records import formats
from llava_plus.training_data.records.imported import Reason, Refusal
from llava_plus.training_data.records.llava_plus import read
from llava_plus.training_data.records.transfer import Notes, import_files

from .records_samples import (
    KEPT,
    QUESTION,
    REFUSED,
    call,
    done,
    grounding,
    human,
    quirks,
    said,
)


def uses(record: Record) -> list[tuple[str, dict[str, Any]]]:
    replies = [m for m in record.messages if isinstance(m, AssistantMessage)]
    return [(use.name, use.arguments) for reply in replies for use in reply.skill_uses]


def results(record: Record) -> list[str]:
    return [m.text for m in record.messages if isinstance(m, SkillMessage)]


def kept(name: str) -> Record:
    return read(KEPT[name][0]).record


def test_every_published_quirk_imports_and_the_report_is_exact(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("coco", "vg", "sbu", "hiertext", "infoseek")]
    for root in roots:
        root.mkdir()
    for place in (roots[1] / "girl.jpg", roots[3] / "girl.jpg", roots[2] / "girl.png"):
        place.write_bytes(b"never opened")
    source, out = tmp_path / "tool-merge.json", tmp_path / "out" / "records.jsonl"
    out.parent.mkdir()
    raws = quirks()
    source.write_text(json.dumps(raws), encoding="utf-8")
    notes = Notes(refused=tmp_path / "refused.jsonl", report=tmp_path / "report.json")
    import_files([source], out, notes, roots=roots)

    expected: list[dict[str, Any]] = [
        {"id": name, "repairs": repairs} for name, (_, repairs) in KEPT.items()
    ]
    expected.append({"id": "4711", "repairs": ["python-repr"]})
    expected.append({"id": "girl.png", "repairs": ["image-from-id", "python-repr"]})
    expected += [{"id": name, "refused": reason} for name, (_, reason) in REFUSED.items()]
    told = [
        {**one, "place": f"tool-merge.json:{place}"} for place, one in enumerate(expected, start=1)
    ]
    report = json.loads(notes.report.read_text()) if notes.report else {}
    listed = [{k: v for k, v in one.items() if k != "because"} for one in report.pop("records")]
    assert listed == [one for one in told if one.get("repairs") != []]
    repaired = [one["repairs"] for one in told if one.get("repairs")]
    names = [name for repairs in repaired for name in repairs]
    assert report == {
        "read": len(raws),
        "kept": len(KEPT) + 2,
        "repaired": len(repaired),
        "refused": len(REFUSED),
        "repairs": {name: names.count(name) for name in report["repairs"]},
        "refusals": {
            reason: [other for _, other in REFUSED.values()].count(reason)
            for reason in report["refusals"]
        },
        "fields_left_out": {"width": 1, "source_id": 1, "result.tags_chinese": 1},
    }
    assert set(names) == set(report["repairs"])

    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [record["id"] for record in records] == [one["id"] for one in told if "repairs" in one]
    assert {tuple(record["images"]) for record in records} == {
        (),
        (str(roots[1] / "girl.jpg"),),  # the first folder that has one
        (str(roots[2] / "girl.png"),),
    }
    refused = [json.loads(line) for line in notes.refused.read_text().splitlines()]
    assert [(one["record"]["unique_id"], one["refused"]) for one in refused] == [
        (name, reason) for name, (_, reason) in REFUSED.items()
    ]
    assert refused[0]["record"] == {"unique_id": "no conversations", "image": "girl.jpg"}


def test_calls_are_those_of_our_skills_and_results_in_their_words() -> None:
    record = kept("plain")
    assert uses(record) == [("detect", {"labels": ["girl"], "image": "img_1"})]
    assert results(record) == ["Found 1 girl.\ngirl [0.35, 0.37, 0.66, 0.97]"]
    asked, waits, _, answer = record.messages
    assert isinstance(asked, UserMessage)
    assert isinstance(waits, AssistantMessage)
    assert isinstance(answer, AssistantMessage)
    assert (asked.text, asked.images) == (QUESTION, ("img_1",))
    assert (waits.thoughts, waits.text) == (
        "I need grounding_dino.",
        "I will use grounding_dino to help to answer the question. Please wait for a moment.",
    )
    assert (answer.thoughts, answer.text) == (
        "Thanks to the output of grounding_dino.",
        "Here it is.",
    )


def test_what_an_earlier_call_made_is_passed_on_by_its_handle() -> None:
    record = kept("mixed tools")
    assert uses(record) == [
        ("segment", {"image": "img_1", "boxes": [[0.0, 0.52, 0.1, 0.67]]}),
        ("inpaint", {"image": "img_1", "mask": "mask_1", "prompt": "a bowl"}),
        ("tag", {"image": "img_1"}),
    ]
    assert results(record) == [
        "Outlined 1 region.\nMade mask_1 (region 1).",
        "Repainted the masked area.\nMade img_2.",
        "2 tags: sofa, bowl.",
    ]
    asked = record.messages[0]
    assert isinstance(asked, UserMessage)
    assert asked.words == "Segment it.\nMarked in img_1: box [0.0, 0.52, 0.1, 0.67]"


def test_openseed_and_controlnet_are_told_apart() -> None:
    assert uses(kept("openseed and controlnet")) == [
        ("label_regions", {"image": "img_1"}),
        ("restyle", {"image": "img_1", "prompt": "a bench under the sea", "control": "regions"}),
    ]


def test_what_a_person_drew_becomes_the_argument_that_the_web_page_filled_in() -> None:
    assert uses(kept("point")) == [("segment_levels", {"image": "img_1", "point": [0.2, 0.3]})]


def test_a_workers_failure_is_an_error_and_a_request_behind_a_result_is_one() -> None:
    assert results(kept("worker's error")) == ["Error: NETWORK ERROR"]
    asked = kept("new request").messages[3]
    assert isinstance(asked, UserMessage)
    assert asked.text == "And the boy?"


@pytest.mark.parametrize(
    ("api", "params", "out", "skill", "arguments", "told"),
    [
        (
            "grounding_dino+sam",
            {"caption": "girl . cart ."},
            "{'boxes': [[0.1, 0.2, 0.3, 0.4]], 'logits': [0.5], 'phrases': ['cart']}",
            "segment",
            {"labels": ["girl", "cart"]},
            "Found no girl and 1 cart.\ncart [0.1, 0.2, 0.3, 0.4]\nMade mask_1 (cart).",
        ),
        (
            "ram+grounding_dino",
            {},
            "{'boxes': [], 'logits': [], 'phrases': [], 'tags': 'girl, cart'}",
            "detect_all",
            {},
            "2 tags: girl, cart.\nFound nothing.",
        ),
        (
            "blip2+grounding_dino",
            {},
            "{'boxes': [[0.1, 0.2, 0.3, 0.4]], 'logits': [0.5], 'phrases': ['girl'], "
            "'caption': 'a girl with a cart', 'size': [480, 640]}",
            "ground_caption",
            {},
            "A girl with a cart.\nFound 1 girl.\ngirl [0.1, 0.2, 0.3, 0.4]",
        ),
        ("blip2", {}, "{'caption': 'a girl'}", "caption", {}, "A girl."),
        (
            "easyocr",
            {},
            "{'texts': [\"IT'S\", 'OPEN']}",
            "ocr",
            {},
            "Read 2 lines:\nIT'S\nOPEN",
        ),
        (
            "ocr",
            {},
            "{'texts': ['A'], 'boxes': [[0.1, 0.1, 0.1, 0.2]], 'scores': [0.9]}",
            "ocr",
            {},
            "Read 1 line:\nA",
        ),
        (
            "clip",
            {},
            "{'retrieval_results': [{'caption': 'a cart', 'similarity': 0.3}]}",
            "retrieve",
            {},
            "Found 1 similar picture.\na cart",
        ),
        (
            "sam",
            {"points": [[[0.1, 0.2]], [[0.3, 0.4]]], "point_labels": [[1], [1]]},
            "{'boxes': None}",
            "segment",
            {"points": [[0.1, 0.2], [0.3, 0.4]]},
            "Outlined 2 regions.\nMade mask_1 (region 1), mask_2 (region 2).",
        ),
        (
            "ip2p",
            {"prompt": "make it autumn"},
            done("instruct-pix2pix"),
            "edit",
            {"instruction": "make it autumn"},
            "Edited the image.\nMade img_2.",
        ),
    ],
)
def test_an_api_is_read_as_the_skill_that_does_the_same(
    api: str, params: Any, out: str, skill: str, arguments: Any, told: str
) -> None:
    record = read(said(human("<image>\nGo."), *call(api, params, out, "Go."))).record
    assert uses(record) == [(skill, {"image": "img_1", **arguments})]
    assert results(record) == [told]


def test_every_api_of_the_bridge_can_be_imported() -> None:
    assert set(BRIDGED) == set(APIS) - {"openseed"}  # which is a mode of `controlnet` there


def test_points_of_the_background_are_refused() -> None:
    params = {"points": [[[0.1, 0.2]]], "point_labels": [[0]]}
    with pytest.raises(Refusal, match="background") as refused:
        read(said(human("<image>\nGo."), *call("sam", params, done("SAM"))))
    assert refused.value.reason == Reason.BAD_CALL


def test_every_skill_of_llava_plus_is_on_offer_and_to_llava_none() -> None:
    offered = {spec.name for spec in read(grounding()).record.skills}
    assert {"detect", "segment", "ocr", "generate", "restyle"} <= offered
    conversation = said(human("<image>\nHi."), {"from": "gpt", "value": "Hi."})
    assert formats.FORMATS["llava"].read(conversation).record.skills == ()
