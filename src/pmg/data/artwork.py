"""Builds the emoji catalogue from published icon packs: SVG in, one row an image out."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from pmg.data.catalogue import write_table
from pmg.domain import PmgError
from pmg.ranges import Count, CountOrZero

SVG_ROOT = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="0 0 {width} {height}" width="{width}" height="{height}" color="black">{body}</svg>'
)


@dataclass(frozen=True)
class Concept:
    """A thing that the icon packs draw, as the Unicode data names it.

    Attributes:
        slug: name in the Iconify packs, e.g. ``"red-apple"``.
        codes: code points in upper-case hexadecimal, joined by hyphens, e.g. ``"1F34E"``.
        title: its Unicode name.
        keywords: search words.
        group: Unicode group.
        subgroup: Unicode subgroup.
    """

    slug: str
    codes: str
    title: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str

    @property
    def plain_codes(self) -> str:
        """The code points without variation selectors."""
        return "-".join(code for code in self.codes.split("-") if code != "FE0F")

    @property
    def text(self) -> str:
        """The emoji itself."""
        return "".join(chr(int(code, 16)) for code in self.codes.split("-"))


@dataclass(frozen=True)
class PackSource:
    """One published set of drawings: its npm package and the facts that its licence demands.

    Attributes:
        style: name of the artist in the catalogue.
        package: npm package.
        version: of the package.
        author: who drew it.
        license: SPDX identifier.
        url: home of the set.
    """

    style: str
    package: str
    version: str
    author: str
    license: str
    url: str


class IconPack(Protocol):
    """A set of drawings with one drawing a concept."""

    def draws(self, concept: Concept) -> bool:
        """Returns whether the pack has a drawing of `concept`."""
        ...

    def draw(self, concept: Concept, size: int) -> Image.Image:
        """Returns the drawing as an RGBA image of `size` x `size` pixels."""
        ...


class IconifyPack:
    """A set in Iconify's JSON format.

    Args:
        archive: the npm package.
    """

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


class SvgFilesPack:
    """A package with one SVG file a concept, named by its code points.

    Args:
        archive: the npm package.
        folder: of the files, inside the package.
    """

    def __init__(self, archive: Path, folder: str) -> None:
        self.files = read_folder(archive, folder)

    def draws(self, concept: Concept) -> bool:
        """Returns whether there is a file for the concept."""
        return self._name(concept) is not None

    def draw(self, concept: Concept, size: int) -> Image.Image:
        """Returns the rasterised drawing."""
        return rasterise(self.files[str(self._name(concept))].decode(), size)

    def _name(self, concept: Concept) -> str | None:
        names = (f"{codes}.svg" for codes in (concept.codes, concept.plain_codes))
        return next((name for name in names if name in self.files), None)


class BitmapFilesPack:
    """A package with one bitmap file a concept, named by its code points in lower case.

    Args:
        archive: the npm package.
        folder: of the files, inside the package.
    """

    def __init__(self, archive: Path, folder: str) -> None:
        self.files = read_folder(archive, folder)

    def draws(self, concept: Concept) -> bool:
        """Returns whether there is a file for the concept."""
        return self._name(concept) is not None

    def draw(self, concept: Concept, size: int) -> Image.Image:
        """Returns the drawing, reduced to `size`."""
        with Image.open(io.BytesIO(self.files[str(self._name(concept))])) as image:
            return image.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)

    def _name(self, concept: Concept) -> str | None:
        names = (f"{codes.lower()}.webp" for codes in (concept.codes, concept.plain_codes))
        return next((name for name in names if name in self.files), None)


class FontPack:
    """A package with a font whose glyphs are line drawings.

    Args:
        archive: the npm package.
        file: of the font, inside the package; WOFF2 works.
    """

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


def fetch_package(name: str, version: str, folder: Path) -> Path:
    """Brings one npm package's archive into `folder` unless it is there already.

    Raises:
        PmgError: npm is missing or can't bring the package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{name.strip('@').replace('/', '-')}-{version}.tgz"
    if archive.exists():
        return archive
    command = ["npm", "pack", f"{name}@{version}", "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise PmgError("npm is not installed; the catalogue's packs come from npm (apt-get install npm)") from None
    except subprocess.CalledProcessError as error:
        raise PmgError(f"npm could not bring {name}@{version}: {error.stderr.strip()[-200:]}") from None
    return archive


def read_member(archive: Path, name: str) -> bytes:
    """Returns one file of a package archive.

    Raises:
        PmgError: the archive is damaged or lacks the file.
    """
    try:
        with tarfile.open(archive) as tar:
            return tar.extractfile(f"package/{name}").read()
    except (tarfile.TarError, EOFError, OSError, KeyError, AttributeError) as error:
        raise PmgError(f"{archive} is damaged ({error}); delete it and run `make catalogue` again") from None


def read_folder(archive: Path, folder: str) -> dict[str, bytes]:
    """Returns all files of one folder of a package archive, by name.

    Raises:
        PmgError: the archive is damaged, or the folder is empty.
    """
    prefix = f"package/{folder}/"
    try:
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.isfile() and member.name.startswith(prefix)]
            files = {member.name.removeprefix(prefix): tar.extractfile(member).read() for member in members}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PmgError(f"{archive} is damaged ({error}); delete it and run `make catalogue` again") from None
    if not files:
        raise PmgError(f"{archive} has no files in {folder}; name the version that conf/source/emoji.yaml names")
    return files


