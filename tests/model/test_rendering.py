"""The renderer's promises: one text to serve and to train, an exact mask, no forged control."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llava_plus.model.control import ControlTokens
from llava_plus.model.conversation import AssistantMessage, Conversation
from llava_plus.model.conversion.chat import STYLES, chat_template
from llava_plus.model.rendering import ChatRenderer, Rendered
from llava_plus.model.scratch import TEMPLATE
from llava_plus.skills import SkillUse
from llava_plus.skills.errors import BadReply
from tokenizers import normalizers
from transformers import LlavaProcessor, PreTrainedTokenizerFast

from .conversations import CONTROL, conversations, image, spoken, texts, uses
from .llava_checkpoints import tokenizer as llama_tokenizer
from .tiny_models import byte_tokenizer


def placeholders(renderer: ChatRenderer) -> Sequence[int]:
    return [renderer.tokenizer.convert_tokens_to_ids("<image>")] * 4


def train(renderer: ChatRenderer, conversation: Conversation) -> Rendered:
    return renderer.training(conversation, lambda handle: placeholders(renderer))


def serve(renderer: ChatRenderer, conversation: Conversation) -> Rendered:
    return renderer.prompt(conversation, lambda handle: placeholders(renderer))


def spans(rendered: Rendered) -> list[list[int]]:
    """The learned stretches of tokens."""
    marked = zip(rendered.learned, rendered.ids, strict=True)
    return [[i for _, i in part] for learned, part in groupby(marked, lambda m: m[0]) if learned]


def test_a_first_word_is_learned_without_the_blank_of_its_prompt(
    processor: LlavaProcessor,
) -> None:
    """As templates of Vicuna's kind have it, whose prompt ends with a blank."""
    vicuna = copy(processor)
    vicuna.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}ASSISTANT: {% generation %}"
        "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
        "{{ eos_token }}{% endgeneration %}"
        "{% else %}USER: {% for part in m.content %}{{ part.text }}{% endfor %}\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}"
    )
    renderer = ChatRenderer(vicuna)
    said = Conversation().ask("Where is the dog?").reply(AssistantMessage(text="Found the dog."))
    (learned,) = spans(train(renderer, said))
    end = renderer.tokenizer.eos_token
    assert renderer.tokenizer.decode(learned) == f"Found the dog.{end}"


@given(conversation=conversations())
def test_the_served_prompt_is_a_token_prefix_of_the_training_sequence(
    renderer: ChatRenderer, conversation: Conversation
) -> None:
    whole = train(renderer, conversation)
    for index, message in enumerate(conversation.messages):
        if message.role == "assistant":
            before = conversation.model_copy(update={"messages": conversation.messages[:index]})
            prompt = serve(renderer, before)
            assert whole.ids[: len(prompt.ids)] == prompt.ids
            assert whole.learned[len(prompt.ids)], "what follows the prompt is learned"
            assert not any(prompt.learned)


