"""Builds the emoji catalogue from published icon packs: SVG in, one row an image out."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import track

from pmg.data.catalogue import write_table
from pmg.domain import PmgError
from pmg.ranges import Count

SVG_ROOT = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="0 0 {width} {height}" width="{width}" height="{height}" color="black">{body}</svg>'
)


@dataclass(frozen=True)
class Concept:
    """A thing that the icon packs draw, as the Unicode data names it."""

    slug: str
    title: str
    keywords: tuple[str, ...]
    group: str
    subgroup: str


@dataclass(frozen=True)
class IconPack:
    """One published set of drawings with everything its licence asks to be told."""

    style: str
    package: str
    version: str
    author: str
    license: str
    url: str
    sha256: str
    icons: Mapping[str, Any]

    @property
    def manifest(self) -> dict[str, str]:
        """What ships beside the images: source, version, author, licence and checksum."""
        names = ("style", "package", "version", "author", "license", "url", "sha256")
        return {name: getattr(self, name) for name in names}

    def draws(self, slug: str) -> bool:
        """Whether the pack has a drawing of this concept."""
        return slug in self.icons["icons"] or slug in self.icons.get("aliases", {})

    def svg(self, slug: str) -> str:
        """The drawing as a stand-alone SVG document, aliases followed."""
        alias = self.icons.get("aliases", {}).get(slug, {})
        icon = {**self.icons["icons"][alias.get("parent", slug)], **alias}
        width, height = (icon.get(side, self.icons.get(side, 16)) for side in ("width", "height"))
        return SVG_ROOT.format(width=width, height=height, body=icon["body"])


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


def read_members(archive: Path, names: Sequence[str]) -> dict[str, Any]:
    """Reads JSON members of a package archive.

    Raises:
        PmgError: the archive is truncated or lacks a member.
    """
    try:
        with tarfile.open(archive) as tar:
            return {name: json.load(tar.extractfile(f"package/{name}")) for name in names}
    except (tarfile.TarError, EOFError, OSError, KeyError) as error:
        raise PmgError(f"{archive} is damaged ({error}); delete it and run `make catalogue` again") from None


def load_pack(style: str, package: str, version: str, folder: Path) -> IconPack:
    """Fetches one icon pack and reads its drawings and licence."""
    archive = fetch_package(package, version, folder)
    members = read_members(archive, ["icons.json", "info.json"])
    info = members["info.json"]
    return IconPack(
        style=style, package=package, version=version, author=info["author"]["name"],
        license=info["license"]["spdx"], url=info["author"]["url"],
        sha256=sha256(archive.read_bytes()).hexdigest(), icons=members["icons.json"],
    )  # fmt: skip


def slugify(label: str) -> str:
    """The icon packs' name for a Unicode label: ``"woman’s hat"`` -> ``"womans-hat"``."""
    plain = unicodedata.normalize("NFKD", re.sub(r"[’'.“”!,:()]", "", label.lower()))
    return re.sub(r"[^a-z0-9]+", "-", plain.encode("ascii", "ignore").decode()).strip("-")


def load_concepts(package: str, version: str, folder: Path, skip_groups: Sequence[str], skip: str) -> list[Concept]:
    """Reads names, keywords and topics; leaves out gendered doubles, `skip_groups` and titles matching `skip`."""
    names = ["en/data.json", "meta/groups.json"]
    members = read_members(fetch_package(package, version, folder), names)
    meta, concepts = members["meta/groups.json"], []
    for row in members["en/data.json"]:
        group = meta["groups"].get(str(row.get("group")))
        if group is None or group in skip_groups or "gender" in row or re.search(skip, row["label"]):
            continue
        title = row["label"].lower().replace("’", "'")
        keywords = tuple(tag for tag in row.get("tags", ()) if tag not in title)
        subgroup = meta["subgroups"][str(row["subgroup"])]
        concepts.append(Concept(slugify(row["label"]), title, keywords, group, subgroup))
    return sorted(concepts, key=lambda concept: concept.slug)


def rasterise(svg: str, size: int) -> Image.Image:
    """Draws an SVG on white, `size` x `size` pixels, RGB."""
    import resvg_py

    drawn = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))))
    sheet = Image.new("RGBA", (size, size), "white")
    sheet.alpha_composite(drawn.convert("RGBA"))
    return sheet.convert("RGB")


def encode(image: Image.Image) -> bytes:
    """Lossless WebP bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def draw_rows(packs: Sequence[IconPack], concepts: Iterable[Concept], size: int, min_packs: int) -> Iterator[dict]:
    """Yields one catalogue row an image, for concepts that at least `min_packs` packs draw."""
    for concept in concepts:
        drawing = [pack for pack in packs if pack.draws(concept.slug)]
        if len(drawing) < min_packs:
            continue
        for pack in drawing:
            yield {
                "id": f"{concept.slug}@{pack.style}",
                "concept": concept.slug,
                "style": pack.style,
                "title": concept.title,
                "keywords": list(concept.keywords),
                "group": concept.group,
                "subgroup": concept.subgroup,
                "image": encode(rasterise(pack.svg(concept.slug), size)),
            }


def build_catalogue(
    folder: str,
    downloads: str,
    size: Count,
    min_packs: Count,
    concepts: Mapping[str, str],
    skip_groups: Sequence[str],
    skip_titles: str,
    packs: Mapping[str, Mapping[str, str]],
) -> dict[str, int]:
    """Builds the catalogue and its manifest; bit-identical for the same sources.

    Args:
        folder: where the catalogue goes.
        downloads: where package archives are kept.
        size: pixels.
        min_packs: a concept is kept if so many packs draw it.
        concepts: package and version of the Unicode data.
        skip_groups: Unicode groups to leave out.
        skip_titles: pattern of titles to leave out.
        packs: package and version of each style.

    Returns:
        Counts of images, concepts and styles.
    """
    archives = Path(downloads)
    sets = [load_pack(style, pack["package"], pack["version"], archives) for style, pack in packs.items()]
    known = load_concepts(concepts["package"], concepts["version"], archives, skip_groups, skip_titles)
    rows = list(draw_rows(sets, track(known, description="Drawing"), size, min_packs))
    words = {"package": concepts["package"], "version": concepts["version"], "license": "MIT"}
    write_table(Path(folder), rows, {"size": size, "names": words, "sets": [pack.manifest for pack in sets]})
    return {"images": len(rows), "concepts": len({row["concept"] for row in rows}), "styles": len(sets)}
