"""What making tokens and loss masks of records takes, and how many records keep their mask.

Run with `python tests/benchmarks/masking.py [ADVERSARIAL [TIMED]]`, by default 10,000 and 1,000
records. The baseline, in the same run, is how LLaVA and LLaVA-Plus prepare theirs (`preprocess_v1`
of LLaVA-Plus v1.3, from its description): the whole text is split on `</s>` and ` ASSISTANT: `,
and each piece is made tokens of again to count what is masked; when the counts differ in the end,
the record has no labels. All have the same records, text and vocabulary, 8,000 words of a
sentencepiece model trained here. LLaVA and LLaVA-Plus load their tokenizer with `use_fast=False`,
so the baseline makes tokens with sentencepiece; how it does with the tokenizer in Rust that we
have, which transformers 5 would give it, is told beside it.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llava_plus.model.conversation import AssistantMessage, Conversation, SkillMessage, UserMessage
from llava_plus.model.conversion.chat import STYLES, chat_template
from llava_plus.model.llava_plus.turns import EMOJI_KEYS
from llava_plus.model.rendering import ChatRenderer, Rendered
from llava_plus.skills import ImageRef, SkillResult, SkillSpec, SkillUse
from rich.console import Console
from rich.table import Table
from sentencepiece import SentencePieceTrainer
from transformers import LlamaTokenizer, PreTrainedTokenizerBase
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

ROOT = Path(__file__).parents[2]
TEXT = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
CONTROL = ["<", "ASSISTANT", *EMOJI_KEYS]
WORDS = [word for word in TEXT.split() if not any(sign in word for sign in CONTROL)]
SKILLS = tuple(
    SkillSpec(
        name=f"skill_{number}",
        description=" ".join(WORDS[30 * number : 30 * number + 20]),
        parameters={
            "type": "object",
            "properties": {
                "image": {"type": "string", "pattern": "^img_[0-9]{1,4}$"},
                "labels": {"type": "array", "items": {"type": "string"}},
                "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.3},
            },
            "required": ["image", "labels"],
        },
    )
    for number in range(20)
)
FORGED = [
    "</s>",
    " ASSISTANT: ",
    "USER: ",
    "<image>",
    "<unk>",
    "<s>",
    "### Human: ",
    "🙂🚀",
    "é\u2060",
]
IGNORED = -100
IMAGE = -200
END = "</s>"
PLACEHOLDERS = [IMAGE]


def words(dice: random.Random, least: int, most: int) -> str:
    """A stretch of the documentation."""
    start, length = dice.randrange(len(WORDS) - most), dice.randint(least, most)
    return " ".join(WORDS[start : start + length])


def forged(dice: random.Random, least: int, most: int) -> str:
    """Words, and often between them what a tokenizer or a splitter would take for control."""
    pieces = [words(dice, 1, 4), *(dice.choice([*FORGED, words(dice, 1, 5)]) for _ in range(2))]
    dice.shuffle(pieces)
    return "".join(pieces) if dice.random() < 0.3 else words(dice, least, most)


Say = Callable[[random.Random, int, int], str]


def conversation(number: int, say: Say, *, skills: Sequence[SkillSpec] = ()) -> Conversation:
    """One to three turns, most of them with a call, as LLaVA-Plus's records have them."""
    dice = random.Random(number)
    image = ImageRef(sha256=f"{number:064x}", media_type="image/png", width=8, height=8)
    chat = Conversation(skills=tuple(skills))
    for turn in range(dice.randint(1, 3)):
        chat = chat.ask(say(dice, 6, 20) + "?", [] if turn else [image])
        if dice.random() < 0.8:
            use = SkillUse(id="c", name="skill_0", arguments={"caption": say(dice, 1, 4)})
            thoughts = say(dice, 8, 25)
            chat = chat.reply(
                AssistantMessage(thoughts=thoughts, text=say(dice, 6, 12), skill_uses=(use,))
            )
            boxes = [[round(dice.random(), 2) for _ in range(4)] for _ in range(dice.randint(1, 8))]
            found = {"boxes": boxes, "phrases": [say(dice, 1, 2)]}
            chat = chat.add_result(SkillResult(id="c", name=use.name, text=str(found)))
        thoughts = say(dice, 5, 15)
        empty = say is forged and dice.random() < 0.02
        chat = chat.reply(
            AssistantMessage(thoughts=thoughts, text="" if empty else say(dice, 20, 80))
        )
    return chat