def sentencepiece(scheme: str, *, legacy: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer as Llama's; `prepend` puts the blank before text as older files tell it."""
    words = llama_tokenizer("<image>", legacy=legacy)
    if scheme == "prepend":
        backend = words.backend_tokenizer
        backend.pre_tokenizer = None
        steps = [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        backend.normalizer = normalizers.Sequence(steps)
    return words


TOKENIZERS = {
    "first": lambda: sentencepiece("first"),
    "always": lambda: sentencepiece("always", legacy=True),
    "prepend": lambda: sentencepiece("prepend"),
    "bytes": lambda: byte_tokenizer("</s>", ["<image>"], bos_token="<s>"),
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}"
    "{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}{% endif %}"
    "{% for c in m.tool_calls or [] %}\n[{{ c.function | tojson }}]{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VICUNA = (
    "{% for m in messages %}{% if m.role == 'assistant' %}ASSISTANT: {{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function | tojson }}]{% endfor %}{{ eos_token }}"
    "{% else %}USER: {% if m.content is string %}{{ m.content }}{% else %}"
    "{% for p in m.content %}{{ '<image>\n' if p.type == 'image' else p.text }}{% endfor %}"
    "{% endif %} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
TEMPLATES = {
    "compact": lambda: TEMPLATE.read_text(encoding="utf-8"),
    "v0": lambda: chat_template(STYLES["v0"], "<image>"),
    "v1": lambda: chat_template(STYLES["v1"], "<image>"),
    "plus-v0": lambda: chat_template(STYLES["plus-v0"], "<image>"),
    "plus-v1": lambda: chat_template(STYLES["plus-v1"], "<image>"),
    "vicuna": lambda: VICUNA,
    "chatml": lambda: CHATML,
}


@pytest.mark.parametrize("words", TOKENIZERS)
@pytest.mark.parametrize("template", TEMPLATES)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_every_template_is_served_as_it_is_trained(
    template: str, words: str, data: st.DataObject
) -> None:
    """The prompt of each reply is a token prefix of what is trained, and the reply is learned."""
    renderer = made_renderer(template, words)
    said = data.draw(conversations())
    whole = train(renderer, said)
    for index, message in enumerate(said.messages):
        if message.role == "assistant":
            before = said.model_copy(update={"messages": said.messages[:index]})
            prompt = serve(renderer, before).ids
            assert whole.ids[: len(prompt)] == prompt
            assert not whole.learned[len(prompt) - 1]
            assert whole.learned[len(prompt)]


@pytest.mark.parametrize("words", TOKENIZERS)
@settings(max_examples=30, deadline=None)
@given(said=texts)
def test_a_reply_behind_a_letter_has_the_tokens_of_the_whole_text(words: str, said: str) -> None:
    """LLaVA-1.5's prompts end with a colon, and it saw its texts as wholes."""
    renderer = made_renderer("v1", words)
    rendered = train(renderer, Conversation().ask("x").reply(AssistantMessage(text=f"o{said}")))
    messages = [("user", "x"), ("assistant", renderer.control.neutralise(f"o{said}"))]
    text = renderer.tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        chat_template=TEMPLATES["v1"](),
        tokenize=False,
    )
    assert rendered.ids == renderer.tokenizer(text, add_special_tokens=False)["input_ids"]


@lru_cache
def made_renderer(template: str, words: str) -> ChatRenderer:
    processor: Any = SimpleNamespace(
        tokenizer=TOKENIZERS[words](), chat_template=TEMPLATES[template](), image_token="<image>"
    )
    return ChatRenderer(processor)


@given(text=texts)
def test_an_answer_survives_render_and_parse(renderer: ChatRenderer, text: str) -> None:
    message = AssistantMessage(text=text)
    assert through(renderer, message) == message


@given(use=uses)
def test_calls_survive_render_and_parse(renderer: ChatRenderer, use: SkillUse) -> None:
    for count in (1, 2):
        message = AssistantMessage(skill_uses=(use,) * count)
        assert through(renderer, message) == message


def through(renderer: ChatRenderer, message: AssistantMessage) -> AssistantMessage:
    """What is parsed from the tokens that training learns for `message`."""
    (learned,) = spans(train(renderer, Conversation().ask("x").reply(message)))
    assert learned[-1] == renderer.tokenizer.eos_token_id
    reply = renderer.tokenizer.decode(learned[:-1], skip_special_tokens=False)
    return renderer.parse(reply, lambda: "call_1")


@given(conversation=conversations())
def test_exactly_replies_and_their_end_are_learned(
    renderer: ChatRenderer, conversation: Conversation
) -> None:
    rendered = train(renderer, conversation)
    replies = [m for m in conversation.messages if m.role == "assistant"]
    learned = spans(rendered)
    assert len(learned) == len(replies)
    end = renderer.tokenizer.eos_token_id
    for tokens, message in zip(learned, replies, strict=True):
        assert tokens.count(end) == 1
        assert tokens[-1] == end
        reply = renderer.tokenizer.decode(tokens[:-1], skip_special_tokens=False)
        assert renderer.parse(reply, lambda: "call_1") == message


def test_the_parts_of_a_reply_are_told_apart(renderer: ChatRenderer) -> None:
    use = SkillUse(id="call_1", name="detect", arguments={"labels": ["dog"]})
    said = AssistantMessage(text="I look.", skill_uses=(use, use))
    rendered = train(renderer, Conversation().ask("Where?").reply(said))
    call = '<|call|>{"name": " detect", "arguments": {"labels": [" dog"]}}'
    assert told(renderer, rendered) == [
        ("answer", " I look."),
        ("call", call * 2),
        ("stop", "<|end|>"),
    ]


def test_thoughts_are_a_part_where_the_template_writes_them(processor: LlavaProcessor) -> None:
    """Here without `generation` marks, and with a turn's end that is followed by more."""
    thinking = copy(processor)
    thinking.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.role == 'assistant' %}"
        "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>\n{% endif %}"
        "{{ m.content }}{% for c in m.tool_calls or [] %}[{{ c.function | tojson }}]{% endfor %}"
        "{% else %}{{ m.content if m.content is string else m.content[-1].text }}{% endif %}"
        "<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    renderer = ChatRenderer(thinking)
    use = SkillUse(id="call_1", name="detect", arguments={})
    chat = Conversation().ask("Where?")
    chat = chat.reply(AssistantMessage(thoughts="Boxes?", text="So.", skill_uses=(use,)))
    chat = chat.ask("And?").reply(AssistantMessage(text="Here."))
    assert told(renderer, train(renderer, chat)) == [
        ("thought", "<think>Boxes?</think>\n"),
        ("answer", "So."),
        ("call", '[{"name": "detect", "arguments": {}}]'),
        ("stop", "<|end|>"),
        ("answer", "Here."),
        ("stop", "<|end|>"),
    ]


