"""Finding things with YOLO in ONNX, as ultralytics exports it; runs on onnxruntime alone."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from pydantic import ConfigDict, Field, PositiveInt, TypeAdapter
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from ..extras import needing
from . import Licence, Packages
from .closed_vocabulary import ClosedVocabulary, Sighting
from .letterbox import Letterbox

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

__all__ = ["OnnxYoloDetector"]

_MOST = 300
"""Things that are found in one image, as in ultralytics."""
_FLOATS = {"tensor(float)": "float32", "tensor(float16)": "float16"}

Told = TypeVar("Told")
_NAMES = TypeAdapter(dict[int, str])
_HEIGHT_AND_WIDTH = TypeAdapter(tuple[PositiveInt, PositiveInt])


@dataclass(config=ConfigDict(extra="forbid"))
class OnnxYoloDetector(ClosedVocabulary):
    """A `Detector` around the file `model`; what it finds is called `names`, in its own order.

    Without names, those that ultralytics wrote into the file serve. Boxes of one kind that
    overlap by more than `overlap` (intersection over union) are one thing, unless the model was
    exported with a choice of its own (`nms`).
    """

    model: str = ""
    names: tuple[str, ...] = ()
    threshold: float = Field(default=0.25, ge=0, le=1)
    overlap: float = Field(default=0.7, ge=0, le=1)
    threads: int = Field(default=2, ge=1)
    _session: Any = field(default=None, init=False, repr=False)
    _frame: tuple[int, int] = field(default=(640, 640), init=False, repr=False)
    """Width and height, in pixels, of what the model takes."""
    _named: Mapping[int, str] = field(default_factory=dict, init=False, repr=False)

    licence: ClassVar[Licence] = Licence("MIT", "of your file; those of ultralytics are AGPL-3.0")
    packages: ClassVar[Packages] = Packages("onnx", ("onnxruntime", "cv2"))

    def lacks(self) -> str:
        """The file, where it is not there."""
        if Path(self.model).is_file():
            return ""
        return (
            f"there is no file {self.model!r} for `model`; "
            "make one with: yolo export model=yolo26n.pt format=onnx"
        )

    def load(self, device: str) -> None:
        """Load the model, on the CPU whatever `device` is, and run it once.

        Raises `BadConfiguration` when it is not there, or is no detector of a known form.
        """
        import numpy as np

        if lacking := self.lacks():
            raise BadConfiguration(lacking)
        self._session = self._opened()
        about = self._session.get_modelmeta().custom_metadata_map
        named = dict(enumerate(self.names)) or self._told(_NAMES, about, "names")
        if not named:
            raise BadConfiguration(f"{self.model} does not say what it finds: give `names`")
        self._named = named
        self._frame = self._taken(self._told(_HEIGHT_AND_WIDTH, about, "imgsz"))
        width, height = self._frame
        self._candidates(np.zeros((height, width, 3), dtype=np.uint8))

    def _opened(self) -> Any:
        with needing(self.packages.extra, f"the model {self.model!r}"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        try:
            return onnxruntime.InferenceSession(
                self.model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the library raises bare ones of every kind
            raise BadConfiguration(f"{self.model} cannot be opened as ONNX: {error}") from error

    def _told(self, kind: TypeAdapter[Told], about: Mapping[str, str], key: str) -> Told | None:
        """What the file says about itself, which ultralytics writes as Python's literals."""
        if key not in about:
            return None
        try:
            return kind.validate_python(ast.literal_eval(about[key]))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
            raise BadConfiguration(
                f"{self.model} has {key} that cannot be read: {about[key][:80]!r}"
            ) from error

    def _taken(self, trained_on: tuple[int, int] | None) -> tuple[int, int]:
        """Width and height that the model takes; if it takes any, those it was trained on."""
        (first, *others) = self._session.get_inputs()
        if others or len(first.shape) != 4 or first.shape[1] != 3 or first.type not in _FLOATS:
            raise BadConfiguration(
                f"{self.model} takes {first.type} {first.shape}, not one RGB image as "
                "(1, 3, height, width)"
            )
        height, width = first.shape[2:]
        if isinstance(height, int) and isinstance(width, int):
            return width, height
        return trained_on[::-1] if trained_on else self._frame

    @property
    def _kinds(self) -> Mapping[int, str]:
        return self._named

    def _see(
        self, image: Image, kinds: Iterable[int], threshold: float | None
    ) -> Iterator[Sighting]:
        import numpy as np

        letterbox = Letterbox(image.size, self._frame)
        found = self._candidates(letterbox.drawn(image))
        least = self.threshold if threshold is None else threshold
        found = found.those((found.scores >= least) & np.isin(found.kinds, list(kinds)))
        if not found.are_final:
            found = found.those(_apart(found, self.overlap))
        for corners, score, kind in zip(*found.lists(), strict=True):
            yield Sighting(kind, letterbox.fractions(*corners), score)

    def _candidates(self, page: NDArray[np.uint8]) -> _Candidates:
        """What the model sees in an image of its own size, (height, width, 3)."""
        import numpy as np

        (takes,) = self._session.get_inputs()
        pixels = (page.transpose(2, 0, 1)[None] / np.float32(255)).astype(_FLOATS[takes.type])
        try:
            output, *_ = self._session.run(None, {takes.name: pixels})
        except Exception as error:  # the library raises bare ones of every kind
            raise BadConfiguration(f"{self.model} cannot be run: {error}") from error
        if output.ndim == 3 and len(output) == 1:
            rows = np.asarray(output[0], dtype=np.float32)
            if rows.shape[1] == 6:
                return _Candidates.from_choice(rows)
            if rows.shape[0] == 4 + len(self._named):
                return _Candidates.from_anchors(rows)
        raise BadConfiguration(
            f"{self.model} gives {output.shape}; a detector of {len(self._named)} kinds gives "
            f"(1, {4 + len(self._named)}, boxes) or (1, boxes, 6)"
        )


