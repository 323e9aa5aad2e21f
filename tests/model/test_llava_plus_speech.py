"""A converted LLaVA-Plus is served as it was trained: its turns, its APIs and their answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.conversion.to_transformers import Options, convert_to_transformers
from llava_plus.model.grammar import ReplyGrammar
from llava_plus.model.llava_plus.calls import known_spec
from llava_plus.model.llava_plus.turns import EMOJI_KEYS
from llava_plus.model.lmm import Replied, SkillUseDelta, TextDelta
from llava_plus.model.loading import load_model, load_processor
from llava_plus.model.local import LocalLMM
from llava_plus.model.rendering import ChatRenderer
from llava_plus.skills import ImageStore, SkillResult, SkillSpec, SkillUse
from llava_plus.skills.errors import BadReply
from llava_plus.skills.geometry import Corners

from ..serving import png
from .conversations import image, pieces, values
from .llava_checkpoints import Original, llama, projector, save_clip, tokenizer

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
CLOSING = "Please summarize the model outputs and answer my first question: "
DETECT = known_spec("detect")
OWN = SkillSpec(
    name="weigh",
    description="Say how heavy a thing is.",
    parameters={
        "type": "object",
        "properties": {"image": {"type": "string", "pattern": "^img_[0-9]{1,4}$"}},
        "required": ["image"],
    },
)
FOUND = {"objects": [{"label": "dog", "score": 0.8765, "box": [0.1, 0.25, 0.5, 0.756]}]}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A LLaVA-Plus with random weights, converted; the style by which it chats is asked for."""
    folder = tmp_path_factory.mktemp("plus")
    tower = save_clip(folder / "clip", 28, whole=True)
    words = tokenizer()
    truth = Original(
        llama(len(words)), tower, projector(matrices=1), {"mm_use_im_patch_token": False}, words
    )
    source = truth.save(folder / "llava", truth.state)

    def converted(style: str) -> Path:
        out = folder / style
        if not out.exists():
            chosen = Options(vision_tower=str(folder / "clip"), chat=style)
            convert_to_transformers(source, out, chosen)
        return out

    return converted


@pytest.fixture(scope="module")
def renderer(checkpoint: Callable[[str], Path]) -> ChatRenderer:
    return ChatRenderer(load_processor(str(checkpoint("plus-v1"))))


def text_of(renderer: ChatRenderer, conversation: Conversation) -> str:
    """What is trained, an image as a single `@`."""
    at = renderer.tokenizer.encode("@", add_special_tokens=False)
    ids = renderer.training(conversation, lambda handle: at[-1:]).ids
    # Behind an image it begins anew, which LLaVA does too, and decoding shows as a blank.
    return str(renderer.tokenizer.decode(ids)).removeprefix("<s> ").replace("@ ", "@")


def detecting(*skills: SkillSpec) -> Conversation:
    """A request, a call with thoughts, its result, and an answer."""
    use = SkillUse(id="c", name="detect", arguments={"labels": ["dog"], "image": "img_1"})
    chat = Conversation(skills=skills).ask("Where is the dog?", [image()])
    chat = chat.reply(AssistantMessage(thoughts="Boxes.", text="Wait.", skill_uses=(use,)))
    result = SkillResult(id="c", name="detect", text="Found 1 dog.", data=FOUND)
    return chat.add_result(result).reply(AssistantMessage(thoughts="So.", text="On the left."))


def test_a_conversation_is_written_as_its_trainer_writes_it(renderer: ChatRenderer) -> None:
    """By the code of LLaVA-Plus: `reorganize_source_for_tool_use`, and its web page's results."""
    chat = detecting(DETECT).ask("Sure?").reply(AssistantMessage(text="Yes."))
    answer = "{'boxes': [[0.1, 0.25, 0.5, 0.76]], 'logits': [0.88], 'phrases': ['dog']}"
    assert text_of(renderer, chat) == (
        f"{SYSTEM} USER: @\nWhere is the dog? ASSISTANT: "
        '"thoughts🤔" Boxes.\n'
        '"actions🚀" [{"API_name": "grounding_dino", "API_params": {"caption": "dog ."}}]\n'
        '"value👉" Wait.\n</s>'
        f"USER: grounding_dino model outputs: {answer}\n\n{CLOSING}Where is the dog? ASSISTANT: "
        '"thoughts🤔" So.\n"actions🚀" []\n"value👉" On the left.\n</s>'
        'USER: Sure? ASSISTANT: "value👉" Yes.\n</s>'
    )


