"""A small LLaVA from nothing: tokenizer, processor and a `LlavaForConditionalGeneration`.

Everything is in the formats of transformers, so what is made here loads like any other model.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import (
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

__all__ = [
    "Architecture",
    "as_tokenizer",
    "build_model",
    "build_processor",
    "special_tokens",
    "train_tokenizer",
]

TEMPLATE = Path(__file__).parent / "templates" / "compact.jinja"
PAD, END = "<|pad|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|result|>", "<|call|>")
IMAGE = "<image>"
RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|assistant|>",
    "fields": {
        "tool_calls": {
            "open_pattern": r'<\|call\|>\{"name": " ?(?P<name>[^"]+)", "arguments": ',
            "close_pattern": r"\}(?=<\|call\|>|<\|end\|>|$)",
            "repeats": True,
            "content": "json",
            "content_args": {"string_delims": [['" ', '"']]},
            "transform": {
                "type": "function",
                "function": {"name": "{name}", "arguments": "{content}"},
            },
        },
        "content": {"close_pattern": r"\s*<\|end\|>", "content": "text"},
    },
}
"""How other servers read a reply of the compact template (transformers' `response_template`)."""


class Architecture(BaseModel):
    """Sizes of the language model, the vision tower and the vocabulary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: int = 8192
    hidden: int = 320
    layers: int = 6
    heads: int = 5
    key_value_heads: int | None = Field(default=None, gt=0)
    """Fewer than `heads` where several share keys and values (Ainslie et al. 2023)."""
    feed_forward: int = 896
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-6
    context: int = 4096
    dropout: float = 0.0
    image_size: int = 96
    patch: int = 24
    vision_hidden: int = 128
    vision_layers: int = 3
    vision_heads: int = 4

    @model_validator(mode="after")
    def _heads_fit(self) -> Architecture:
        shared = self.key_value_heads or self.heads
        if self.hidden % self.heads or self.heads % shared:
            raise ValueError(
                f"{self.hidden} wide with {self.heads} heads and {shared} of keys and values: "
                "each number has to be a multiple of the next"
            )
        return self


def train_tokenizer(texts: Iterable[str], architecture: Architecture) -> PreTrainedTokenizerFast:
    """Byte-level BPE learned from `texts`; digits stand alone, so that numbers can be copied."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    words = Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=architecture.vocabulary,
        special_tokens=special_tokens(),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return as_tokenizer(tokenizer, architecture)


def special_tokens() -> list[str]:
    """The tokens that no text can forge, in the order of their numbers."""
    return [PAD, END, *ROLES, IMAGE]


def as_tokenizer(tokenizer: Tokenizer, architecture: Architecture) -> PreTrainedTokenizerFast:
    """A tokenizer of transformers that knows the special tokens and how to read a reply."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        additional_special_tokens=list(ROLES),
        model_max_length=architecture.context,
        clean_up_tokenization_spaces=False,
        response_template=RESPONSE,
    )


def build_processor(
    tokenizer: PreTrainedTokenizerFast, architecture: Architecture
) -> LlavaProcessor:
    """The processor: images squeezed to a small square, text through the compact template."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    size = {"height": architecture.image_size, "width": architecture.image_size}
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size=size, crop_size=size, do_center_crop=False, do_convert_rgb=True
        ),
        tokenizer=tokenizer,
        patch_size=architecture.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast, architecture: Architecture
) -> LlavaForConditionalGeneration:
    """A model of the given sizes with random weights."""
    from transformers import (
        CLIPVisionConfig,
        GenerationConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=architecture.hidden,
        intermediate_size=architecture.feed_forward,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.key_value_heads or architecture.heads,
        rope_parameters={"rope_type": "default", "rope_theta": architecture.rope_theta},
        rms_norm_eps=architecture.norm_epsilon,
        max_position_embeddings=architecture.context,
        attention_dropout=architecture.dropout,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    vision = CLIPVisionConfig(
        hidden_size=architecture.vision_hidden,
        intermediate_size=4 * architecture.vision_hidden,
        num_hidden_layers=architecture.vision_layers,
        num_attention_heads=architecture.vision_heads,
        image_size=architecture.image_size,
        patch_size=architecture.patch,
    )
    # transformers renamed `image_token_index`; its annotations have the old name only.
    config = LlavaConfig(  # type: ignore[call-arg]
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(architecture.image_size // architecture.patch) ** 2,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model
