"""The sentence encoder, in full and in few bits, and the shortlist made with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from llava_plus.model.conversation import Conversation
from llava_plus.model.rendering import ChatRenderer
from llava_plus.model.sentences import SentenceEncoder, save_small_encoder
from llava_plus.model.shortlist import Shortlist, request_text, skill_text
from llava_plus.skills import SkillSpec
from llava_plus.skills.errors import BadConfiguration
from transformers import BertConfig, BertModel, BertTokenizerFast, LlavaProcessor

from .conversations import SPEC

TEXTS = ["find the dog", "a much longer sentence than that", "x"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real BERT with random weights, saved in the library's own format."""
    folder = tmp_path_factory.mktemp("encoder")
    letters = [chr(code) for code in range(97, 123)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters)]
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), num_hidden_layers=1, hidden_size=64, intermediate_size=128,
        num_attention_heads=2,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_a_sentence_has_one_vector_in_any_company(encoder_folder: Path) -> None:
    alone = SentenceEncoder(str(encoder_folder)).encode(TEXTS[:1])[0]
    together = SentenceEncoder(str(encoder_folder)).encode(TEXTS)[0]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert alone.norm().item() == pytest.approx(1, abs=1e-5)


def test_few_bits_point_the_same_way(encoder_folder: Path, tmp_path: Path) -> None:
    save_small_encoder(str(encoder_folder), tmp_path / "small")
    full = SentenceEncoder(str(encoder_folder)).encode(TEXTS)
    small = SentenceEncoder(str(tmp_path / "small")).encode(TEXTS)
    assert (full * small).sum(-1).min().item() > 0.99
    sizes = [
        sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        for folder in (encoder_folder, tmp_path / "small")
    ]
    assert sizes[1] < 0.6 * sizes[0]


def test_an_encoder_that_is_not_there_is_named() -> None:
    with pytest.raises(BadConfiguration, match="no_such/encoder"):
        SentenceEncoder("no_such/encoder")


def skill(name: str, description: str) -> SkillSpec:
    return SkillSpec(name=name, description=description, parameters={"type": "object"})


SKILLS = [
    skill("wx", "Weather forecast for a place."),
    skill("lumo", "Name the dominant colours of an image."),
    skill("coins", "Convert an amount of money from one currency to another."),
    skill("feather", "Identify a bird from a picture."),
]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("do i need my umbrella in Bergen tomorrow", "wx"),
        ("what are the main colours of this picture?", "lumo"),
        ("how many euros do I get for 200 dollars", "coins"),
        ("is this an eagle or a hawk", "feather"),
    ],
)
def test_the_shipped_encoder_knows_what_words_mean(asked: str, name: str) -> None:
    likely = Shortlist()(asked, SKILLS)
    assert likely[0].name == name
    assert len(likely) == 3
    assert [one.tenths for one in likely] == sorted((one.tenths for one in likely), reverse=True)


def test_the_encoder_reads_what_a_skill_takes_and_whether_an_image_is_there() -> None:
    properties = {"image": {}, "time_zone": {}, "unit": {"enum": ["metric", "imperial"]}}
    spec = SkillSpec(name="sun_at", description="Sunrise.", parameters={"properties": properties})
    assert skill_text(spec) == "sun at: Sunrise (image, time zone, unit metric imperial)"
    assert skill_text(skill("wx", "Weather.")) == "wx: Weather."
    assert request_text("how big?", image=True) != request_text("how big?", image=False)


def test_examples_bring_a_skill_nearer_to_requests_like_them() -> None:
    request = "will the ferry still run tonight"
    plain = skill("quokka", "Query the QK-7 service.")
    taught = plain.model_copy(update={"examples": ("does the boat go today", "next ferry?")})
    near = [Shortlist().nearness(request, [*SKILLS, spec])["quokka"] for spec in (plain, taught)]
    assert near[1] > near[0] + 0.2
    assert Shortlist()(request, [*SKILLS, taught])[0].name == "quokka"
    assert "ferry" not in str(taught.tool()), "the LMM does not read them"


def test_nothing_is_likely_where_nothing_is_on_offer() -> None:
    assert Shortlist()("hello", []) == []
    assert Shortlist()("  ", SKILLS) == []


def test_the_shortlist_stands_behind_the_request(processor: LlavaProcessor) -> None:
    asked = Conversation(skills=(SPEC,)).ask_about("where is the dog?", ["img_1"])

    def prompt(renderer: ChatRenderer) -> str:
        return renderer.tokenizer.decode(renderer.prompt(asked, lambda handle: []).ids)

    without, shown = prompt(ChatRenderer(processor)), prompt(ChatRenderer(processor, Shortlist()))
    head, _, tail = shown.rpartition("<|system|>")
    assert tail.startswith(" detect ")
    assert without == head + "<|assistant|>"
