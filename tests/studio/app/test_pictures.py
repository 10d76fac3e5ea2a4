"""Uploaded pictures: good ones become small and plain, bad ones are refused in one line."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from apps import encode
from pmg.domain import PmgError
from pmg.studio.app.pictures import LARGEST, from_data_uri, read_picture, to_data_uri


def bomb():
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_pictures_of_every_format_are_read(kind):
    assert read_picture(encode(kind)).size == (20, 10)


def test_pictures_are_upright_and_deep_ones_keep_their_levels():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    assert read_picture(encode("JPEG", exif=exif)).size == (10, 20)
    deep = io.BytesIO()
    Image.fromarray(np.full((4, 4), 20000, np.uint16)).save(deep, "PNG")
    assert read_picture(deep.getvalue()).getpixel((0, 0)) == (77, 77, 77)


def test_pictures_are_small_opaque_and_without_metadata():
    info = PngInfo()
    info.add_text("secret", "home address")
    content = encode(size=(900, 300), mode="RGBA", pnginfo=info)
    picture = read_picture(content)
    assert (picture.size, picture.mode, picture.getpixel((0, 0))) == ((256, 85), "RGB", (255, 255, 255))
    assert b"secret" in content
    again = from_data_uri(to_data_uri(picture))
    assert again.tobytes() == picture.tobytes()
    assert not again.info.get("secret")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no picture"),
        (b"GIF89a", "no picture"),
        (b"<svg onload='alert(1)'/>", "no picture"),
        (b"%PDF-1.7", "no picture"),
        (encode()[:40], "no picture"),
        (encode("JPEG", (300, 300))[:-200], "no picture"),
        (encode("TIFF"), "no picture"),
        (encode("GIF", frames=3), "animated"),
        (encode("WEBP", frames=3), "animated"),
        (encode("PNG", frames=3), "animated"),
        (bomb(), "pixels"),
        (b"\x00" * (LARGEST + 1), "larger than 10 MiB"),
    ],
)
def test_a_bad_picture_is_refused_in_one_line(content, message):
    with pytest.raises(PmgError, match=message) as raised:
        read_picture(content)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "x", "file:///etc/passwd", "data:image/png;base64,??", "data:image/png;base64,AAAA"]
)
def test_a_bad_data_uri_is_refused(text):
    with pytest.raises(PmgError, match="picture"):
        from_data_uri(text)


def test_a_large_picture_that_is_allowed_is_read():
    assert max(read_picture(encode("JPEG", (4000, 3000))).size) == 256
    assert Image.MAX_IMAGE_PIXELS
