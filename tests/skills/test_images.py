"""What comes in as an image is one, of a size that can be worked on."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from llava_plus.skills import ImageStore
from llava_plus.skills.errors import BadInput
from llava_plus.skills.images import MAX_BYTES, encode_image, read_image
from PIL import Image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_zeros(width: int, height: int, rows: int | None = None) -> bytes:
    """A black PNG, valid unless it has fewer rows than its header says."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    count = height if rows is None else rows
    body = b"".join(packer.compress(row) for _ in range(count)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_are_read(kind: str):
    ref, image = read_image(encoded(Image.new("RGB", (30, 20), "red"), kind))
    assert (ref.width, ref.height) == image.size == (30, 20)
    assert ref.media_type == f"image/{kind.lower()}"
    assert image.mode == "RGB"


def test_a_photo_that_lies_on_its_side_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    ref, image = read_image(encoded(Image.new("RGB", (30, 20)), "JPEG", exif=exif))
    assert (ref.width, ref.height) == image.size == (20, 30)


def test_what_is_transparent_is_shown_on_white():
    _, image = read_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0))))
    assert image.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no bytes"),
        (b"this is text in a file called photo.jpg", "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"\xff\xd8\xff\xe0" + b"0" * 100, "damaged"),
    ],
)
def test_what_is_no_image_is_refused(data: bytes, words: str):
    with pytest.raises(BadInput, match=words):
        read_image(data, name="photo.jpg")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_that_is_cut_short_is_refused(kind: str):
    whole = encoded(Image.effect_noise((200, 200), 80).convert("RGB"), kind)
    with pytest.raises(BadInput, match="photo"):
        read_image(whole[: len(whole) // 2], name="photo")


def test_a_bomb_is_refused_by_its_header():
    bomb = png_of_zeros(20_000, 10_000)
    assert len(bomb) < 1_000_000
    with pytest.raises(BadInput, match="pixels"):
        read_image(bomb)


def test_a_header_that_lies_about_a_huge_size_is_refused():
    with pytest.raises(BadInput, match="pixels"):
        read_image(png_of_zeros(60_000, 60_000, rows=1))


def test_too_many_bytes_are_refused_before_they_are_read():
    with pytest.raises(BadInput, match="bytes"):
        read_image(bytes(MAX_BYTES + 1))


def test_a_skill_s_image_comes_back_as_it_was():
    image = Image.effect_noise((50, 40), 60).convert("RGB")
    _, read = read_image(encode_image(image))
    assert read.tobytes() == image.tobytes()


def test_a_store_keeps_the_same_bytes_once_and_lets_the_oldest_go():
    images = [encoded(Image.new("RGB", (100, 100), (shade, 0, 0))) for shade in range(3)]
    store = ImageStore(max_bytes=70_000)
    first, second = store.add(images[0]), store.add(images[1])
    assert store.add(images[0]) == first
    store.add(images[2])
    assert store.get(first.sha256) == first
    assert store.get(second.sha256) is None
    with pytest.raises(KeyError):
        store.data(second)
