"""SAM 2 through transformers, whose image processor needs torchvision, on random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from llava_plus.skills.backends.sam import Sam2Outliner
from llava_plus.skills.geometry import Corners, Mask, Position
from llava_plus.skills.segment import Segment
from llava_plus.skills.segment_levels import SegmentLevels
from PIL import Image
from transformers import (
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam2VideoProcessor,
    Sam2VideoVideoProcessor,
    pipeline,
)

from ..tiny_models import decide

BOX, POINT = Corners(0.1, 0.2, 0.6, 0.9), Position(0.3, 0.5)
PARTS = {
    "vision_config": {
        "model_type": "sam2_vision_model", "fpn_hidden_size": 16,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "backbone_config": {
            "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [64, 64],
            "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 4, 4],
            "global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2],
        },
    },
    "prompt_encoder_config": {
        "hidden_size": 16, "image_size": 64, "patch_size": 16, "mask_input_channels": 4,
    },
    "mask_decoder_config": {
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32,
        "iou_head_hidden_dim": 16,
    },
}  # fmt: skip
MEMORY = {
    "image_size": 64, "memory_attention_hidden_size": 16, "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 16, "memory_attention_rope_feat_sizes": [4, 4],
    "memory_encoder_hidden_size": 16, "memory_encoder_output_channels": 8,
    "mask_downsampler_embed_dim": 16, "memory_fuser_embed_dim": 16,
    "memory_fuser_intermediate_dim": 16, "memory_fuser_num_layers": 1,
}  # fmt: skip


@pytest.fixture(scope="module", params=["images", "video"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for images alone, and one for video, as all that Meta has published are."""
    folder = tmp_path_factory.mktemp("sam2")
    size = {"height": 64, "width": 64}
    images = Sam2ImageProcessor(size=size, mask_size={"height": 16, "width": 16})
    torch.manual_seed(0)
    if request.param == "images":
        Sam2Model(Sam2Config(**PARTS)).save_pretrained(folder)
        Sam2Processor(images).save_pretrained(folder)
    else:
        Sam2VideoModel(Sam2VideoConfig(**PARTS, **MEMORY)).save_pretrained(folder)
        Sam2VideoProcessor(images, Sam2VideoVideoProcessor(size=size)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("place", [BOX, POINT])
@torch.inference_mode()
def test_the_masks_are_the_librarys(
    folder: Path, picture: Image.Image, place: Corners | Position
) -> None:
    outliner = Sam2Outliner(model=str(folder))
    outliner.load("cpu")
    mask = outliner.outline(picture, place)

    if isinstance(place, Position):
        prompt = {"input_points": [[[[36.0, 40.0]]]], "input_labels": [[[1]]]}
    else:
        prompt = {"input_boxes": [[[12.0, 16.0, 72.0, 72.0]]]}
    inputs = outliner._processor(images=picture, return_tensors="pt", **prompt)
    sizes = inputs.pop("original_sizes")
    model = Sam2Model.from_pretrained(folder).eval()
    outputs = model(**inputs, multimask_output=isinstance(place, Position))
    masks = outliner._processor.post_process_masks(outputs.pred_masks, sizes)[0][0].numpy()
    scores = outputs.iou_scores[0, 0]
    assert mask is not None
    assert np.array_equal(mask.array(), masks[int(scores.argmax())])
    if isinstance(place, Position):
        levels = outliner.levels(picture, place)
        wanted = scores.sort(descending=True, stable=True)
        assert [level.score for level in levels] == pytest.approx(wanted.values, abs=1e-3)
        for level, index in zip(levels, wanted.indices, strict=True):
            assert np.array_equal(level.mask.array(), masks[int(index)])


def test_a_setting_chooses_it_in_both_skills(
    folder: Path, picture: Image.Image, settings: Callable[..., None]
) -> None:
    for skill, place in ((Segment(), {"points": [POINT]}), (SegmentLevels(), {"point": POINT})):
        settings(skill.name, backend="sam2", model=folder, dtype="bfloat16")
        skill.setup("cpu")
        output = skill.call({"image": "img_1", **place}, images={"img_1": picture})
        assert output.text().startswith("Outlined ")
        for _, mask in output.masks():
            assert mask.size == (80, 120)


def test_everything_is_what_the_librarys_pipeline_finds(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    """In a square: elsewhere the pipeline has its points at the wrong places for SAM 2."""
    image = astronaut.crop((0, 0, 96, 96))
    size = {"height": 64, "width": 64}
    images = Sam2ImageProcessor(size=size, mask_size={"height": 16, "width": 16})
    torch.manual_seed(0)
    model = Sam2Model(Sam2Config(**PARTS)).eval()
    decide(model.mask_decoder)
    model.save_pretrained(tmp_path)
    Sam2Processor(images).save_pretrained(tmp_path)
    options = {"pred_iou_thresh": 0.2, "stability_score_thresh": 0.3}
    outliner = Sam2Outliner(model=str(tmp_path), points_per_side=9, box_nms_thresh=0.95, **options)
    outliner.load("cpu")
    found = outliner.everything(image)
    generate = pipeline("mask-generation", model=model, image_processor=images)
    expected = generate(image, points_per_crop=9, crops_nms_thresh=0.95, **options)["masks"]
    assert len(found) == len(expected) > 1
    for mask, array in zip(found, expected, strict=True):
        assert mask.overlap(Mask.from_array(np.asarray(array))) > 0.99
