"""Tiny random-weight models of three families, saved in the libraries' own formats.

- `llava`: Llava around a Llama. Template: `<tool_call>` + JSON with the key `parameters`.
  Needs torch; `AutoProcessor` loads it.
- `qwen_vl`: Qwen2.5-VL. Template: Hermes, as the real one (JSON lines in `<tool_call>`).
  Needs torch, and `load_processor`: `AutoProcessor` wants a video processor, so torchvision.
- `third`: Idefics3. Template: `[TOOL_CALLS]` + one JSON list, with `generation` marks; big
  images are split into tiles. Needs torch; `AutoProcessor` loads it.

Each function writes into the folder that it is given, and returns it. All models have a
vocabulary of about 400 tokens and 0.2 million weights, take 0.1 seconds to make, need no
network, and `AutoModelForImageTextToText` (`load_model`) loads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from llava_plus.model.loading import load_processor, without_video
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
)

__all__ = [
    "FAMILIES",
    "byte_tokenizer",
    "llava",
    "load_model",
    "load_processor",
    "qwen_vl",
    "third",
]

_CORPUS = [
    "What is in img_1? There are two dogs and a red car in the image; the text says INVOICE 2024.",
    '{"name": "detect", "arguments": {"image": "img_1", "query": "a dog", "box": [0.1, 0.25]}}',
    '{"type": "function", "function": {"description": "Find things", "parameters": {"type": "o"}}}',
    "Error: no skill is named that. Made img_2 (the mask of it), mask_1. 0 1 2 3 4 5 6 7 8 9",
] * 4

_TEXT = """
{%- macro text(content) -%}
{%- if content is string -%}{{ content }}{%- else -%}
{%- for part in content -%}
{%- if part.type == 'image' -%}IMAGE{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endmacro -%}
"""

_LLAVA = (
    _TEXT.replace("IMAGE", "<image>")
    + r"""{{- bos_token -}}
{%- if tools -%}
{{- 'SYSTEM: You may call:\n' -}}
{%- for tool in tools -%}{{ (tool | tojson) ~ '\n' }}{%- endfor -%}{{ eos_token }}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{ 'ASSISTANT: ' ~ text(message.content) }}
{%- for call in message.tool_calls or [] -%}
{{ '<tool_call>{"name": ' ~ call.function.name | tojson -}}
{{ ', "parameters": ' ~ call.function.arguments | tojson ~ '}</tool_call>' }}
{%- endfor -%}
{{ eos_token }}
{%- else -%}
{{ {'user': 'USER', 'tool': 'RESULT', 'system': 'SYSTEM'}[message.role] ~ ': ' -}}
{{ text(message.content) ~ '\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT: ' }}{%- endif -%}"""
)

_QWEN = (
    _TEXT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    + r"""
{%- if tools -%}
{{ '<|im_start|>system\n# Tools\n<tools>\n' }}
{%- for tool in tools -%}{{ (tool | tojson) ~ '\n' }}{%- endfor -%}
{{ '</tools>\nWrite each call as JSON in <tool_call></tool_call>.<|im_end|>\n' }}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{%- if messages[loop.index0 - 1].role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}
{{ '\n<tool_response>\n' ~ text(message.content) ~ '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{ '<|im_end|>\n' }}{%- endif -%}
{%- else -%}
{{ '<|im_start|>' ~ message.role ~ '\n' ~ text(message.content) }}
{%- for call in message.tool_calls or [] -%}
{{ '\n' if message.content or not loop.first -}}
{{ '<tool_call>\n{"name": ' ~ call.function.name | tojson -}}
{{ ', "arguments": ' ~ call.function.arguments | tojson ~ '}\n</tool_call>' }}
{%- endfor -%}
{{ '<|im_end|>\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""
)

_THIRD = (
    _TEXT.replace("IMAGE", "<image>")
    + r"""{{- '<|im_start|>' -}}
{%- if tools -%}{{ '[AVAILABLE_TOOLS]' ~ tools | tojson ~ '[/AVAILABLE_TOOLS]' }}{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
Assistant:
{%- generation -%}
{{ ' ' ~ text(message.content) if message.content }}
{%- for call in message.tool_calls or [] -%}
{{ '[TOOL_CALLS][' if loop.first -}}
{{ '{"name": ' ~ call.function.name | tojson -}}
{{ ', "arguments": ' ~ call.function.arguments | tojson ~ '}' -}}
{{ ']' if loop.last else ', ' }}
{%- endfor -%}
<end_of_utterance>
{%- endgeneration -%}
{{ '\n' }}
{%- elif message.role == 'tool' -%}
{{ '[TOOL_RESULTS]' ~ text(message.content) ~ '[/TOOL_RESULTS]\n' }}
{%- else -%}
{{ message.role | capitalize ~ ': ' ~ text(message.content) ~ '<end_of_utterance>\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}Assistant:{%- endif -%}"""
)

_TEXT_SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
_VISION_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def llava(folder: Path) -> Path:
    """A Llava with a Llama inside; 16 tokens an image, whatever its size."""
    tokenizer = byte_tokenizer("</s>", ["<image>"], bos_token="<s>", image_token="<image>")
    side, patch = 56, 14
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_LLAVA,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_VISION_SIZES, image_size=side, patch_size=patch),
        text_config=LlamaConfig(**_TEXT_SIZES, **_token_ids(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(side // patch) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    return _save(LlavaForConditionalGeneration, config, processor, folder)


def qwen_vl(folder: Path) -> Path:
    """A Qwen2.5-VL; a token for 28 x 28 pixels of an image, between 4 and 16 of them."""
    markers = [
        "<|im_start|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ]
    tokenizer = byte_tokenizer("<|im_end|>", [*markers, "<|endoftext|>"], pad_token="<|endoftext|>")
    pixels = {"shortest_edge": 4 * 28 * 28, "longest_edge": 16 * 28 * 28}
    processor = without_video(Qwen2_5_VLProcessor)(
        image_processor=Qwen2VLImageProcessor(size=pixels, patch_size=14, merge_size=2),
        tokenizer=tokenizer,
        chat_template=_QWEN,
    )
    ids = {
        name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad")
    }
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": _TEXT_SIZES["hidden_size"],
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        text_config={**_TEXT_SIZES, **_token_ids(tokenizer), "rope_parameters": rope},
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return _save(Qwen2_5_VLForConditionalGeneration, config, processor, folder)


def third(folder: Path) -> Path:
    """An Idefics3: an image is split into tiles of 4 tokens each, with markers between them."""
    side, patch, scale = 56, 14, 2
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    markers = ["<image>", "<fake_token_around_image>", "<global-img>", "<|im_start|>", *rows]
    tokenizer = byte_tokenizer("<end_of_utterance>", [*markers, "<pad>"], pad_token="<pad>")
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(
            size={"longest_edge": 2 * side}, max_image_size={"longest_edge": side}
        ),
        tokenizer=tokenizer,
        image_seq_len=(side // patch) ** 2 // scale**2,
        chat_template=_THIRD,
    )
    config = Idefics3Config(
        vision_config={**_VISION_SIZES, "image_size": side, "patch_size": patch},
        text_config=LlamaConfig(**_TEXT_SIZES, **_token_ids(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=scale,
    )
    return _save(Idefics3ForConditionalGeneration, config, processor, folder)


FAMILIES = {"llava": llava, "qwen_vl": qwen_vl, "third": third}


def load_model(folder: Path) -> PreTrainedModel:
    """The model, ready to be run."""
    return AutoModelForImageTextToText.from_pretrained(folder).eval()


def byte_tokenizer(end: str, markers: list[str], **roles: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 400 tokens; `markers` are control tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    roles = {"pad_token": "<pad>", **roles, "eos_token": end}
    specials = [*dict.fromkeys([*roles.values(), *markers])]
    trainer = trainers.BpeTrainer(
        vocab_size=400 + len(specials),
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_CORPUS, trainer)
    image = {"image_token": roles.pop("image_token")} if "image_token" in roles else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        **roles,
        extra_special_tokens=image,
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def _token_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int | None]:
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _save(
    model_class: type[PreTrainedModel], config: Any, processor: ProcessorMixin, folder: Path
) -> Path:
    torch.manual_seed(0)
    model = model_class(config)
    ids = _token_ids(processor.tokenizer)
    model.generation_config = GenerationConfig(
        eos_token_id=ids["eos_token_id"], pad_token_id=ids["pad_token_id"], do_sample=False
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
