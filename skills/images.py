"""Image bytes: checked once at the door, then known by the hash of their content."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from .errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "ImageRef",
    "ImageStore",
    "encode_image",
    "own_image",
    "read_file",
    "read_image",
    "shrunk",
]

MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 50_000_000
_FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
_FORMATS |= {"BMP": "image/bmp", "TIFF": "image/tiff", "MPO": "image/jpeg"}


class ImageRef(BaseModel):
    """An image by the SHA-256 of its bytes, with its size in pixels as it is shown."""

    model_config = ConfigDict(frozen=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    media_type: str
    width: int
    height: int


def read_image(data: bytes, *, name: str = "image") -> tuple[ImageRef, Image]:
    """Decode `data` fully, upright and in RGB, and say what it is.

    Raises `BadInput` when the bytes are too many, are no image of a known format, are cut
    short, or unpack to more than `MAX_PIXELS` pixels (a decompression bomb).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise BadInput(f"{name} is empty: it has no bytes")
    if len(data) > MAX_BYTES:
        raise BadInput(f"{name} has {len(data):,} bytes; at most {MAX_BYTES:,} are taken")
    try:
        with warnings.catch_warnings():
            # Pillow warns below its own limit; ours is checked from the header just after.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # MPO is opened as JPEG; Pillow fails on it as a format of its own.
            known_formats = [kind for kind in _FORMATS if kind != "MPO"]
            opened = Image.open(io.BytesIO(data), formats=known_formats)
        media_type = _FORMATS[opened.format or ""]
        if (pixels := opened.width * opened.height) > MAX_PIXELS:
            raise BadInput(
                f"{name} is {opened.width} x {opened.height}, {pixels:,} pixels; "
                f"at most {MAX_PIXELS:,} are taken: make it smaller first"
            )
        opened.load()
        upright = ImageOps.exif_transpose(opened)
    except UnidentifiedImageError as error:
        known = ", ".join(sorted({kind.removeprefix("image/") for kind in _FORMATS.values()}))
        raise BadInput(f"{name} is not an image that can be read; known: {known}") from error
    except Image.DecompressionBombError as error:
        raise BadInput(f"{name} has too many pixels; at most {MAX_PIXELS:,} are taken") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise BadInput(f"{name} is damaged or cut short: {error}") from error
    image = _flatten(upright)
    digest = hashlib.sha256(data).hexdigest()
    return (
        ImageRef(sha256=digest, media_type=media_type, width=image.width, height=image.height),
        image,
    )


def _flatten(image: Image) -> Image:
    """RGB, with what is transparent shown on white."""
    from PIL import Image as Pillow

    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Pillow.new("RGBA", layered.size, "white")
        return Pillow.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def read_file(path: Path) -> bytes:
    """The bytes of an image file that a person named. Raises `BadInput` when there are none."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}" if not path.exists() else f"{path} is no file")
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def encode_image(image: Image) -> bytes:
    """PNG bytes of an image that a skill made (lossless, quick rather than smallest)."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


class ImageStore:
    """Checked image bytes by content hash, kept in memory up to `max_bytes`, oldest use out first.

    With `max_bytes=None` nothing is ever let go. Several threads may use one store.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._max_bytes = max_bytes
        self._entries: dict[str, tuple[ImageRef, bytes, Image]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def add(self, data: bytes, *, name: str = "image") -> ImageRef:
        """Check and keep `data`; the same bytes twice are kept once. Raises `BadInput`."""
        known = self.get(hashlib.sha256(data).hexdigest())
        if known:
            return known
        ref, image = read_image(data, name=name)  # slow, so outside the lock
        with self._lock:
            self._keep((ref, data, image))
        return ref

    def borrow(self, ref: ImageRef, other: ImageStore) -> bool:
        """Keep what `other` keeps of an image, without decoding it again; false if it has not."""
        try:
            entry = other._use(ref.sha256)
        except KeyError:
            return False
        with self._lock:
            self._keep(entry)
        return True

    def data(self, ref: ImageRef) -> bytes:
        """The bytes as they came in. Raises `KeyError` when they are not here."""
        return self._use(ref.sha256)[1]

    def image(self, ref: ImageRef) -> Image:
        """The decoded image, RGB and upright; not to be changed in place."""
        return self._use(ref.sha256)[2]

    def get(self, sha256: str) -> ImageRef | None:
        """The reference for a hash, or None when its bytes are not here."""
        try:
            return self._use(sha256)[0]
        except KeyError:
            return None

    def _use(self, sha256: str) -> tuple[ImageRef, bytes, Image]:
        with self._lock:
            entry = self._entries[sha256] = self._entries.pop(sha256)
        return entry

    def _keep(self, entry: tuple[ImageRef, bytes, Image]) -> None:
        ref, data, image = entry
        if ref.sha256 not in self._entries:
            self._entries[ref.sha256] = entry
            self._size += _weight(data, image)
            self._evict()

    def _evict(self) -> None:
        while self._max_bytes is not None and self._size > self._max_bytes:
            if len(self._entries) == 1:
                return
            _, data, image = self._entries.pop(next(iter(self._entries)))
            self._size -= _weight(data, image)


def _weight(data: bytes, image: Image) -> int:
    return len(data) + 3 * image.width * image.height


def own_image(image: Image) -> Image:
    """The same pixels in an image of its own, which Pillow copies as soon as it is drawn on.

    What a skill does to its argument so never shows in another call, without 8 MB copied
    for every call on a photograph.
    """
    image.load()
    own = image._new(image.im)
    own.readonly = 1
    return own


def shrunk(image: Image, side: int) -> Image:
    """The image with a longer side of `side` pixels, or as it is when that is shorter."""
    scale = side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(pixels * scale)) for pixels in image.size)
    return image.resize((width, height))
