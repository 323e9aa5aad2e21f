"""Rows: exact masks whatever stands in a record, cut where a reply ends, with their images."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.finetuning.rows import Learn, Row, RowMaker, Unusable, UnusableRow
from llava_plus.model.loading import load_processor
from llava_plus.model.record import Record
from llava_plus.skills import SkillResult, SkillUse
from PIL import Image
from transformers import ProcessorMixin

from ..serving import png
from .conversations import SPEC, image
from .tiny_models import FAMILIES, load_model

WORDS = {
    "llava": [
        '<tool_call>{"name": "detect", "parameters": {"labels": ["dog"]}}</tool_call></s>',
        "There are two dogs.</s>",
        "A red car.</s>",
    ],
    "qwen_vl": [
        '<tool_call>\n{"name": "detect", "arguments": {"labels": ["dog"]}}\n</tool_call><|im_end|>',
        "There are two dogs.<|im_end|>",
        "A red car.<|im_end|>",
    ],
}
"""What the tiny models learn to write of `told`."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for models and pictures, the latter of different shapes."""
    folder = tmp_path_factory.mktemp("rows")
    for name, make in FAMILIES.items():
        make(folder / name)
    (folder / "a.png").write_bytes(png("red", 60, 40))
    (folder / "b.png").write_bytes(png("blue", 30, 90))
    return folder


@pytest.fixture(scope="module")
def processors(folder: Path) -> Mapping[str, ProcessorMixin]:
    return {name: load_processor(str(folder / name)) for name in FAMILIES}


def told(result: str = "Found 2 dogs.", request: str = "What is there?") -> Record:
    """A call with its result and an answer, then a second image and an answer."""
    use = SkillUse(id="call_1", name="detect", arguments={"labels": ["dog"]})
    chat = Conversation(skills=(SPEC,)).ask(request, [image(1)])
    chat = chat.reply(AssistantMessage(skill_uses=(use,)))
    chat = chat.add_result(SkillResult(id="call_1", name="detect", text=result))
    chat = chat.reply(AssistantMessage(text="There are two dogs."))
    chat = chat.ask("And here?", [image(2)]).reply(AssistantMessage(text="A red car."))
    return Record.of(chat, {"img_1": "a.png", "img_2": "b.png"}, id="told")


def learned_texts(processor: ProcessorMixin, row: Row) -> list[str]:
    """The stretches that are learned."""
    runs = groupby(zip(row.learned, row.ids, strict=True), lambda token: token[0])
    tokens = [[i for _, i in run] for learned, run in runs if learned]
    return [processor.tokenizer.decode(ids, skip_special_tokens=False) for ids in tokens]


@pytest.mark.parametrize("family", WORDS)
def test_a_row_ends_with_the_last_reply_that_fits(
    family: str, folder: Path, processors: Mapping[str, ProcessorMixin]
) -> None:
    processor = processors[family]
    whole = RowMaker(processor, longest=4000).row(told(), folder)
    assert learned_texts(processor, whole) == WORDS[family]
    end = processor.tokenizer.eos_token_id
    tokens = enumerate(zip(whole.ids, whole.learned, strict=True), 1)
    stops = [place for place, token in tokens if token == (end, True)]
    assert len(stops) == 3
    for longest in sorted({stop + more for stop in stops for more in (-1, 0, 1)}):
        maker = RowMaker(processor, longest=longest)
        if longest < stops[0]:
            with pytest.raises(UnusableRow) as caught:
                maker.row(told(), folder)
            assert caught.value.reason == Unusable.CALL_CUT_OFF
            continue
        row = maker.row(told(), folder)
        length = max(stop for stop in stops if stop <= longest)
        assert row.ids == whole.ids[:length]
        assert row.learned == whole.learned[:length]
        assert row.images == [place for place in whole.images if place.stop <= length]
        assert len(row.token_types or row.ids) == length
        assert maker.measure(told(), folder) == (length, sum(row.learned), length < stops[-1])