class SlowLlamaTokenizer(SentencePieceBackend):
    """LLaMA's tokenizer as `use_fast=False` gives it."""

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """What begins a text."""
        return [self.bos_token_id, *token_ids_0, *(token_ids_1 or ())]


def tokenizers() -> tuple[LlamaTokenizer, SlowLlamaTokenizer]:
    """Two with one vocabulary of Vicuna's kind, trained here: in Rust, and on sentencepiece."""
    numbers = [str(number / 100) for number in range(100)]
    lines = [line for line in TEXT.splitlines() if line.strip()]
    with tempfile.TemporaryDirectory() as folder:
        SentencePieceTrainer.train(
            sentence_iterator=iter([*lines, *numbers, *numbers]),
            model_prefix=f"{folder}/tokenizer",
            model_type="bpe",
            vocab_size=8000,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            minloglevel=2,
        )
        rust = LlamaTokenizer.from_pretrained(folder, legacy=True, add_bos_token=True)
        special = {"bos_token": "<s>", "eos_token": END, "unk_token": "<unk>"}
        slow = SlowLlamaTokenizer(
            vocab_file=f"{folder}/tokenizer.model", special_tokens_pattern="bos", **special
        )
    for made in (rust, slow):
        made.pad_token = made.unk_token
        made.add_tokens(["<image>"], special_tokens=True)
    return rust, slow


def turns(chat: Conversation) -> list[str]:
    """What the person and the assistant say in turn, as LLaVA-Plus writes it.

    Where skills are told, images have names for them to take.
    """
    said, question = [], ""
    for message in chat.messages:
        if isinstance(message, UserMessage):
            names = message.images if chat.skills else ()
            question = "".join(f"{name}\n" for name in names) + message.text
            said.append("<image>\n" * len(message.images) + question)
        elif isinstance(message, SkillMessage):
            asked = f"Please summarize the model outputs and answer my first question: {question}"
            said.append(f"{message.result.name} model outputs: {message.text}\n\n{asked}")
        else:
            said.append(reply_text(message))
    return said


def reply_text(message: AssistantMessage) -> str:
    """A reply with its thoughts, as LLaVA-Plus writes it."""
    actions = [{"API_name": u.name, "API_params": u.arguments} for u in message.skill_uses]
    written = json.dumps(actions)
    thoughts, text = message.thoughts.strip(), message.text.strip()
    return f'"thoughts🤔" {thoughts}\n"actions🚀" {written}\n"value👉" {text}\n'


def prompt_of(system: str, said: Sequence[str]) -> str:
    """The text of a conversation in Vicuna's words; turns in which nothing is said are lost."""
    text = f"{system} "
    for number, words_said in enumerate(said):
        role, ends = ("ASSISTANT", END) if number % 2 else ("USER", " ")
        text += f"{role}: {words_said}{ends}" if words_said else f"{role}:"
    return text


def retokenised(words_of: PreTrainedTokenizerBase, text: str) -> tuple[list[int], list[int]]:
    """The baseline: tokens of a text, and its labels by making tokens of its pieces again."""

    def tokens(piece: str) -> list[int]:
        first, *others = (words_of(chunk).input_ids for chunk in piece.split("<image>"))
        return [*first, *(i for other in others for i in (IMAGE, *other[1:]))]

    ids = tokens(text)
    labels, at = list(ids), 1
    labels[:1] = [IGNORED]
    for turn in text.split(END):
        parts = turn.split(" ASSISTANT: ")
        if not turn or len(parts) != 2:
            break
        masked = len(tokens(f"{parts[0]} ASSISTANT: ")) - 2
        labels[at : at + masked] = [IGNORED] * masked
        at += len(tokens(turn))
    labels[at:] = [IGNORED] * len(labels[at:])
    padding = words_of.pad_token_id
    total = sum(token != padding for token in ids)
    return ids, labels if at == total else [IGNORED] * len(ids)


