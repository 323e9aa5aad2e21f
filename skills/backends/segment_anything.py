"""Outlining with Segment Anything (Kirillov et al. 2023), by its makers' own library and files."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from ..geometry import Corners, Mask, Position
from ..weight_files import WeightFile
from . import Licence, Packages

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

__all__ = ["SegmentAnythingOutliner"]

_MD5 = {
    "sam_vit_b_01ec64.pth": "01ec64",
    "sam_vit_l_0b3195.pth": "0b3195",
    "sam_vit_h_4b8939.pth": "4b8939",
}
"""The files of Meta, which have the first digits of their hash in their names."""
_KINDS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""The library's names of the three encoders, by the width that their weights have."""


@dataclass(config=ConfigDict(extra="forbid"))
class SegmentAnythingOutliner:
    """An `Outliner` for anything; `model` is one of Meta's files, or a file of your own."""

    model: str = "sam_vit_b_01ec64.pth"
    source: str = "https://dl.fbaipublicfiles.com/segment_anything"
    _predictor: Any = field(default=None, init=False, repr=False)
    _encoded: Any = field(default=None, init=False, repr=False)
    """The image that the predictor has read last."""

    licence: ClassVar[Licence] = Licence("Apache-2.0", "Apache-2.0")
    packages: ClassVar[Packages] = Packages("meta", ("torch", "torchvision", "segment_anything"))

    @property
    def weights(self) -> WeightFile:
        """The file of the model."""
        return WeightFile(self.model, self.source, _MD5.get(self.model, ""))

    def load(self, device: str) -> None:
        """Load the model, fetched first where it is not here. Raises `BadConfiguration`."""
        try:
            from segment_anything import SamPredictor, sam_model_registry
        except ImportError as error:
            raise BadConfiguration(
                f"the model {self.model!r} needs the packages of llava-plus[meta]: {error}"
            ) from error
        numbers = self._read()
        try:
            kind = _KINDS[numbers["image_encoder.pos_embed"].shape[-1]]
            model = sam_model_registry[kind]()
            model.load_state_dict(numbers)
        except (KeyError, RuntimeError) as error:
            raise BadConfiguration(
                f"{self.model!r} does not hold the weights of one of {', '.join(_KINDS.values())}: "
                f"{error}"
            ) from error
        self._predictor = SamPredictor(model.to(device).eval())

    def _read(self) -> dict[str, torch.Tensor]:
        import pickle

        import torch

        path = self.weights.fetched()
        try:
            numbers = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise BadConfiguration(f"the weights {path} cannot be read: {error}") from error
        if not isinstance(numbers, dict):
            raise BadConfiguration(f"{self.model!r} holds no weights of Segment Anything")
        return numbers

    def outline(self, image: Image, place: Corners | Position) -> Mask | None:
        """The thing in a box or at a point: of the model's proposals the one it rates best."""
        import numpy as np

        if self._encoded is not image:
            self._predictor.set_image(np.asarray(image))
            self._encoded = image
        sizes = np.array([image.width, image.height] * (len(place) // 2))
        pixels = np.array(place) * sizes
        # One proposal for a box; for a point, which may mean a part or the whole, three.
        by_point = isinstance(place, Position)
        asked = {"point_coords": pixels[None], "point_labels": np.array([1])}
        proposals, scores, _ = self._predictor.predict(
            **(asked if by_point else {"box": pixels}), multimask_output=by_point
        )
        mask = Mask.from_array(proposals[int(scores.argmax())])
        return mask if mask.area > 0 else None
