"""The identity of a run: the values that decide its result, its spec (`pmg.configuration.keys`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pmg.cache import Cache
from pmg.configuration.keys import find_key
from pmg.configuration.schemas import find_spec

Values = Mapping[str, Any]
"""Values of a config by dotted key."""
RUNS = ("train_run", "generate_run", "init_from")
"""Keys of the root that name runs."""
KINDS = {
    "keywords": "keywords", "compared": "keywords", "soft_tokens": "soft tokens", "negative": "keywords",
    "references": "reference images", "image": "images", "start": "images",
}  # fmt: skip
"""What the preference source that an argument of a method names has to give."""
_REFERENCE = re.compile(rf"method\.[^.]+\.(?:{'|'.join(KINDS)})")
_SOURCE_RUN = re.compile(r"preference\.[^.]+\.run")
# groups whose entries may be added and left out while the others' results remain
_ARMS = dict.fromkeys(("generate", "study"), ("method", "preference"))
_ARMS["evaluate"] = ("generate_run.method", "generate_run.preference")
SCHEDULE, CONSTANT = "lr_scheduler._target_", "pmg.training.optim.constant"


def names_run(key: str) -> bool:
    """Returns whether a dotted key names a run, whose identity replaces its folder in that of another."""
    return key in RUNS or _SOURCE_RUN.fullmatch(key) is not None


def used_sources(values: Values) -> set[str]:
    """Returns the names of the preference sources that methods use, from a config's values."""
    return {str(value) for key, value in values.items() if value and _REFERENCE.fullmatch(key)}


def decides_result(command: str, key: str) -> bool:
    """Returns whether a dotted key decides a command's result; so does one that its schema doesn't have."""
    return find_key(find_spec(command), key) is not False


def select_result(command: str, values: Values) -> dict[str, Any]:
    """Returns the values of a whole config that decide a result, null values left out."""
    kept = {key: value for key, value in values.items() if decides_result(command, key)}
    if values.get("shard.index") is not None:
        kept["shard.count"] = values.get("shard.count")  # the shard's content depends on it
    if command == "generate":
        others = {"train", "validation", "test"} - {values.get("split")}
        unread = {f"{group}.{name}" for group in ("split_sizes", "targets", "history_items") for name in others}
        kept = {key: value for key, value in kept.items() if key not in unread}
    used = used_sources(values)
    return {
        key: value
        for key, value in kept.items()
        if value is not None and not (key.startswith("preference.") and key.split(".")[1] not in used)
    }


def hash_values(values: Values) -> str:
    """Returns a sha256 of values, equal on every machine."""
    return Cache.key(values=dict(values))


def hash_images(values: Values) -> str:
    """Returns a hash of what decides every image of a generation, beside its method and preference sources."""
    kinds = ("method", "preference", "shard", *RUNS)
    return hash_values({key: value for key, value in values.items() if key.partition(".")[0] not in kinds})


def find_differences(command: str, old: Values, new: Values) -> dict[str, tuple[Any, Any]]:
    """Returns the old and new values by which a run can't be resumed in the folder of another.

    Allowed changes are left out: methods and preference sources that only one of them has, and the length of a
    training whose learning rate doesn't depend on it.
    """
    keys = dict.fromkeys((*old, *new))
    differ = {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}
    return {key: pair for key, pair in differ.items() if not _may_change(command, key, old, new)}


def _may_change(command: str, key: str, old: Values, new: Values) -> bool:
    for group in _ARMS.get(command, ()):
        if key.startswith(f"{group}."):
            entry = f"{group}.{key.removeprefix(f'{group}.').partition('.')[0]}."
            return not all(any(k.startswith(entry) for k in values) for values in (old, new))
    if command not in ("train", "pretrain"):
        return False
    if key == "trainer.max_steps":
        return new.get(SCHEDULE) == CONSTANT and (new.get(key) or 0) > (old.get(key) or 0)
    return key == "trainer.max_time"


def format_differences(differ: Mapping[str, tuple[Any, Any]]) -> str:
    """Returns differing keys with their old and new values, at most six, for a message."""
    listed = [f"{key}: {_show(old)} -> {_show(new)}" for key, (old, new) in list(differ.items())[:6]]
    more = [f"and {len(differ) - 6} more"] if len(differ) > 6 else []
    return ", ".join([*listed, *more])


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}…{text[-16:]}"