def test_a_skill_that_it_never_learned_is_described_and_keeps_its_name(
    renderer: ChatRenderer,
) -> None:
    use = SkillUse(id="c", name="weigh", arguments={"image": "img_1"})
    chat = Conversation(skills=(DETECT, OWN)).ask("How heavy?", [image()])
    chat = chat.reply(AssistantMessage(skill_uses=(use,)))
    chat = chat.add_result(SkillResult(id="c", name="weigh", text="2 kg."))
    text = text_of(renderer, chat)
    assert '"name": "weigh"' in text
    assert '"name": "detect"' not in text
    assert "@\nimg_1\nHow heavy?" in text, "its image is named, since it can be asked for"
    assert '[{"API_name": "weigh", "API_params": {"image": "img_1"}}]' in text
    assert "weigh model outputs: 2 kg.\n\n" in text


def test_what_a_person_marked_stands_where_its_page_writes_it(renderer: ChatRenderer) -> None:
    chat = Conversation().ask("Cut it out.", [image()]).mark(boxes=[Corners(0, 0.25, 0.5, 1)])
    chat = chat.reply(AssistantMessage(text="Done."))
    assert "Cut it out.\nInput box: [0.0, 0.25, 0.5, 1.0] ASSISTANT:" in text_of(renderer, chat)


said = st.lists(st.one_of(pieces, st.sampled_from([*EMOJI_KEYS, '"', "\n"])), max_size=4)
texts = said.map(lambda parts: "".join(parts).strip())
keys = st.sampled_from(["labels", "image", "caption", "threshold", "x", *EMOJI_KEYS])
uses = st.builds(
    SkillUse,
    id=st.just("c"),
    name=st.sampled_from(["detect", "segment", "restyle", "weigh", "odd_name-2"]),
    arguments=st.dictionaries(keys, st.one_of(values, texts), max_size=3)
    | st.fixed_dictionaries({"labels": st.lists(texts, min_size=1), "image": st.just("img_2")}),
)


@given(thoughts=texts, text=texts, calls=st.lists(uses, max_size=2).map(tuple))
@settings(max_examples=60, deadline=None)
def test_replies_survive_render_and_parse(
    renderer: ChatRenderer, thoughts: str, text: str, calls: tuple[SkillUse, ...]
) -> None:
    """Whatever they say, the marks of its turns included."""
    message = AssistantMessage(thoughts=thoughts, text=text, skill_uses=calls)
    asked = Conversation().ask("x", [image()])
    rendered = renderer.training(asked.reply(message), lambda handle: [5])
    learned = [
        i for i, is_learned in zip(rendered.ids, rendered.learned, strict=True) if is_learned
    ]
    assert learned[-1] == renderer.tokenizer.eos_token_id
    reply = renderer.tokenizer.decode(learned[:-1], skip_special_tokens=False)
    assert renderer.parse(reply, lambda: "c", asked) == message


READ = {
    "as JSON": '[{"API_name": "grounding_dino", "API_params": {"caption": "dog . cat ."}}]',
    "as Python": "[{'API_name': 'grounding_dino', 'API_params': {'caption': 'dog . cat'}}]",
    "image": '[{"API_name": "grounding_dino", "API_params": {"image": "<imagepath>", '
    '"caption": "dog . cat"}}]',
}


@pytest.mark.parametrize("form", READ)
def test_calls_of_its_apis_are_calls_of_our_skills(renderer: ChatRenderer, form: str) -> None:
    asked = Conversation(skills=(DETECT,)).ask("Where?", [image()])
    reply = f' "thoughts🤔" I look.\n"actions🚀" {READ[form]}\n"value👉" Wait.\n'
    message = renderer.parse(reply, lambda: "c", asked)
    wanted = SkillUse(id="c", name="detect", arguments={"labels": ["dog", "cat"], "image": "img_1"})
    assert message == AssistantMessage(thoughts="I look.", text="Wait.", skill_uses=(wanted,))


def test_what_its_page_would_add_to_a_call_is_added(renderer: ChatRenderer) -> None:
    """The newest mask to repaint, as that of a segmentation."""
    asked = Conversation().ask("A bowl, please.", [image()])
    masked = detecting().messages[2].model_copy(update={"masks": ("mask_7",)})
    chat = asked.model_copy(update={"messages": (*asked.messages, masked)})
    action = '{"API_name": "inpainting", "API_params": {"prompt": "a bowl"}}'
    reply = f'"thoughts🤔" x "actions🚀" [{action}]'
    (use,) = renderer.parse(reply, lambda: "c", chat).skill_uses
    assert (use.name, use.arguments["mask"]) == ("inpaint", "mask_7")


def test_a_call_that_is_none_of_an_api_is_left_to_the_check_of_its_skill(
    renderer: ChatRenderer,
) -> None:
    reply = '"actions🚀" [{"API_name": "grounding_dino", "API_params": {"x": 1}}] "value👉" y'
    (use,) = renderer.parse(reply, lambda: "c", Conversation().ask("x", [image()])).skill_uses
    assert (use.name, use.arguments) == ("detect", {"x": 1})


