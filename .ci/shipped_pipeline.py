"""Brings the index of the shipped pipeline up to date with ``conf/``, where no training is needed for it.

The reader in ``assets/pipeline`` was exported by its training; its method `pmg` has nothing of that training. Run it
after a change of ``conf/method/pmg.yaml``, ``conf/wishes/`` or ``conf/balance/read_back.yaml``; then renew the
checksum.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pmg
from pmg.api.export import name_methods, name_weights, to_index
from pmg.api.serialization import INDEX, METHODS, PREFERENCE, SECTIONS
from pmg.api.weight_locations import ASSETS
from pmg.cache import atomic_write_json
from pmg.configuration.identity import KINDS
from pmg.configuration.instantiate import to_plain

SHIPPED = Path(__file__).parent.parent / "assets" / "pipeline" / INDEX
CHOSEN = ["method=pmg", "generator=looks_large", "balance=read_back"]


def renew(index: dict) -> dict:
    """Returns an index with the method `pmg`, first of all, its sources, and the sections of today's configs."""
    cfg = pmg.compose("generate", CHOSEN)
    methods = {name: node for name, node in to_plain(cfg.method).items() if node}
    used = {node.get(argument) for node in methods.values() for argument in KINDS}
    sources = {name: node for name, node in to_plain(cfg.preference).items() if name in used}
    named = to_index(to_plain(cfg)) | name_methods(methods, sources, "", reads=True)
    named, _ = name_weights(named, {ASSETS: cfg.paths.assets_dir}, copy_all=False)
    return index | {
        **{name: named[name] for name in SECTIONS},
        METHODS: named[METHODS] | {name: node for name, node in index[METHODS].items() if name not in named[METHODS]},
        PREFERENCE: index[PREFERENCE] | named[PREFERENCE],
    }


def main() -> int:
    """Writes the index, and prints whether it changed."""
    index = json.loads(SHIPPED.read_text())
    renewed = renew(index)
    atomic_write_json(SHIPPED, renewed)
    print(f"{SHIPPED}: {'as it was' if renewed == index else 'changed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
