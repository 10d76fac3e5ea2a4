"""A config's nodes as `pmg-export` writes them."""

from __future__ import annotations

from pmg.api.export import name_encoder, to_index
from pmg.api.serialization import METHODS, PARTS, PREFERENCE, SECTIONS
from pmg.configuration.instantiate import built_class, to_plain

NO_PREFERENCE = {METHODS: {"none": {}}, PREFERENCE: {}}


def parts_of(cfg):
    """Returns the parts of a pipeline in a config."""
    homes = dict.fromkeys((*PARTS, *SECTIONS), cfg)
    return {name: to_plain(home[name]) for name, home in homes.items()}


def nodes_of(cfg):
    """Returns what the index of a pipeline says of a config's parts, with the method `none`."""
    return to_index(parts_of(cfg)) | name_encoder(built_class(cfg.preference_encoder)) | NO_PREFERENCE
