"""Small vision models with random weights, saved in the formats of their libraries."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertTokenizerFast,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    SamConfig,
    SamImageProcessorPil,
    SamModel,
    SamProcessor,
    SwinConfig,
)

from .tiny_tokenizers import LETTERS, clip_letters

__all__ = ["decide", "save_grounding_dino", "save_owlv2", "save_sam"]


def save_grounding_dino(folder: Path) -> None:
    """GroundingDINO with a Swin and a BERT of one block a stage, 12 queries."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *LETTERS]
    words += [f"##{letter}" for letter in LETTERS]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2], window_size=2, out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=64,
        ),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=12, max_text_len=32,
        num_feature_levels=4,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)


def save_owlv2(folder: Path) -> None:
    """OWLv2 with one block in each tower: 16 patches, so 16 boxes."""
    # A query that begins with token 0 counts as padding; the end has to be the highest number.
    tokenizer = clip_letters(16)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    torch.manual_seed(0)
    config = Owlv2Config(
        text_config={**sizes, "num_attention_heads": 2, "vocab_size": len(tokenizer)},
        vision_config={**sizes, "num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        initializer_factor=0.05,
    )
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    images = Owlv2ImageProcessorPil(size={"height": 32, "width": 32})
    Owlv2Processor(images, tokenizer).save_pretrained(folder)


def decide(decoder: torch.nn.Module) -> None:
    """Give a mask decoder of SAM or SAM 2 weights with which masks are clear, and rated apart.

    As the libraries make them, all is next to nothing, and no mask is stable.
    """
    torch.manual_seed(0)
    for name, numbers in decoder.named_parameters():
        if numbers.ndim > 1:
            torch.nn.init.kaiming_normal_(numbers)
        if "hypernetworks" in name and name.endswith(("proj_out.weight", "layers.2.weight")):
            numbers.data *= 30
        if "iou_pred" in name and name.endswith(("proj_out.bias", "layers.2.bias")):
            torch.nn.init.constant_(numbers, 0.5)


def save_sam(folder: Path) -> None:
    """SAM with an encoder of one block and a decoder of two."""
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "image_size": 64, "patch_size": 8, "mlp_dim": 32,
            "window_size": 2, "global_attn_indexes": [0], "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32,
            "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    SamModel(config).save_pretrained(folder)
    images = SamImageProcessorPil(
        size={"longest_edge": 64}, pad_size={"height": 64, "width": 64},
        mask_size={"longest_edge": 16}, mask_pad_size={"height": 16, "width": 16},
    )  # fmt: skip
    SamProcessor(images).save_pretrained(folder)
