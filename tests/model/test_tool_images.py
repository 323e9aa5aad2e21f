"""Images that skills made: shown with their results, alike in serving and in training."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from llava_plus.model.chat_template import telling_tool_images, told_tool_images
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.conversion.chat import STYLES, chat_template
from llava_plus.model.finetuning.recipe import FineTune
from llava_plus.model.finetuning.rows import RowMaker, Unusable, UnusableRow
from llava_plus.model.finetuning.run import fine_tune
from llava_plus.model.lmm import Replied
from llava_plus.model.loading import load_processor
from llava_plus.model.local import LocalLMM, shortlist_of
from llava_plus.model.record import Record
from llava_plus.model.reinforcement.rollouts import SamplingLMM
from llava_plus.model.rendering import ChatRenderer
from llava_plus.model.shipped import embedded_folder
from llava_plus.skills import Artifact, ImageStore, SkillResult, SkillUse
from llava_plus.skills.errors import BadConfiguration
from PIL import Image
from transformers import ProcessorMixin

from ..serving import png
from .conversations import SPEC, conversations
from .tiny_models import load_model, qwen_vl

SIZES = {"img_1": (60, 40), "img_2": (90, 60), "img_3": (30, 90), "img_4": (112, 56)}
"""Of shapes that take different numbers of tokens; skills made the second and the third."""
FILES = {handle: f"{handle}.png" for handle in SIZES}
SHOWN = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5-VL, and pictures."""
    folder = qwen_vl(tmp_path_factory.mktemp("qwen"))
    for handle, (width, height) in SIZES.items():
        colour = f"rgb({20 * width % 256}, {height}, 99)"
        (folder / FILES[handle]).write_bytes(png(colour, width, height))
    return folder


@pytest.fixture(scope="module")
def processor(folder: Path) -> ProcessorMixin:
    return load_processor(str(folder))


@pytest.fixture(scope="module")
def renderer(processor: ProcessorMixin) -> ChatRenderer:
    return ChatRenderer(processor)


def steps(folder: Path, store: ImageStore) -> list[Conversation]:
    """A conversation as it is before each of its replies, and finished."""
    refs = [store.add((folder / file).read_bytes()) for file in FILES.values()]
    asked = Conversation(skills=(SPEC,)).ask("Cut out the dogs.", refs[:1])
    use = SkillUse(id="call_1", name="detect", arguments={"labels": ["dog"], "image": "img_1"})
    made = (Artifact(label="one", image=refs[1]), Artifact(label="other", image=refs[2]))
    found = SkillResult(id="call_1", name="detect", text="Found 2 dogs.", artifacts=made)
    second = asked.reply(AssistantMessage(skill_uses=(use,))).add_result(found)
    again = second.reply(AssistantMessage(text="Here they are.")).ask("And here?", refs[3:])
    return [asked, second, again, again.reply(AssistantMessage(text="A red car."))]


def one_token(renderer: ChatRenderer) -> Sequence[int]:
    return [renderer.tokenizer.convert_tokens_to_ids(renderer.image_token)]


def pixels(folder: Path, processor: ProcessorMixin, *handles: str) -> dict[str, torch.Tensor]:
    """What the processor makes of pictures at once, in this order."""
    pictures = [Image.open(folder / FILES[handle]) for handle in handles]
    return dict(processor.image_processor(pictures, return_tensors="pt"))


def test_an_image_that_a_skill_made_stands_before_its_finding(
    folder: Path, renderer: ChatRenderer
) -> None:
    finished = steps(folder, ImageStore())[-1]
    rendered = renderer.training(finished, lambda handle: one_token(renderer))
    text = renderer.tokenizer.decode(rendered.ids)
    made = "Found 2 dogs.\nMade img_2 (one), img_3 (other)."
    assert f"<tool_response>\n{SHOWN}{SHOWN}{made}\n</tool_response>" in text
    assert text.count(SHOWN) == 4
    assert [place.handle for place in rendered.images] == list(SIZES)


@given(conversation=conversations())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_the_served_prompt_is_a_token_prefix_of_what_is_trained(
    renderer: ChatRenderer, conversation: Conversation
) -> None:
    def tokens(handle: str) -> Sequence[int]:
        return [*one_token(renderer)] * int(handle.removeprefix("img_"))

    whole = renderer.training(conversation, tokens)
    named = [h for m in conversation.messages if m.role != "assistant" for h in m.images]
    assert [place.handle for place in whole.images] == named
    for index, message in enumerate(conversation.messages):
        if message.role == "assistant":
            before = conversation.model_copy(update={"messages": conversation.messages[:index]})
            prompt = renderer.prompt(before, tokens).ids
            assert whole.ids[: len(prompt)] == prompt
            assert whole.learned[len(prompt)]
            assert not whole.learned[len(prompt) - 1]


