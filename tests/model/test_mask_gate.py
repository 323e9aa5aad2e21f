"""The gate before a run: every bad record is counted, named and kept out, and none else."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from llava_plus.model.conversation import AssistantMessage, Message, UserMessage
from llava_plus.model.finetuning.mask_gate import Gate, check_records
from llava_plus.model.finetuning.record_files import RecordFiles
from llava_plus.model.finetuning.rows import Learn, RowMaker
from llava_plus.model.loading import load_processor
from llava_plus.model.record import Record
from llava_plus.skills import SkillUse
from llava_plus.skills.errors import BadConfiguration
from rich.console import Console
from transformers import ProcessorMixin

from ..serving import png
from .tiny_models import qwen_vl

LONGEST = 200
ASKED = UserMessage(text="What is there?", images=("img_1",))
ANSWERED = AssistantMessage(text="A dog.")
CALLED = AssistantMessage(
    skill_uses=(SkillUse(id="a", name="detect", arguments={"labels": ["a dog"] * 100}),)
)
TALKED = AssistantMessage(text="dog " * 200)


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> ProcessorMixin:
    return load_processor(str(qwen_vl(tmp_path_factory.mktemp("gate"))))


def line(id: str, *messages: Message, file: str = "dog.png") -> str:
    return Record(id=id, messages=messages, images={"img_1": file}).to_line()


GOOD = [
    line("plain", ASKED, ANSWERED),
    line("cut", ASKED, ANSWERED, UserMessage(text="More?"), TALKED),
    line("in a folder", ASKED, ANSWERED, file="more/cat.png"),
]
LOST, NOTHING = "image lost", "nothing learned"
BAD = {
    "missing": (line("missing", ASKED, ANSWERED, file="none.png"), LOST, "there is no file"),
    "text": (line("text", ASKED, ANSWERED, file="text.png"), LOST, "is not an image"),
    "damaged": (line("damaged", ASKED, ANSWERED, file="half.png"), LOST, "cut short"),
    "folder": (line("folder", ASKED, ANSWERED, file="more"), LOST, "is no file"),
    "web": (line("web", ASKED, ANSWERED, file="https://a/b.png"), LOST, "there is no file"),
    "thin": (line("thin", ASKED, ANSWERED, file="thin.png"), LOST, "1000 x 1 pixels"),
    "broken": (line("broken", ASKED, ANSWERED)[:-30], "not a record", "records.jsonl:"),
    "foreign": ('{"id": "foreign", "messages": []}', "not a record", "tools: Field required"),
    "silent": (line("silent", ASKED, AssistantMessage(text="")), NOTHING, "1 is empty"),
    "unanswered": (line("unanswered", ASKED), NOTHING, "it has no reply"),
    "call": (line("call", ASKED, CALLED), "call cut off", "a row has 200 at most"),
    "answer": (line("answer", ASKED, TALKED), "too long", "a row has 200 at most"),
    "request": (line("request", UserMessage(text="dog " * 200), ANSWERED), "too long", "ends at"),
}


def files(folder: Path, *lines: str) -> RecordFiles:
    """A file of records, and beside it a picture, and what only looks like one."""
    (folder / "more").mkdir()
    for name in ("dog.png", "more/cat.png"):
        (folder / name).write_bytes(png("red", 60, 40))
    (folder / "text.png").write_text("no picture")
    (folder / "half.png").write_bytes(png("red", 60, 40)[:60])
    (folder / "thin.png").write_bytes(png("red", 1000, 1))
    return RecordFiles([written(folder, *lines)])


def written(folder: Path, *lines: str) -> Path:
    path = folder / "records.jsonl"
    path.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
    return path


def refused(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "refused.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(one) for one in lines]


def figures(gate: Gate) -> list[list[int]]:
    return [gate.numbers.tolist(), gate.lengths.tolist(), gate.learned.tolist()]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_bad_record_is_named_with_its_reason(
    tmp_path: Path, processor: ProcessorMixin, workers: int
) -> None:
    bad = [text for text, _, _ in BAD.values()]
    records = files(tmp_path, GOOD[0], *bad, *GOOD[1:])
    maker, heard = RowMaker(processor, longest=LONGEST), []
    gate = check_records(
        records, maker, tmp_path / "run", workers=workers,
        progress=lambda done, of: heard.append((done, of)),
    )  # fmt: skip
    numbers = [0, len(bad) + 1, len(bad) + 2]
    rows = [maker.row(records[number], tmp_path) for number in numbers]
    assert figures(gate) == [numbers, [len(row) for row in rows], [sum(r.learned) for r in rows]]
    assert gate.cut == 1
    reasons = [reason for _, reason, _ in BAD.values()]
    assert gate.refused == {reason: reasons.count(reason) for reason in set(reasons)}
    assert heard == [(n, len(records)) for n in range(1, len(records) + 1)]

    named = zip(refused(tmp_path / "run"), BAD.items(), strict=True)
    unread = ("broken", "foreign")
    for number, (one, (id, (_, reason, message))) in enumerate(named, 1):
        assert (one["number"], one["place"]) == (number, f"records.jsonl:{number + 1}")
        assert (one["id"], one["reason"]) == ("" if id in unread else id, reason)
        assert message in one["message"]


def test_a_run_that_refuses_bad_records_does_not_begin(
    tmp_path: Path, processor: ProcessorMixin
) -> None:
    records = files(tmp_path, GOOD[0], BAD["text"][0], BAD["web"][0])
    maker = RowMaker(processor, longest=LONGEST)
    for _ in range(2):  # found, then read from the folder
        with pytest.raises(BadConfiguration, match=r"2 image lost \(records.jsonl:2 text, "):
            check_records(records, maker, tmp_path / "run", refuse="run")
    assert len(check_records(records, maker, tmp_path / "run")) == 1


def test_a_run_without_a_usable_record_does_not_begin(
    tmp_path: Path, processor: ProcessorMixin
) -> None:
    records = files(tmp_path, BAD["silent"][0])
    with pytest.raises(BadConfiguration, match="0 of 1 records can be learned from; 1 nothing"):
        check_records(records, RowMaker(processor, longest=LONGEST), tmp_path / "run")


def test_the_table_shows_ids_as_text(tmp_path: Path, processor: ProcessorMixin) -> None:
    records = files(tmp_path, GOOD[0], line("[bold]\x1b[2J", ASKED, ANSWERED, file="none.png"))
    gate = check_records(records, RowMaker(processor, longest=LONGEST), tmp_path / "run")
    console = Console(width=100)
    with console.capture() as captured:
        console.print(gate.table())
    shown = captured.get()
    assert "refused: image lost" in shown
    assert "records.jsonl:2 [bold]\ufffd[2J" in shown
    assert f"{gate.learned[0]} of {gate.lengths[0]} tokens are learned" in shown


ENDLESS = (
    "{% for m in messages %}{{ m.role }}: "
    "{{ m.content if m.content is string else m.content[-1].text }}"
    "{{ m.tool_calls[0].function | tojson if m.tool_calls }}"
    "END{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if loop.index0 % 2 and m.role == 'user' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)


def with_template(processor: ProcessorMixin, template: str) -> ProcessorMixin:
    other = copy(processor)
    other.chat_template = template
    return other


def test_a_template_decides_which_records_can_be_learned_from(
    tmp_path: Path, processor: ProcessorMixin
) -> None:
    """One that ends no turn, one that refuses an order of messages, one that hides images."""
    blind = Record(messages=(UserMessage(text="Hi."), ANSWERED)).to_line()
    twice = Record(messages=(UserMessage(text="Hi."), UserMessage(text="You."), ANSWERED)).to_line()
    records = files(tmp_path, blind, twice, GOOD[0])
    found = {}
    for name, template in (("endless", ENDLESS), ("strict", STRICT + str(processor.chat_template))):
        maker = RowMaker(with_template(processor, template), longest=LONGEST)
        folder = tmp_path / name
        try:
            check_records(records, maker, folder)
        except BadConfiguration:
            assert name == "endless"
        found[name] = [(one["number"], one["reason"]) for one in refused(folder)]
    assert found["strict"] == [(1, "not rendered")]
    assert found["endless"] == [(0, "no end token"), (1, "no end token"), (2, "not rendered")]


def test_a_run_that_goes_on_checks_nothing_again_unless_something_changed(
    tmp_path: Path, processor: ProcessorMixin
) -> None:
    records = files(tmp_path, *GOOD, BAD["text"][0])
    checked: list[int] = []

    def check(maker: RowMaker, records: RecordFiles = records) -> tuple[Gate, int]:
        checked.clear()
        gate = check_records(
            records, maker, tmp_path / "run", progress=lambda done, of: checked.append(done)
        )
        return gate, len(checked)

    first, count = check(RowMaker(processor, longest=LONGEST))
    assert count == 4
    again, count = check(RowMaker(copy(processor), longest=LONGEST))
    assert count == 0
    assert (figures(again), again.figures()) == (figures(first), first.figures())
    assert again.summary() == first.summary()

    template = str(processor.chat_template).replace("# Tools", "# Skills")
    for maker in (
        RowMaker(processor, longest=LONGEST + 1),
        RowMaker(processor, longest=LONGEST, learn=Learn(stops=False)),
        RowMaker(with_template(processor, template), longest=LONGEST),
    ):
        assert check(maker)[1] == 4
    changed = RecordFiles([written(tmp_path, *GOOD)])
    assert check(maker, changed)[1] == 3
    (tmp_path / "run" / "gate.npy").write_bytes(b"\x93NUMPY\x01\x00cut short")
    assert check(maker, changed)[1] == 3
    assert check(maker, changed)[1] == 0
    assert refused(tmp_path / "run") == []


def test_an_image_that_was_replaced_is_looked_at_again(
    tmp_path: Path, processor: ProcessorMixin
) -> None:
    records, maker = files(tmp_path, *GOOD), RowMaker(processor, longest=LONGEST)
    (image,) = check_records(records, maker, tmp_path / "run").lengths[2:]
    (tmp_path / "more" / "cat.png").write_bytes(png("red", 120, 80))
    larger = check_records(records, maker, tmp_path / "run")
    assert larger.lengths[2] > image
    (tmp_path / "more" / "cat.png").unlink()
    assert check_records(records, maker, tmp_path / "run").refused == {LOST: 1}


def test_a_gate_leaves_the_random_numbers_of_a_run_alone(
    tmp_path: Path, processor: ProcessorMixin
) -> None:
    records, maker = files(tmp_path, *GOOD), RowMaker(processor, longest=LONGEST)
    before = torch.get_rng_state()
    check_records(records, maker, tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