class _Candidates(NamedTuple):
    """Boxes that may hold things: corners (n, 4) in pixels, scores (n,), numbers of kinds (n,)."""

    corners: NDArray[np.float32]
    scores: NDArray[np.float32]
    kinds: NDArray[np.intp]
    are_final: bool
    """Whether each stands for a thing of its own."""

    @classmethod
    def from_choice(cls, rows: NDArray[np.float32]) -> _Candidates:
        """From x0, y0, x1, y1, score, kind for each box: (n, 6)."""
        return cls(rows[:, :4], rows[:, 4], rows[:, 5].astype(int), are_final=True)

    @classmethod
    def from_anchors(cls, rows: NDArray[np.float32]) -> _Candidates:
        """From the centre, the size and the score of every kind for each box: (4 + kinds, n)."""
        import numpy as np

        centre, half = rows[:2].T, rows[2:4].T / 2
        corners = np.concatenate([centre - half, centre + half], axis=1)
        return cls(corners, rows[4:].max(axis=0), rows[4:].argmax(axis=0), are_final=False)

    def those(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> _Candidates:
        """Some of them, in the order given."""
        return _Candidates(
            self.corners[chosen], self.scores[chosen], self.kinds[chosen], self.are_final
        )

    def lists(self) -> tuple[list[list[float]], list[float], list[int]]:
        """Corners, scores and kinds as Python's numbers."""
        return self.corners.tolist(), self.scores.tolist(), self.kinds.tolist()


def _apart(found: _Candidates, overlap: float) -> NDArray[np.intp]:
    """Which of them do not repeat a surer one of their kind (greedy suppression)."""
    import cv2
    import numpy as np

    start, end = found.corners[:, :2], found.corners[:, 2:]
    boxes = np.concatenate([start, end - start], axis=1).astype(float)
    kept = cv2.dnn.NMSBoxesBatched(boxes.tolist(), *found.lists()[1:], 0.0, overlap)
    return np.asarray(kept, dtype=int)[:_MOST]