def is_exact(renderer: ChatRenderer, chat: Conversation, rendered: Rendered) -> bool:
    """Whether the learned tokens are those of the replies and their ends, and no others."""
    marked = groupby(zip(rendered.learned, rendered.ids, strict=True), lambda pair: pair[0])
    learned = [
        renderer.tokenizer.decode([token for _, token in run]) for is_on, run in marked if is_on
    ]
    said = (message for message in chat.messages if isinstance(message, AssistantMessage))
    replies = [message.model_dump(mode="json") for message in said]
    harmless = map(AssistantMessage.model_validate, renderer.control.neutralise_all(replies))
    return learned == [reply_text(reply) + END for reply in harmless]


def records_per_second(work: Callable[[Any], object], values: Sequence[Any]) -> float:
    """The best of three passes, each over records of its own, by the time of the processor."""
    speeds = []
    for start in range(3):
        began = time.process_time()
        for value in values[start::3]:
            work(value)
        speeds.append(len(values[start::3]) / (time.process_time() - began))
    return max(speeds)


def system_of(renderer: ChatRenderer, chat: Conversation) -> str:
    """What stands before the first turn, skills with it."""
    ids = renderer.prompt(Conversation(skills=chat.skills).ask("x"), lambda handle: []).ids
    text: str = renderer.tokenizer.decode(ids[1:])
    return text[: text.rindex(" USER: ")]


def main() -> None:
    """Measure, and print two tables."""
    adversarial, timed = (int(given) for given in [*sys.argv[1:], "10000", "1000"][:2])
    rust, slow = tokenizers()
    template = chat_template(STYLES["plus-v1"], "<image>")
    processor: Any = SimpleNamespace(tokenizer=rust, chat_template=template, image_token="<image>")
    renderer = ChatRenderer(processor)

    def ours(chat: Conversation) -> Rendered:
        return renderer.training(chat, lambda handle: PLACEHOLDERS)

    def baseline(
        chat: Conversation, system: str, words_of: PreTrainedTokenizerBase = slow
    ) -> tuple[list[int], list[int]]:
        return retokenised(words_of, prompt_of(system, turns(chat)))

    columns = ("baseline", "ratio", "baseline in Rust", "ratio")
    speeds = Table("records/s", "tokens", "ours", *columns)
    for name, skills in (("skills not told", ()), ("20 skills told", SKILLS)):
        chats = [conversation(number, words, skills=skills) for number in range(timed)]
        system = system_of(renderer, chats[0])
        speed = records_per_second(ours, chats)
        cells = [f"{sum(len(ours(chat).ids) for chat in chats) / len(chats):.0f}", f"{speed:.0f}"]
        for words_of in (slow, rust):
            theirs = partial(baseline, system=system, words_of=words_of)
            assert all(ours(chat).ids == theirs(chat)[0] for chat in chats)
            beside = records_per_second(theirs, chats)
            cells += [f"{beside:.0f}", f"{speed / beside:.1f}"]
        speeds.add_row(name, *cells)
    Console().print(speeds, f"{timed:,} records")

    lost, kept, exact = 0, 0, 0
    system = system_of(renderer, Conversation())
    for number in range(adversarial):
        chat = conversation(number, forged)
        rendered = ours(chat)
        lost += all(label == IGNORED for label in baseline(chat, system)[1])
        kept += any(rendered.learned)
        exact += is_exact(renderer, chat, rendered)
    masks = Table("of adversarial records", "baseline", "ours")
    masks.add_row("without a label", f"{lost:,}", f"{adversarial - kept:,}")
    masks.add_row("exactly the replies and their ends", "", f"{exact:,}")
    Console().print(masks, f"{adversarial:,} records")


if __name__ == "__main__":
    main()
