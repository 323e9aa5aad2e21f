"""The local LMM: three families, the kept cache, the grammar, streaming and stopping."""

from __future__ import annotations

import asyncio
import io
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.grammar import ReplyGrammar
from llava_plus.model.lmm import Event, Replied, SkillUseDelta, TextDelta
from llava_plus.model.local import LocalLMM
from llava_plus.model.rendering import ChatRenderer
from llava_plus.skills import ImageRef, ImageStore, SkillResult, SkillSpec, SkillUse
from llava_plus.skills.errors import BadConfiguration
from PIL import Image

from .tiny_models import FAMILIES, load_model, load_processor

IMAGE: dict[str, Any] = {"type": "string", "pattern": "^img_[0-9]{1,4}$"}
MASK: dict[str, Any] = {"type": "string", "pattern": "^mask_[0-9]{1,4}$"}


def spec(name: str, **properties: Any) -> SkillSpec:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return SkillSpec(name=name, description="Does it.", parameters=parameters)


DETECT = spec("detect", labels={"type": "array", "items": {"type": "string"}}, image=IMAGE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in FAMILIES.items()}


def load(folder: Path, **options: Any) -> LocalLMM:
    return LocalLMM(load_model(folder), load_processor(str(folder)), max_tokens=24, **options)


def picture(store: ImageStore, colour: str, size: tuple[int, int] = (90, 60)) -> ImageRef:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "PNG")
    return store.add(data.getvalue())


async def reply(lmm: LocalLMM, conversation: Conversation, store: ImageStore) -> Replied:
    *pieces, last = [event async for event in lmm.reply(conversation, store)]
    assert isinstance(last, Replied)
    text = "".join(piece.text for piece in pieces if isinstance(piece, TextDelta))
    assert text == last.message.text
    uses = tuple(piece.use for piece in pieces if isinstance(piece, SkillUseDelta))
    assert uses == last.message.skill_uses
    return last


def two_turns(store: ImageStore) -> list[Conversation]:
    """A conversation as it is before each of its replies; the last one has a second image."""
    asked = Conversation(skills=(DETECT,)).ask("find the dog", [picture(store, "red")])
    call = SkillUse(id="c1", name="detect", arguments={"labels": ["dog"], "image": "img_1"})
    found = SkillResult(id="c1", name="detect", text="Found 1 dog.\ndog [0.1, 0.2, 0.3, 0.4]")
    second = asked.reply(AssistantMessage(skill_uses=(call,))).add_result(found)
    answered = second.reply(AssistantMessage(text="There is one."))
    return [asked, second, answered.ask("and here?", [picture(store, "green", (70, 100))])]


@pytest.mark.parametrize("family", FAMILIES)
async def test_kept_keys_and_values_change_nothing_but_the_work(
    folders: dict[str, Path], family: str
) -> None:
    store = ImageStore()
    kept, fresh = load(folders[family]), load(folders[family], keep_cache=False)
    cached = []
    for conversation in two_turns(store):
        with_cache = await reply(kept, conversation, store)
        without = await reply(fresh, conversation, store)
        assert with_cache.message.text == without.message.text
        assert without.usage.cached_tokens == 0
        assert with_cache.usage.prompt_tokens == without.usage.prompt_tokens
        cached.append(with_cache.usage.cached_tokens)
    # All that stood there before, but for the tokens around a changed end.
    assert cached[0] == 0
    assert cached[1] > 200
    assert cached[2] > cached[1]


@pytest.mark.parametrize("family", FAMILIES)
async def test_an_image_is_encoded_once(folders: dict[str, Path], family: str) -> None:
    store = ImageStore()
    lmm = load(folders[family])
    encoded = []
    tower = lmm._model._model.model
    original = tower.get_image_features

    def counting(*args: Any, **kwargs: Any) -> Any:
        encoded.append(1)
        return original(*args, **kwargs)

    tower.get_image_features = counting
    for conversation in two_turns(store):
        await reply(lmm, conversation, store)
    assert len(encoded) == 2