def slugify(label: str) -> str:
    """The icon packs' name for a Unicode label: ``"woman’s hat"`` -> ``"womans-hat"``."""
    plain = unicodedata.normalize("NFKD", re.sub(r"[’'.“”!,:()]", "", label.lower()))
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")


def load_concepts(package: str, version: str, folder: Path, skip_groups: Sequence[str], skip: str) -> list[Concept]:
    """Reads names, keywords and topics; leaves out gendered doubles, `skip_groups` and titles matching `skip`."""
    archive = fetch_package(package, version, folder)
    meta, concepts = json.loads(read_member(archive, "meta/groups.json")), []
    for row in json.loads(read_member(archive, "en/data.json")):
        group = meta["groups"].get(str(row.get("group")))
        if group is None or group in skip_groups or "gender" in row or re.search(skip, row["label"]):
            continue
        title = row["label"].lower().replace("’", "'")
        keywords = tuple(tag for tag in row.get("tags", ()) if tag not in title)
        subgroup = meta["subgroups"][str(row["subgroup"])]
        concepts.append(Concept(slugify(row["label"]), row["hexcode"], title, keywords, group, subgroup))
    return sorted(concepts, key=lambda concept: concept.slug)


def rasterise(svg: str, size: int) -> Image.Image:
    """Returns an SVG drawing as an RGBA image of `size` x `size` pixels."""
    import resvg_py

    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))))
    sheet = Image.new("RGBA", (size, size))
    sheet.alpha_composite(drawn.convert("RGBA"))
    return sheet


def encode(image: Image.Image) -> bytes:
    """Returns lossless WebP bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=75, method=4)  # method 6: 40 times slower, 1 % smaller
    return buffer.getvalue()


def framed(image: Image.Image, margin: int, ground: str | None = None) -> Image.Image:
    """Returns the image with `margin` pixels on each side, RGBA, or RGB on a `ground` of one colour."""
    sheet = Image.new("RGBA", (image.width + 2 * margin, image.height + 2 * margin), ground or (0, 0, 0, 0))
    sheet.alpha_composite(image, (margin, margin))
    return sheet.convert("RGB") if ground else sheet


def draw_rows(
    packs: Mapping[str, IconPack],
    concepts: Iterable[Concept],
    size: int,
    min_packs: int,
    margin: int = 0,
    ground: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields one catalogue row an image, for concepts that at least `min_packs` packs draw.

    Args:
        packs: by style.
        concepts: what to draw.
        size: pixels a side.
        min_packs: fewer drawings than that: the concept is left out.
        margin: pixels on each side.
        ground: colour behind the drawings; None: they keep their transparency.
    """
    for concept in concepts:
        drawn = {style: pack.draw(concept, size - 2 * margin) for style, pack in packs.items() if pack.draws(concept)}
        drawn = {style: image for style, image in drawn.items() if image.getchannel("A").getextrema()[1] > 0}
        if len(drawn) < min_packs:
            continue
        for style, image in drawn.items():
            yield {
                "id": f"{concept.slug}@{style}",
                "concept": concept.slug,
                "style": style,
                "title": concept.title,
                "keywords": list(concept.keywords),
                "group": concept.group,
                "subgroup": concept.subgroup,
                "image": encode(framed(image, margin, ground)),
            }


def build_catalogue(
    folder: str,
    downloads: str,
    size: Count,
    margin: CountOrZero,
    min_packs: Count,
    concepts: Mapping[str, str],
    skip_groups: Sequence[str],
    skip_titles: str,
    packs: Mapping[str, Mapping[str, Any]],
    ground: str | None = None,
) -> dict[str, int]:
    """Builds the catalogue and its manifest; bit-identical for the same sources.

    Args:
        folder: where the catalogue goes.
        downloads: where package archives are kept.
        size: pixels a side.
        margin: pixels on each side, room for outlines.
        min_packs: a concept is kept if so many packs draw it.
        concepts: package and version of the Unicode data.
        skip_groups: Unicode groups to leave out.
        skip_titles: pattern of titles to leave out.
        packs: of each style its package, version, author, license and url, and `read`: builds the `IconPack` of the
            package's archive.
        ground: colour behind the drawings; None: they keep their transparency.

    Returns:
        Counts of images, concepts and styles.
    """
    archives = Path(downloads)
    sources, sets = [], {}
    for style, pack in packs.items():
        facts = {name: value for name, value in pack.items() if name != "read"}
        archive = fetch_package(pack["package"], pack["version"], archives)
        sources.append({**asdict(PackSource(style, **facts)), "sha256": sha256(archive.read_bytes()).hexdigest()})
        sets[style] = pack["read"](archive)
    known = load_concepts(concepts["package"], concepts["version"], archives, skip_groups, skip_titles)
    rows = list(draw_rows(sets, track(known, description="Drawing"), size, min_packs, margin, ground))
    words = {"package": concepts["package"], "version": concepts["version"], "license": "MIT"}
    write_table(Path(folder), rows, {"size": size, "margin": margin, "names": words, "sets": sources})
    return {"images": len(rows), "concepts": len({row["concept"] for row in rows}), "styles": len(sets)}
