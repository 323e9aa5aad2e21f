"""The request bank: readable, consistent with the specs, and apart from the held-out requests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from llava_plus.skills.adjust import WHOLE_ONLY
from llava_plus.skills.errors import BadInput
from llava_plus.training_data.bank import Bank, read_invented, split_arguments
from llava_plus.training_data.catalogue import catalogue
from llava_plus.training_data.evaluate import HELD_OUT, read_cases

BANK = Bank()


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def test_every_catalogue_skill_has_requests() -> None:
    assert set(BANK.skills) == set(catalogue())
    assert all(len(requests) >= 60 for requests in BANK.skills.values())


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_arguments_are_those_of_the_spec(name: str) -> None:
    properties = catalogue()[name].parameters["properties"]
    for request in BANK.skills[name]:
        assert set(request.arguments) <= set(properties), request
        for key, value in request.arguments.items():
            allowed = properties[key].get("enum")
            assert allowed is None or value in allowed, request


@pytest.mark.parametrize("name", ["detect", "segment", "generate", "edit", "retrieve"])
def test_words_are_copied_from_the_request(name: str) -> None:
    """Free-text arguments stand in the request; the few exceptions are written out on purpose."""
    copied = whole = 0
    for request in BANK.skills[name]:
        for key, value in request.arguments.items():
            if key in ("labels", "prompt", "instruction", "query"):
                for part in value.strip("[]").split(", "):
                    whole += 1
                    copied += part.lower() in request.text.lower()
    assert copied / whole > 0.85


def test_plans_name_catalogue_skills_and_their_arguments() -> None:
    for plan in [*BANK.plans, *BANK.marked]:
        for steps in plan.rounds:
            for step in steps:
                properties = catalogue()[step.skill].parameters["properties"]
                assert set(step.arguments) <= set(properties), plan


def test_invented_skills_are_whole() -> None:
    names = [skill.spec.name for skill in BANK.invented]
    assert len(set(names)) == len(names) >= 300
    for skill in BANK.invented:
        properties = skill.spec.parameters["properties"]
        assert len(skill.requests) >= 4, skill.spec.name
        for request in skill.requests:
            assert set(request.arguments) <= set(properties), request


def test_nothing_stands_in_the_bank_twice() -> None:
    seen: dict[str, str] = {}
    requests = [r.text for several in BANK.skills.values() for r in several]
    requests += [text for text, _ in BANK.none]
    requests += [plan.text for plan in [*BANK.plans, *BANK.marked]]
    twice = []
    for text in requests:
        key = " ".join(re.findall(r"[\w{}]+", text.lower()))
        if len(key.split()) > 4 and key in seen:
            twice.append((text, seen[key]))
        seen[key] = text
    assert not twice


@pytest.mark.parametrize(
    "path", sorted(HELD_OUT.parent.glob("*.jsonl")), ids=lambda path: path.stem
)
def test_held_out_requests_are_not_in_the_bank(path: Path) -> None:
    """None of five words or more shares nine tenths of its words with a known request."""
    known = [words(r.text) for several in BANK.skills.values() for r in several]
    known += [words(text) for text, _ in BANK.none]
    known += [words(plan.text) for plan in [*BANK.plans, *BANK.marked]]
    leaked = []
    cases = read_cases(path)
    assert len(cases) >= 150
    for case in cases:
        own = words(case.request)
        if len(own) >= 5 and any(len(own & other) / len(own | other) > 0.9 for other in known):
            leaked.append(case.request)
    assert not leaked


@pytest.mark.parametrize(
    ("part", "file", "text", "words"),
    [
        ("plans", "plans.txt", "no bar", "part behind a bar"),
        ("nouns", "nouns.txt", "dog", "plural"),
        ("skills", "skills/ocr.txt", "read | nothing", "key=value"),
        ("invented", "invented/a.txt", "odd: no signature\nx\n= y", "form name"),
        ("invented", "invented/a.txt", "odd(x: colour): Says.\nx\n= y", "no type"),
        ("invented", "invented/a.txt", "odd(x: string): Says.\nx", "result line"),
    ],
)
def test_what_is_malformed_is_named_with_its_line(
    tmp_path: Path, part: str, file: str, text: str, words: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# a remark\n{text}\n")
    bank = Bank(tmp_path)
    with pytest.raises(BadInput, match=rf"{path.name}:\d+: .*{words}"):
        getattr(bank, part)


def test_no_plan_turns_a_part_of_an_image() -> None:
    """`adjust` refuses it, so nobody should learn it."""
    steps = [(plan, step) for plan in Bank().plans for steps in plan.rounds for step in steps]
    turned = [
        plan.text
        for plan, step in steps
        if step.arguments.get("operation") in WHOLE_ONLY and "target" in step.arguments
    ]
    assert not turned


def test_arguments_are_split_at_semicolons() -> None:
    assert split_arguments("a=1; b=[x, y]; c=p=q", "") == {"a": "1", "b": "[x, y]", "c": "p=q"}
    assert split_arguments("", "") == {}


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "skills.txt"
    file.write_bytes(b"roll(): Roll.\n\x00\xff")
    for read in (read_invented, read_cases):
        with pytest.raises(BadInput, match=r"skills\.txt is not text in UTF-8: .* at 15"):
            read(file)