async def test_another_image_is_not_taken_for_the_same(folders: dict[str, Path]) -> None:
    """Placeholders look alike; what is kept must hang on the image's content."""
    store = ImageStore()
    lmm = load(folders["llava"])
    first, second = (
        Conversation().ask("what is it?", [picture(store, colour)]) for colour in ("red", "blue")
    )
    await reply(lmm, first, store)
    known = (await reply(lmm, second, store)).usage.cached_tokens
    before_image = (await reply(lmm, first, store)).usage.cached_tokens
    assert known == before_image < 10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
async def test_random_models_cannot_write_a_call_that_does_not_fit(
    folders: dict[str, Path], family: str, seed: int
) -> None:
    """Even at temperature 2: every call parses, names a skill on offer, and has known handles."""
    store = ImageStore()
    lmm = load(folders[family], temperature=2.0, seed=seed)
    lmm._max_tokens = 400
    short = {"type": "string", "maxLength": 6}
    skills = (
        spec("pick", colour={"type": "string", "enum": ["red", "blue"]}, image=IMAGE),
        spec("count", n={"type": "integer", "minimum": 1, "maximum": 9}, words=short),
        spec("cut", image=IMAGE, mask=MASK),
    )
    conversation = Conversation(skills=skills).ask("go", [picture(store, "red")])
    schemas = {one.name: one.parameters for one in skills}
    force_calls(lmm)
    last = await reply(lmm, conversation, store)
    assert last.message.skill_uses
    for use in last.message.skill_uses:
        jsonschema.validate(use.arguments, {**schemas[use.name], "additionalProperties": False})
        assert use.name != "cut", "there is no mask, so it cannot be called"
        assert use.arguments.get("image", "img_1") == "img_1"


def force_calls(lmm: LocalLMM) -> None:
    """Take the way out into words away, so that a model of noise has to call."""
    grammar = lmm._grammar
    assert grammar is not None
    original = grammar._lark
    grammar._lark = lambda conversation: original(conversation).replace(  # type: ignore[method-assign]
        "start: TEXT | calls | TEXT calls", "start: calls"
    )


async def test_no_calls_when_none_are_allowed(folders: dict[str, Path]) -> None:
    store = ImageStore()
    lmm = load(folders["llava"], temperature=2.0)
    conversation = Conversation(skills=(DETECT,)).ask("find it", [picture(store, "red")])
    async for event in lmm.reply(conversation, store, calls_allowed=False):
        assert not isinstance(event, SkillUseDelta)


async def test_closing_the_stream_stops_the_decoding(folders: dict[str, Path]) -> None:
    store = ImageStore()
    lmm = load(folders["llava"])
    lmm._max_tokens = 100_000
    stream = lmm.reply(Conversation().ask("talk"), store)
    async for event in stream:
        assert isinstance(event, TextDelta)
        break
    started = time.monotonic()
    await stream.aclose()  # type: ignore[attr-defined]
    assert time.monotonic() - started < 5
    lmm._max_tokens = 3
    assert await reply(lmm, Conversation().ask("again"), store)


async def test_replies_asked_for_at_once_do_not_mix(folders: dict[str, Path]) -> None:
    store = ImageStore()
    lmm = load(folders["qwen_vl"])
    conversations = [Conversation().ask(text) for text in ("one dog", "red car", "two dogs")]
    alone = [(await reply(lmm, one, store)).message for one in conversations]
    at_once = await asyncio.gather(*(reply(lmm, one, store) for one in conversations))
    assert [one.message for one in at_once] == alone


async def test_a_schema_that_has_no_grammar_is_named(folders: dict[str, Path]) -> None:
    lmm = load(folders["llava"])
    odd = spec("odd", x={"type": "string", "pattern": "(?<=a)b"})
    with pytest.raises(BadConfiguration, match="odd"):
        await reply(lmm, Conversation(skills=(DETECT, odd)).ask("x"), ImageStore())