def test_a_request_without_a_reply_is_left_out(
    folder: Path, processors: Mapping[str, ProcessorMixin]
) -> None:
    maker = makers(processors["qwen_vl"])
    record = told()
    cut = maker.row(record.model_copy(update={"messages": record.messages[:-1]}), folder)
    whole = maker.row(record, folder)
    assert cut.ids == whole.ids[: len(cut)]
    assert cut.ids[-1] == processors["qwen_vl"].tokenizer.eos_token_id
    assert cut.images == whole.images[:1]
    first = int(whole.features["image_grid_thw"][0].prod())
    assert torch.equal(cut.features["pixel_values"], whole.features["pixel_values"][:first])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_sees_the_images_that_the_processor_would_show_it(
    family: str, folder: Path, processors: Mapping[str, ProcessorMixin]
) -> None:
    """Two images of different shapes: by Idefics3 of three tiles and of five."""
    processor, model = processors[family], load_model(folder / family)
    row = RowMaker(processor, longest=4000).row(told(), folder)
    pictures = [Image.open(folder / name) for name in ("a.png", "b.png")]
    at_once = processor.image_processor([pictures], return_tensors="pt")
    types = (
        {} if row.token_types is None else {"mm_token_type_ids": torch.tensor([row.token_types])}
    )
    ids = torch.tensor([row.ids])
    with torch.inference_mode():
        seen = model(input_ids=ids, **row.features, **types).logits
        wanted = model(input_ids=ids, **at_once, **types).logits
        blind = model(
            input_ids=ids, **{**at_once, "pixel_values": at_once["pixel_values"] + 1}, **types
        ).logits
    assert torch.allclose(seen, wanted, atol=1e-5)
    assert not torch.allclose(seen, blind, atol=1e-3)
    if row.token_types is not None:
        marked = [n for n, kind in enumerate(row.token_types) if kind]
        assert marked == [
            n
            for place in row.images
            for n in range(place.start, place.stop)
            if row.ids[n] == processor.image_token_id
        ]


pieces = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(
        '</s> <s> <image> <|im_start|> <|im_end|> <|image_pad|> <tool_call> </tool_call> {"name":'
        " ASSISTANT: USER: <|im_start|>assistant\n </tool_response>".split(" ")
    ),
)


@given(said=st.lists(pieces, min_size=1, max_size=5).map("".join).filter(str.strip))
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
def test_what_others_say_never_moves_the_mask(
    said: str, folder: Path, processors: Mapping[str, ProcessorMixin]
) -> None:
    """However it spells control tokens, roles and calls."""
    for family, words in WORDS.items():
        maker = makers(processors[family])
        for record in (told(result=said), told(request=said)):
            row = maker.row(record, folder)
            assert learned_texts(processors[family], row) == words
            assert len(row.images) == 2


@cache
def makers(processor: ProcessorMixin) -> RowMaker:
    return RowMaker(processor, longest=4000)


@pytest.mark.parametrize(
    ("learn", "texts"),
    [
        (Learn(calls=False), ["</s>", "There are two dogs.</s>", "A red car.</s>"]),
        (Learn(answers=False, stops=False), [WORDS["llava"][0].removesuffix("</s>")]),
        (Learn(stops=False, calls=False), ["There are two dogs.", "A red car."]),
    ],
)
def test_a_part_that_is_switched_off_is_not_learned(
    learn: Learn, texts: list[str], folder: Path, processors: Mapping[str, ProcessorMixin]
) -> None:
    maker = RowMaker(processors["llava"], longest=4000, learn=learn)
    row = maker.row(told(), folder)
    assert learned_texts(processors["llava"], row) == texts
    assert row.ids == makers(processors["llava"]).row(told(), folder).ids


def test_nothing_is_learned_where_only_stops_would_be(
    folder: Path, processors: Mapping[str, ProcessorMixin]
) -> None:
    maker = RowMaker(processors["llava"], longest=4000, learn=Learn(calls=False, answers=False))
    with pytest.raises(UnusableRow, match="the recipe learns") as caught:
        maker.row(told(), folder)
    assert caught.value.reason == Unusable.NOTHING_LEARNED


def test_another_process_makes_the_same_rows(
    folder: Path, processors: Mapping[str, ProcessorMixin]
) -> None:
    maker = makers(processors["llava"])
    other: RowMaker = pickle.loads(pickle.dumps(maker))
    assert other.fingerprint == maker.fingerprint
    row, again = maker.row(told(), folder), other.row(told(), folder)
    assert (again.ids, again.learned) == (row.ids, row.learned)
