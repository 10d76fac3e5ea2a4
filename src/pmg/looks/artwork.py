"""Builds the emoji catalogue from published icon packs: one row an image."""

from __future__ import annotations

import json
import re
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from pmg.configuration.ranges import Count, CountOrZero, Side
from pmg.domain import PmgError
from pmg.looks.catalogue import write_table
from pmg.looks.icon_packs import Concept, IconPack, read_member
from pmg.models.vision.pictures import to_file
from pmg.progress import track


@dataclass(frozen=True)
class PackSource:
    """One published set of drawings: its npm package and the facts that its licence demands."""

    style: str
    package: str
    version: str
    author: str
    license: str
    url: str


def fetch_package(name: str, version: str, folder: Path) -> Path:
    """Returns the path of an npm package's archive in `folder`, downloaded if need be; PmgError if npm can't do it."""
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


def slugify(label: str) -> str:
    """Returns the icon packs' name for a Unicode label: ``"woman’s hat"`` -> ``"womans-hat"``."""
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


def encode(image: Image.Image) -> bytes:
    """Returns lossless WebP bytes."""
    return to_file(image, "WEBP", lossless=True, quality=75, method=4)  # method 6: 40 times slower, 1 % smaller


def framed(image: Image.Image, margin: int, ground: str | None = None) -> Image.Image:
    """Returns the image with `margin` pixels on each side, RGBA, or RGB on a `ground` of one colour."""
    sheet = Image.new("RGBA", (image.width + 2 * margin, image.height + 2 * margin), ground or (0, 0, 0, 0))
    sheet.alpha_composite(image, (margin, margin))
    return sheet.convert("RGB") if ground else sheet


def draw_rows(
    packs: Mapping[str, IconPack], concepts: Iterable[Concept], size: int, min_packs: int, margin: int = 0,
    ground: str | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yields one catalogue row an image, for concepts that at least `min_packs` packs draw."""
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
    folder: str, downloads: str, size: Side, margin: CountOrZero, min_packs: Count, *, concepts: Mapping[str, str],
    skip_groups: Sequence[str], skip_titles: str, packs: Mapping[str, Mapping[str, Any]], ground: str | None = None,
) -> dict[str, int]:  # fmt: skip
    """Builds the catalogue and its manifest, bit-identical for the same sources; returns counts.

    It goes into `folder`, package archives into `downloads`. Drawings have `size` pixels a side, and a `margin` for
    outlines. A concept is kept if `min_packs` draw it. `concepts` are package and version of the Unicode data, without
    `skip_groups` and titles of the pattern `skip_titles`; `packs` of each style package, version, author, license and
    url, and `read`, which builds the `IconPack` of an archive. `ground` is the colour behind drawings; None: none.
    """
    archives = Path(downloads)
    sources, sets = [], {}
    for style, pack in packs.items():
        facts = {name: value for name, value in pack.items() if name != "read"}
        archive = fetch_package(pack["package"], pack["version"], archives)
        sources.append({**asdict(PackSource(style, **facts)), "sha256": sha256(archive.read_bytes()).hexdigest()})
        sets[style] = pack["read"](archive)
    known = load_concepts(concepts["package"], concepts["version"], archives, skip_groups, skip_titles)
    rows = list(draw_rows(sets, track(known, "Drawing"), size, min_packs, margin, ground))
    words = {"package": concepts["package"], "version": concepts["version"], "license": "MIT"}
    write_table(Path(folder), rows, {"size": size, "margin": margin, "names": words, "sets": sources})
    return {"images": len(rows), "concepts": len({row["concept"] for row in rows}), "styles": len(sets)}