def test_training_has_the_pixels_in_the_order_of_their_places(
    folder: Path, processor: ProcessorMixin
) -> None:
    record = Record.of(steps(folder, ImageStore())[-1], FILES)
    maker = RowMaker(processor, longest=4000)
    row = maker.row(record, folder)
    wanted = pixels(folder, processor, *SIZES)
    assert torch.equal(row.features["image_grid_thw"], wanted["image_grid_thw"])
    assert torch.equal(row.features["pixel_values"], wanted["pixel_values"])
    merged = wanted["image_grid_thw"].prod(1) // 4
    assert [place.stop - place.start for place in row.images] == merged.tolist()
    assert row.ids.count(processor.image_token_id) == merged.sum()
    assert maker.measure(record, folder) == (len(row), sum(row.learned), False)


def test_a_prompt_is_computed_from_the_images_that_training_has(
    folder: Path, processor: ProcessorMixin
) -> None:
    """Its logits are those of the row as far as it goes, with all images given at once."""
    store = ImageStore()
    model = load_model(folder)
    lmm = LocalLMM(model, processor)
    *asked, finished = steps(folder, store)
    row = RowMaker(processor, longest=4000).row(Record.of(finished, FILES), folder)
    assert row.token_types is not None
    with torch.inference_mode():
        whole = model(
            input_ids=torch.tensor([row.ids]),
            mm_token_type_ids=torch.tensor([row.token_types]),
            **pixels(folder, processor, *SIZES),
        ).logits[0]
    images = {h: lmm._images.encode(ref, store) for h, ref in finished.images.items()}
    for step, shown in zip(asked, (1, 3, 4), strict=True):
        prompt = lmm.renderer.prompt(step, lambda handle: images[handle].ids)
        assert row.ids[: len(prompt.ids)] == prompt.ids
        assert row.images[:shown] == prompt.images
        logits, _ = lmm._model.begin(prompt, images)
        assert torch.allclose(logits, whole[len(prompt.ids) - 1], atol=1e-5)


async def test_an_image_that_a_skill_made_is_encoded_once(
    folder: Path, processor: ProcessorMixin
) -> None:
    store = ImageStore()
    model = load_model(folder)
    kept = LocalLMM(model, processor, max_tokens=8)
    fresh = LocalLMM(load_model(folder), processor, max_tokens=8, keep_cache=False)
    seen = counted(model)
    for step, shown in zip(steps(folder, store)[:3], (1, 3, 4), strict=True):
        replied = await reply(kept, step, store)
        assert len(seen) == shown
        assert (await reply(fresh, step, store)).message.text == replied.message.text


async def test_a_policy_sees_them_too(folder: Path, processor: ProcessorMixin) -> None:
    store = ImageStore()
    policy = SamplingLMM(load_model(folder), processor, max_tokens=4, served=False)
    policy.seed(0)
    asked, _, _, finished = steps(folder, store)
    await reply(policy, asked, store)
    first = len(policy.rollout.prompt)
    replied = asked.reply(AssistantMessage(text="x"))
    await reply(policy, replied.add_result(finished.messages[2].result), store)
    assert [place.handle for place in policy.rollout.places] == ["img_1", "img_2", "img_3"]
    ids = [*policy.rollout.prompt, *policy.rollout.ids]
    for place in policy.rollout.places[1:]:
        assert place.start > first
        assert set(ids[place.start : place.stop]) == {processor.image_token_id}


def counted(model: Any) -> list[None]:
    """One more entry whenever an image is encoded."""
    seen: list[None] = []
    original = model.model.get_image_features

    def counting(*args: Any, **kwargs: Any) -> Any:
        seen.append(None)
        return original(*args, **kwargs)

    model.model.get_image_features = counting
    return seen


async def reply(lmm: LocalLMM | SamplingLMM, asked: Conversation, store: ImageStore) -> Replied:
    *_, last = [event async for event in lmm.reply(asked, store)]
    assert isinstance(last, Replied)
    return last


def test_a_record_whose_made_image_is_lost_is_not_learned_from(
    folder: Path, processor: ProcessorMixin
) -> None:
    """Serving would show the image, so that training without would teach something else."""
    files = {**FILES, "img_3": "lost.png"}
    record = Record.of(steps(folder, ImageStore())[-1], files)
    with pytest.raises(UnusableRow, match=r"img_3: .*lost\.png") as caught:
        RowMaker(processor, longest=4000).row(record, folder)
    assert caught.value.reason == Unusable.IMAGE_LOST
    blind = RowMaker(processor, longest=4000, tool_images=False)
    assert [place.handle for place in blind.row(record, folder).images] == ["img_1", "img_4"]