async def test_a_token_that_words_begin_with_too_is_not_held_back(
    folders: dict[str, Path],
) -> None:
    """`[TOOL_CALLS][` is no token there: holding its first one back would forbid a bracket."""
    lmm = load(folders["third"])
    bracket = lmm.renderer.tokenizer.convert_tokens_to_ids("[")
    logits = torch.zeros(len(lmm.renderer.tokenizer))
    logits[bracket] = 1.0
    assert lmm.renderer.call_token is None
    assert lmm._choose(logits, None, first=True) == bracket


def test_a_token_that_only_calls_begin_with_is_known(renderer: ChatRenderer) -> None:
    assert renderer.call_token == renderer.tokenizer.convert_tokens_to_ids("<|call|>")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=tmp_path.name):
        LocalLMM.load(tmp_path)
    with pytest.raises(BadConfiguration, match="there is no folder"):
        LocalLMM.load(tmp_path / "missing")


plain_schemas = st.one_of(
    st.just({"type": "string"}),
    st.integers(0, 9).map(lambda most: {"type": "string", "minLength": 1, "maxLength": 1 + most}),
    st.just({"type": "boolean"}),
    st.just({"type": "integer", "minimum": 0, "maximum": 99}),
    st.just({"type": "number", "minimum": 0, "maximum": 1}),
    st.permutations(["red", "a b", '"', "<|end|>", "ß"]).map(
        lambda values: {"type": "string", "enum": values[:3]}
    ),
    st.just(IMAGE),
    st.just({"type": ["string", "null"]}),
    st.just({}),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        inner.map(lambda item: {"type": "array", "items": item, "maxItems": 3}),
        st.lists(inner, min_size=2, max_size=2).map(lambda options: {"anyOf": options}),
        st.dictionaries(st.sampled_from(["a", "title", "anyOf"]), inner, max_size=2).map(
            lambda parts: {"type": "object", "properties": parts, "required": sorted(parts)[:1]}
        ),
    )


schemas = st.recursive(plain_schemas, nested, max_leaves=5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), schemas, max_size=3), max_size=3))
def test_every_kind_of_schema_has_a_grammar(
    renderer: ChatRenderer, properties: list[dict[str, Any]]
) -> None:
    tokenizer = renderer.tokenizer
    grammar = ReplyGrammar(tokenizer, renderer.format, len(tokenizer))
    skills = tuple(spec(f"skill_{index}", **part) for index, part in enumerate(properties))
    conversation = Conversation(skills=skills).ask_about("x", ["img_1"])
    matcher = grammar.matcher(conversation, calls_allowed=True)
    assert not matcher.is_error()
    assert matcher.compute_bitmask()


def test_forced_tokens_are_the_canonical_ones(renderer: ChatRenderer) -> None:
    """What the grammar forces is spelled with the tokens that training learns."""
    tokenizer = renderer.tokenizer
    grammar = ReplyGrammar(tokenizer, renderer.format, len(tokenizer))
    conversation = Conversation(skills=(DETECT,)).ask_about("x", ["img_1"])
    use = SkillUse(id="c", name="detect", arguments={"labels": ["dog"], "image": "img_1"})
    done = conversation.reply(AssistantMessage(skill_uses=(use,)))
    rendered = renderer.training(done, lambda handle: [])
    learned = [token for token, flag in zip(rendered.ids, rendered.learned, strict=True) if flag]
    matcher = grammar.matcher(conversation, calls_allowed=True)
    for index, token in enumerate(learned[:-1]):
        forced = matcher.compute_ff_tokens()
        assert forced == learned[index : index + len(forced)]
        assert matcher.consume_token(token), matcher.get_error()
    assert matcher.is_accepting()


def test_events_are_an_union() -> None:
    assert set(Event.__args__) == {TextDelta, SkillUseDelta, Replied}


def test_inference_leaves_no_gradient(folders: dict[str, Path]) -> None:
    lmm = load(folders["llava"])
    asyncio.run(reply(lmm, Conversation().ask("x"), ImageStore()))
    assert all(parameter.grad is None for parameter in lmm._model._model.parameters())
    assert torch.is_grad_enabled()
