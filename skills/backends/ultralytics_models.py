"""Loading models of ultralytics (AGPL-3.0), which only an extra of its own installs.

The library is kept from what it would do by itself: fetch files into the working folder, install
packages, write settings into the user's home, report its use, and run code out of a file of
weights.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ..errors import BadConfiguration
from ..extras import needing
from ..folders import cache_folder
from ..weight_files import WeightFile
from ..weights import Fetchable
from . import Licence, Packages

__all__ = ["FromUltralytics"]

_RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"


@dataclass(config=ConfigDict(extra="forbid"))
class FromUltralytics:
    """A backend around one model of ultralytics; `model` is one of its files or one of your own."""

    model: str = ""
    source: str = _RELEASE

    licence: ClassVar[Licence] = Licence("AGPL-3.0", "AGPL-3.0")
    packages: ClassVar[Packages] = Packages("ultralytics", ("torch", "torchvision", "ultralytics"))

    @property
    def weights(self) -> Fetchable:
        """The file of the model."""
        return self._file(self.model)

    def _file(self, name: str) -> WeightFile:
        """A file of the makers, or one of your own."""
        return WeightFile(name, self.source)

    def _open(self, kind: str) -> Any:
        """A model of the class `kind` of ultralytics; its file is fetched where it is not here.

        Raises `BadConfiguration`.
        """
        for name, value in {
            "YOLO_CONFIG_DIR": str(cache_folder() / "ultralytics"),
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "YOLO_VERBOSE": "false",
            "ULTRALYTICS_SAFE_LOAD": "true",
        }.items():
            os.environ.setdefault(name, value)
        (cache_folder() / "ultralytics").mkdir(parents=True, exist_ok=True)
        with needing(self.packages.extra, f"the model {self.model!r}"):
            import ultralytics
        path = self._file(self.model).fetched()
        try:
            return getattr(ultralytics, kind)(str(path))
        except Exception as error:  # the library raises bare ones of every kind
            raise BadConfiguration(f"{path} cannot be opened as {kind}: {error}") from error
