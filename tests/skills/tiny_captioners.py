"""Small captioning models with random weights, saved in the formats of their libraries."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BertTokenizerFast,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPImageProcessorPil,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    OPTConfig,
    PreTrainedTokenizerFast,
)

__all__ = ["save_blip", "save_blip2", "save_florence2"]

LETTERS = [chr(code) for code in range(97, 123)]
BLOCK = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}


def save_blip(folder: Path, *, width: int = 16, blocks: int = 1, side: int = 32) -> None:
    """BLIP with few blocks in each tower; its words are letters."""
    block = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": blocks}
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS]
    torch.manual_seed(0)
    config = BlipConfig(
        text_config={
            **block, "num_attention_heads": 2, "vocab_size": len(words),
            "encoder_hidden_size": width,
            "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0,
        },
        vision_config={**block, "num_attention_heads": 2, "image_size": side, "patch_size": 8},
        projection_dim=16, image_text_hidden_size=16, initializer_range=1.0,
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})
    images = BlipImageProcessorPil(size={"height": side, "width": side})
    BlipProcessor(images, tokenizer).save_pretrained(folder)


def save_blip2(folder: Path) -> None:
    """BLIP-2 with one block in each part, two queries, and OPT as its language model."""
    tokenizer = _letters(["<s>", "<pad>", "</s>", "<unk>", "<image>"], bos="<s>", eos="</s>")
    torch.manual_seed(0)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            **BLOCK, num_attention_heads=2, image_size=32, patch_size=8
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            **BLOCK, num_attention_heads=2, vocab_size=31, encoder_hidden_size=16
        ).to_dict(),
        text_config=OPTConfig(
            hidden_size=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2, init_std=1.0,
            vocab_size=len(tokenizer), max_position_embeddings=64, word_embed_proj_dim=16,
            bos_token_id=0, pad_token_id=1, eos_token_id=2,
        ).to_dict(),
        num_query_tokens=2, image_token_index=4, image_text_hidden_size=16,
    )  # fmt: skip
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    images = BlipImageProcessorPil(size={"height": 32, "width": 32})
    Blip2Processor(images, tokenizer, num_query_tokens=2).save_pretrained(folder)


def save_florence2(folder: Path, *, width: int = 16) -> None:
    """Florence-2 with a DaViT of one block a stage and a BART of one block."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<image>"]
    places = [f"<loc_{number}>" for number in range(1000)]
    tokenizer = _letters([*special, *places], bos="<s>", eos="</s>")
    torch.manual_seed(0)
    config = Florence2Config(
        text_config=BartConfig(
            d_model=width, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=2 * width, decoder_ffn_dim=2 * width,
            init_std=1.0,
            vocab_size=len(tokenizer), max_position_embeddings=256,
            bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2,
        ).to_dict(),
        vision_config={
            "embed_dim": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1),
            "num_groups": (1, 1, 1, 1), "projection_dim": width, "window_size": 4,
        },
        image_token_id=4,
    )  # fmt: skip
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(
        size={"height": 64, "width": 64}, do_center_crop=False, resample=3
    )
    images.image_seq_length = 5
    Florence2Processor(
        images,
        tokenizer,
        num_additional_image_tokens=1,
        post_processor_config={"pure_text": {}, "description_with_bboxes": {}},
    ).save_pretrained(folder)


def _letters(special: list[str], *, bos: str, eos: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single letters."""
    words = [*special, "▁", *LETTERS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ?.,-'"]
    tokenizer = Tokenizer(
        models.BPE({word: index for index, word in enumerate(words)}, [], unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}", special_tokens=[(bos, words.index(bos)), (eos, words.index(eos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
