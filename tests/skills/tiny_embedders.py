"""Small models of images and words with random weights, saved in the formats of their libraries."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
)

from .tiny_tokenizers import clip_letters

__all__ = ["save_clip", "save_siglip"]

BLOCK = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
SEES = {**BLOCK, "image_size": 32, "patch_size": 8}


def save_clip(folder: Path, *, width: int = 16) -> None:
    """CLIP with one block in each tower and vectors of `width`; its words are letters."""
    tokenizer = clip_letters(24)
    reads = {**BLOCK, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    reads |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=reads, vision_config=SEES, projection_dim=width)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    CLIPProcessor(images, tokenizer).save_pretrained(folder)


def save_siglip(folder: Path) -> None:
    """SigLIP with one block in each tower; its words are letters."""
    tokenizer = clip_letters(24)
    reads = {**BLOCK, "vocab_size": len(tokenizer), "max_position_embeddings": 24}
    torch.manual_seed(0)
    config = SiglipConfig(text_config={**reads, "projection_size": 16}, vision_config=SEES)
    SiglipModel(config).save_pretrained(folder)
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    SiglipProcessor(images, tokenizer).save_pretrained(folder)