def test_an_image_that_no_file_is_known_of_is_a_handle_alone(
    folder: Path, processor: ProcessorMixin
) -> None:
    """As in records of others, who kept none."""
    files = {handle: FILES[handle] for handle in ("img_1", "img_2", "img_4")}
    row = RowMaker(processor, longest=4000).row(
        Record.of(steps(folder, ImageStore())[-1], files), folder
    )
    assert [place.handle for place in row.images] == list(files)
    assert "Made img_2 (one), img_3 (other)." in processor.tokenizer.decode(row.ids)


def test_rows_with_and_without_them_are_told_apart(processor: ProcessorMixin) -> None:
    makers = [RowMaker(processor, longest=99, tool_images=on) for on in (None, True, False)]
    plain, shown, blind = (maker.fingerprint for maker in makers)
    assert plain == shown != blind
    remade, arguments = makers[2].__reduce__()
    assert remade(*arguments).fingerprint == blind


TEXTS_ALONE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'tool' %}"
    "{{ 'Result: ' + m.content }}{% elif m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{{ '<|image_pad|>' if p.type == 'image' else p.text }}{% endfor %}"
    "{% endif %}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "v0": chat_template(STYLES["v0"], "<|image_pad|>"),
    "v1": chat_template(STYLES["v1"], "<|image_pad|>"),
    "texts alone": TEXTS_ALONE,
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_where_the_template_has_no_place_for_them_results_are_words(
    template: str, folder: Path, processor: ProcessorMixin
) -> None:
    wordy = copy(processor)
    wordy.chat_template = TEMPLATES[template]
    made_nothing_of_images(ChatRenderer(wordy), folder)
    with pytest.raises(BadConfiguration, match="shows no image in a result"):
        ChatRenderer(wordy, tool_images=True)


@pytest.mark.parametrize("shown", [True, False])
def test_a_recipe_decides_and_its_model_is_served_alike(
    folder: Path, processor: ProcessorMixin, tmp_path: Path, shown: bool
) -> None:
    record = Record.of(steps(folder, ImageStore())[-1], FILES)
    records = folder / f"records-{shown}.jsonl"
    records.write_text(record.to_line(), encoding="utf-8")
    settings = {
        "engine": "transformers", "name": "tiny", "start_from": str(folder), "longest": 4000,
        "records": [records], "learning_rates": {"projector": 1e-3}, "records_per_step": 1,
        "steps": 1, "tokens_per_row": 4000, "precision": "float32", "tool_images": shown,
    }  # fmt: skip
    assert fine_tune(FineTune.model_validate(settings), tmp_path)
    trained = RowMaker(processor, longest=4000, tool_images=shown).row(record, folder)
    assert [place.handle for place in trained.images] == (
        list(SIZES) if shown else ["img_1", "img_4"]
    )
    renderer = LocalLMM.load(tmp_path / "model").renderer
    places = {place.handle: [trained.ids[place.start]] * (place.stop - place.start)
              for place in trained.images}  # fmt: skip
    served = steps(folder, ImageStore())[2]
    prompt = renderer.prompt(served, lambda handle: places[handle]).ids
    assert trained.ids[: len(prompt)] == prompt
    template = load_processor(str(tmp_path / "model")).chat_template
    assert told_tool_images(telling_tool_images(template, not shown)) is not shown


def test_the_embedded_model_reads_results_as_it_has_learned_them(folder: Path) -> None:
    """Its template could show images, which its training never did."""
    processor = load_processor(str(embedded_folder()))
    shortlist = shortlist_of(processor)
    made_nothing_of_images(ChatRenderer(processor, shortlist), folder)
    assert ChatRenderer(processor, shortlist, tool_images=True).tool_images
    processor.chat_template = telling_tool_images(processor.chat_template, True)
    assert ChatRenderer(processor, shortlist).tool_images, "as it was trained on"


def made_nothing_of_images(renderer: ChatRenderer, folder: Path) -> None:
    """Whether images that skills made are at hand or not is all the same."""
    finished = steps(folder, ImageStore())[-1]
    given = {handle: finished.images[handle] for handle in ("img_1", "img_4")}
    rendered = renderer.training(finished, lambda handle: one_token(renderer))
    assert [place.handle for place in rendered.images] == list(given)
    without = finished.model_copy(update={"images": given})
    assert renderer.training(without, lambda handle: one_token(renderer)) == rendered
    assert "Found 2 dogs.\nMade img_2 (one), img_3 (other)." in renderer.tokenizer.decode(
        rendered.ids
    )