def test_captions_are_its_values_alone(
    renderer: ChatRenderer, checkpoint: Callable[[str], Path]
) -> None:
    """Asked without skills it writes the same turns."""
    processor = load_processor(str(checkpoint("plus-v1")))
    plain = ChatRenderer(processor, calls=False)
    assert plain.parse(' "value👉" A cat.\n', lambda: "c").text == "A cat."
    assert renderer.parse("A cat.", lambda: "c").text == "A cat.", "one that forgot its turns"


@pytest.mark.parametrize("actions", ["[{", "{}]", "5", '["x"]'])
def test_actions_that_cannot_be_read_are_a_bad_reply(renderer: ChatRenderer, actions: str) -> None:
    with pytest.raises(BadReply, match="cannot be read"):
        renderer.parse(f'"thoughts🤔" x\n"actions🚀" {actions}\n"value👉" y', lambda: "c")


ALLOWED = [
    ' "value👉" There.\n',
    ' "thoughts🤔" \n"actions🚀" []\n"value👉" There.\n',
    ' "thoughts🤔" A dog.\n"actions🚀" [{"API_name": "grounding_dino", "API_params": '
    '{"caption": "dog"}}]\n"value👉" Wait.\n',
    ' "thoughts🤔" x\n"actions🚀" [{"API_name": "grounding_dino", "API_params": {"caption": "a", '
    '"box_threshold": 0.5, "image": "img_1"}}]\n"value👉" \n',
]
REFUSED = [
    "There.",
    ' "thoughts🤔" x\n"value👉" y',
    ' "value👉" x\n"actions🚀" []',
    ' "thoughts🤔" x\n"actions🚀" [{"API_name": "sam"',
    ' "thoughts🤔" x\n"actions🚀" [{"API_name": "grounding_dino", "API_params": {}',
    ' "thoughts🤔" x\n"actions🚀" [{"API_name": "grounding_dino", "API_params": {"caption": "a", '
    '"image": "img_2"',
]


@pytest.mark.parametrize(
    ("reply", "is_allowed"), [*((r, True) for r in ALLOWED), *((r, False) for r in REFUSED)]
)
def test_the_grammar_allows_its_turns_with_calls_of_apis_on_offer(
    renderer: ChatRenderer, reply: str, is_allowed: bool
) -> None:
    tokens = renderer.tokenizer
    grammar = ReplyGrammar(tokens, renderer.format, len(tokens))
    asked = Conversation(skills=(DETECT,)).ask("Where?", [image()])
    ids = tokens.encode(reply, add_special_tokens=False)
    matcher = grammar.matcher(asked, calls_allowed=True)
    assert (matcher.try_consume_tokens(ids) == len(ids)) == is_allowed
    assert not is_allowed or matcher.is_accepting()
    without = grammar.matcher(asked, calls_allowed=False)
    calls = "API_name" in reply
    assert (without.try_consume_tokens(ids) == len(ids)) == (is_allowed and not calls)


def taught(folder: Path, chat: Conversation, store: ImageStore) -> LocalLMM:
    """The checkpoint, having learned one conversation by heart."""
    model, processor = load_model(str(folder), device="cpu", dtype="float32")
    lmm = LocalLMM(model, processor, max_tokens=300)
    images = {h: lmm._images.encode(ref, store) for h, ref in chat.images.items()}
    rendered = lmm.renderer.training(chat, lambda handle: images[handle].ids)
    labels = [i if known else -100 for i, known in zip(rendered.ids, rendered.learned, strict=True)]
    batch: dict[str, Any] = {
        "input_ids": torch.tensor([rendered.ids]),
        "labels": torch.tensor([labels]),
        **{name: value for i in images.values() for name, value in i.features.items()},
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    return lmm


@pytest.mark.parametrize("style", ["plus-v0", "plus-v1"])
async def test_a_converted_checkpoint_calls_skills_and_answers(
    checkpoint: Callable[[str], Path], style: str
) -> None:
    """It is asked, calls, is told the result and answers; only values are shown to the person."""
    store = ImageStore()
    chat = detecting(DETECT).model_copy(update={"images": {"img_1": store.add(png("red"))}})
    lmm = taught(checkpoint(style), chat, store)
    asked = chat.model_copy(update={"messages": chat.messages[:1]})
    told = chat.model_copy(update={"messages": chat.messages[:3]})
    for conversation, wanted in ((asked, chat.messages[1]), (told, chat.messages[3])):
        events = [event async for event in lmm.reply(conversation, store)]
        assert isinstance(events[-1], Replied)
        given = events[-1].message
        ids = [use.id for use in given.skill_uses]
        uses = tuple(use.model_copy(update={"id": "c"}) for use in given.skill_uses)
        assert given.model_copy(update={"skill_uses": uses}) == wanted
        assert "".join(e.text for e in events if isinstance(e, TextDelta)) == given.text
        assert [e.use.id for e in events if isinstance(e, SkillUseDelta)] == ids
    await lmm.aclose()
