"""Published sets of drawings: one class a form in which they are published."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, ImageDraw, ImageFont

from pmg.domain import PmgError
from pmg.models.vision.pictures import FORMATS

SVG_ROOT = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="0 0 {width} {height}" width="{width}" height="{height}" color="black">{body}</svg>'
)


@dataclass(frozen=True)
class Concept:
    """A thing that the icon packs draw, as the Unicode data names it."""

    slug: str  # name in the Iconify packs, e.g. ``"red-apple"``
    codes: str  # code points in upper-case hexadecimal, joined by hyphens, e.g. ``"1F34E"``
    title: str  # its Unicode name
    keywords: tuple[str, ...]  # search words
    group: str  # Unicode group
    subgroup: str  # Unicode subgroup

    @property
    def plain_codes(self) -> str:
        """The code points without variation selectors."""
        return "-".join(code for code in self.codes.split("-") if code.upper() != "FE0F")


class IconPack(Protocol):
    """A set of drawings with one drawing a concept."""

    def draws(self, concept: Concept) -> bool:
        """Returns whether the pack has a drawing of `concept`."""

    def draw(self, concept: Concept, size: int) -> Image.Image:
        """Returns the drawing as an RGBA image of `size` x `size` pixels."""


class IconifyPack:
    """A set in Iconify's JSON format."""

    def __init__(self, archive: Path) -> None:
        self.icons: Mapping[str, Any] = json.loads(read_member(archive, "icons.json"))

    def draws(self, concept: Concept) -> bool:
        """Returns whether the set names the concept, itself or as an alias."""
        return concept.slug in self.icons["icons"] or concept.slug in self.icons.get("aliases", {})

    def draw(self, concept: Concept, size: int) -> Image.Image:
        """Returns the rasterised drawing."""
        return rasterise(self.svg(concept.slug), size)

    def svg(self, slug: str) -> str:
        """Returns the drawing as a stand-alone SVG document, aliases followed."""
        alias = self.icons.get("aliases", {}).get(slug, {})
        icon = {**self.icons["icons"][alias.get("parent", slug)], **alias}
        width, height = (icon.get(side, self.icons.get(side, 16)) for side in ("width", "height"))
        return SVG_ROOT.format(width=width, height=height, body=icon["body"])


class FilesPack:
    """A package with one file a concept in a `folder` inside of it, named by its code points."""

    name = "{codes}"  # of a file

    def __init__(self, archive: Path, folder: str) -> None:
        self.files = read_folder(archive, folder)

    def draws(self, concept: Concept) -> bool:
        """Returns whether there is a file for the concept."""
        return self.find(concept) is not None

    def find(self, concept: Concept) -> bytes | None:
        """Returns the concept's file, named with or without variation selectors; None where there is none."""
        names = (self.name.format(codes=codes) for codes in (concept.codes, concept.plain_codes))
        return next((self.files[name] for name in names if name in self.files), None)


class SvgFilesPack(FilesPack):
    """SVG files named by code points in upper case."""

    name = "{codes}.svg"

    def draw(self, concept: Concept, size: int) -> Image.Image:
        """Returns the rasterised drawing."""
        return rasterise((self.find(concept) or b"").decode(), size)


class BitmapFilesPack(FilesPack):
    """WebP files named by code points in lower case."""

    name = "{codes}.webp"

    def find(self, concept: Concept) -> bytes | None:
        """Returns the concept's file; None where there is none."""
        return super().find(replace(concept, codes=concept.codes.lower()))

    def draw(self, concept: Concept, size: int) -> Image.Image:
        """Returns the drawing, reduced to `size`."""
        with Image.open(io.BytesIO(self.find(concept) or b""), formats=FORMATS) as image:
            return image.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)


class FontPack:
    """A package with a font, a `file` inside of it (WOFF2 works), whose glyphs are line drawings."""

    MARGIN = 0.04  # share of the picture around a glyph

    def __init__(self, archive: Path, file: str) -> None:
        self.font = ImageFont.truetype(io.BytesIO(read_member(archive, file)), 256)
        self.missing = bytes(self.font.getmask("\U000f0000"))

    def draws(self, concept: Concept) -> bool:
        """Returns whether the font has one glyph for the concept."""
        codes = concept.plain_codes.split("-")
        return len(codes) == 1 and bytes(self.font.getmask(chr(int(codes[0], 16)))) != self.missing

    def draw(self, concept: Concept, size: int) -> Image.Image:
        """Returns the glyph in black, centred, at the width that other packs give their drawings."""
        text = chr(int(concept.plain_codes, 16))
        left, top, right, bottom = self.font.getbbox(text)
        side = int(max(right - left, bottom - top) * (1 + 2 * self.MARGIN))
        sheet = Image.new("RGBA", (side, side))
        corner = ((side - (right - left)) // 2 - left, (side - (bottom - top)) // 2 - top)
        ImageDraw.Draw(sheet).text(corner, text, font=self.font, fill="black")
        return sheet.resize((size, size), Image.Resampling.LANCZOS)


def read_member(archive: Path, name: str) -> bytes:
    """Returns one file of a package archive; PmgError if it is missing or the archive is damaged."""
    try:
        with tarfile.open(archive) as tar:
            return _extract(tar, f"package/{name}")
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise PmgError(f"{archive} is damaged ({error}); delete it and run `make catalogue` again") from None


def _extract(tar: tarfile.TarFile, member: str | tarfile.TarInfo) -> bytes:
    """Returns a member's content; KeyError if it is missing, or no file."""
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(f"{member} is no file")
    return file.read()


def read_folder(archive: Path, folder: str) -> dict[str, bytes]:
    """Returns all files of a folder of a package archive, by name; PmgError if it is damaged, or there are none."""
    prefix = f"package/{folder}/"
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.isfile() and member.name.startswith(prefix)]
            files = {member.name.removeprefix(prefix): _extract(tar, member) for member in members}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PmgError(f"{archive} is damaged ({error}); delete it and run `make catalogue` again") from None
    if not files:
        raise PmgError(f"{archive} has no files in {folder}; name the version that conf/source/looks.yaml names")
    return files


def rasterise(svg: str, size: int) -> Image.Image:
    """Returns an SVG drawing as an RGBA image of `size` x `size` pixels."""
    import resvg_py

    drawn = Image.open(
        io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))), formats=FORMATS
    )
    sheet = Image.new("RGBA", (size, size))
    sheet.alpha_composite(drawn.convert("RGBA"))
    return sheet
