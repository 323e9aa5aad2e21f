"""Tiny models that divide an image into regions, with random weights, as transformers has them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    OneFormerImageProcessorPil,
    OneFormerProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessorPil,
    SwinConfig,
)

from .tiny_tokenizers import clip_letters

__all__ = ["LABELS", "save_mask2former", "save_oneformer", "save_segformer"]

LABELS = ("person", "sky-other-merged", "dog", "wall-brick")

_SIZE = {"height": 64, "width": 64}
_NAMES = {
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: number for number, label in enumerate(LABELS)},
}
_SIZES = {
    "hidden_dim": 32, "encoder_feedforward_dim": 16, "encoder_layers": 1, "decoder_layers": 2,
    "num_attention_heads": 2, "dim_feedforward": 16, "num_queries": 8,
}  # fmt: skip


def save_mask2former(folder: Path) -> None:
    """Mask2Former with a Swin of one block a stage, whose queries have labels of all kinds."""
    torch.manual_seed(0)
    config = Mask2FormerConfig(
        backbone_config=_swin(), feature_size=32, mask_feature_size=32, **_SIZES, **_NAMES
    )
    model = Mask2FormerForUniversalSegmentation(config)
    _spread(model.class_predictor)
    model.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size=_SIZE).save_pretrained(folder)


def save_oneformer(folder: Path) -> None:
    """OneFormer, alike; its processor names a file that is in another repository."""
    torch.manual_seed(0)
    tokenizer = clip_letters(77)
    config = OneFormerConfig(
        backbone_config=_swin(), conv_dim=32, mask_dim=32, text_encoder_width=16,
        text_encoder_num_layers=1, text_encoder_vocab_size=len(tokenizer), query_dec_layers=1,
        **_SIZES, **_NAMES,
    )  # fmt: skip
    model = OneFormerForUniversalSegmentation(config)
    _spread(model.model.transformer_module.decoder.class_embed)
    model.save_pretrained(folder)
    OneFormerProcessor(OneFormerImageProcessorPil(size=_SIZE), tokenizer).save_pretrained(folder)
    settings = json.loads((folder / "processor_config.json").read_text())
    settings["image_processor"]["class_info_file"] = "coco_panoptic.json"
    (folder / "processor_config.json").write_text(json.dumps(settings))


def save_segformer(folder: Path) -> None:
    """SegFormer with one block a stage."""
    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16, **_NAMES,
    )  # fmt: skip
    model = SegformerForSemanticSegmentation(config)
    _spread(model.decode_head.classifier)
    model.save_pretrained(folder)
    SegformerImageProcessorPil(size=_SIZE).save_pretrained(folder)


def _swin() -> SwinConfig:
    return SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2],
        window_size=2, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


@torch.no_grad()
def _spread(classifier: torch.nn.Module) -> None:
    """Let a fresh classifier, which says nearly the same of everything, tell inputs apart."""
    for weights in classifier.parameters():
        torch.nn.init.normal_(weights, std=2 if weights.ndim > 1 else 0)