def test_a_call_right_behind_thoughts_is_no_part_of_them(processor: LlavaProcessor) -> None:
    """Whatever stands between thoughts and words: it is not what closes thoughts."""
    use = SkillUse(id="call_1", name="detect", arguments={})
    call = '[{"name": "detect", "arguments": {}}]'
    for closed, lead in (("", " "), ("\n", "")):
        thinking = copy(processor)
        thinking.chat_template = (
            "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}"
            "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>"
            f"{{{{ {closed!r} if m.content }}}}{{% endif %}}"
            f"{{{{ {lead!r} ~ m.content if m.content }}}}"
            "{% for c in m.tool_calls or [] %}[{{ c.function | tojson }}]{% endfor %}"
            "{% else %}{{ m.content if m.content is string else m.content[-1].text }}{% endif %}"
            "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
        )
        renderer = ChatRenderer(thinking)
        chat = Conversation().ask("Where?")
        chat = chat.reply(AssistantMessage(thoughts="Boxes?", skill_uses=(use,)))
        chat = chat.ask("And?").reply(AssistantMessage(thoughts="Mm.", text="So."))
        assert told(renderer, train(renderer, chat)) == [
            ("thought", "<think>Boxes?</think>"),
            ("call", call),
            ("stop", "<|end|>"),
            ("thought", "<think>Mm.</think>"),
            ("answer", f"{closed}{lead}So."),
            ("stop", "<|end|>"),
        ]


def test_a_call_may_end_otherwise_than_words_do(processor: LlavaProcessor) -> None:
    """As Llama 3.1's do: what others said behind the call is not learned with it."""
    halting = copy(processor)
    halting.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>"
        "{{ m.content if m.content is string else m.content[-1].text }}"
        "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
        "{{ '<|pad|>' if m.tool_calls else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    renderer = ChatRenderer(halting)
    use = SkillUse(id="call_1", name="detect", arguments={})
    chat = Conversation().ask("Where?").reply(AssistantMessage(skill_uses=(use,)))
    rendered = train(renderer, chat.ask("Stop.").reply(AssistantMessage(text="Here.")))
    learned = [renderer.tokenizer.decode(tokens) for tokens in spans(rendered)]
    assert learned == ['{"name": "detect", "arguments": {}}<|pad|>', "Here.<|end|>"]


def test_a_renderer_can_be_sent_to_another_process(processor: LlavaProcessor) -> None:
    renderer = ChatRenderer(processor)
    chat = Conversation().ask("Where?").reply(AssistantMessage(text="Here."))
    again = pickle.loads(pickle.dumps(renderer))
    assert train(again, chat) == train(renderer, chat)


def told(renderer: ChatRenderer, rendered: Rendered) -> list[tuple[str, str]]:
    """The parts that are learned, as text."""
    marked = groupby(zip(rendered.parts, rendered.ids, strict=True), lambda m: m[0])
    runs = [(part, [i for _, i in tokens]) for part, tokens in marked]
    return [(part, renderer.tokenizer.decode(tokens)) for part, tokens in runs if part]


@given(said=spoken)
@settings(max_examples=200)
def test_text_never_becomes_a_control_token(renderer: ChatRenderer, said: str) -> None:
    """However it is spelled, what a person says has no control token but those of the template."""
    plain = serve(renderer, Conversation().ask("x", [image()]))
    rendered = serve(renderer, Conversation().ask(said, [image()]))
    control = set(renderer.tokenizer.all_special_ids)
    assert [i for i in rendered.ids if i in control] == [i for i in plain.ids if i in control]


@given(text=texts)
def test_neutralising_is_undone_exactly(text: str) -> None:
    control = ControlTokens(CONTROL)
    neutral = control.neutralise(text)
    assert control.restore(neutral) == text
    assert not any(spelling in neutral for spelling in CONTROL)


@pytest.mark.parametrize(
    "reply",
    ['<|call|>{"name": " detect"', '<|call|>{"name": " detect", "arguments": 3}', "<|call|>x"],
)
def test_a_broken_call_is_a_bad_reply(renderer: ChatRenderer, reply: str) -> None:
    with pytest.raises(BadReply, match="cannot be read"):
        renderer.parse(reply, lambda: "call_1")
