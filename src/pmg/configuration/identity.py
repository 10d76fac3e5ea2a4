"""The role of each config value in a command: a table of the values that decide its result.

Hashes, resuming, skipping of completed runs, messages of refusals, and varied keys of reports depend on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pmg.cache import Cache
from pmg.configuration.composition import other_keys

Values = Mapping[str, Any]
"""Values of a config by dotted key."""


class Role(StrEnum):
    """The role of a config value in a command.

    Attributes:
        RESULT: decides the command's result.
        EXECUTION: decides how and where the result is computed, and what is logged.
        DESTINATION: a folder, or the name of the run.
        UNUSED: has no effect: it is read by another command, or through interpolations only.
    """

    RESULT = "result"
    EXECUTION = "execution"
    DESTINATION = "destination"
    UNUSED = "unused"


def _roles(**keys: str) -> dict[str, Role]:
    return {key: Role[role.upper()] for role, listed in keys.items() for key in listed.split()}


EVERY = _roles(
    result="seed dtype",
    execution="device compile keep_contexts shard.count logger plugins",  # the classes that it allows are in the rest
    destination="""name run_dir results_dir paths encoder.language_model.cache_dir trainer.default_root_dir
        callbacks.checkpoint.dirpath callbacks.best_checkpoint.dirpath""",
)
READING = _roles(
    result="data scenario captioner decoding text_encoder encoder",
    execution="captioner.device",
    unused="scorer",  # captioners and encoders that look hold it themselves
)
TRAINING = _roles(
    result="""callbacks.seed callbacks.early_stopping callbacks.best_checkpoint trainer._target_ trainer.precision
        trainer.max_epochs trainer.max_steps trainer.max_time trainer.limit_val_batches trainer.gradient_clip_val
        trainer.accumulate_grad_batches trainer.fast_dev_run""",
    execution="""callbacks trainer.accelerator trainer.devices trainer.num_nodes trainer.strategy
        trainer.use_distributed_sampler trainer.deterministic trainer.detect_anomaly trainer.val_check_interval
        trainer.check_val_every_n_epoch trainer.num_sanity_val_steps trainer.log_every_n_steps
        trainer.enable_model_summary""",
)
EXAMPLES = {
    split: {f"{key}.{split}": Role.RESULT for key in ("split_sizes", "targets", "history_items")}
    for split in ("train", "validation", "test")
}
TRAIN = {
    **EVERY,
    **_roles(
        result="generator objective optimizer lr_scheduler init_from",
        unused="split_sizes targets history_items data.users.test",
    ),
    **READING,
    **TRAINING,
    **EXAMPLES["train"],
    **EXAMPLES["validation"],
}
GENERATE = {
    **EVERY,
    **READING,
    **_roles(
        result="generator scorer method mismatched preference balance sampling shard.index pipeline split",
        execution="sheet_users",
        unused="split_sizes targets history_items train_run",
    ),
    **{key: role for keys in EXAMPLES.values() for key, role in keys.items()},  # of `split` alone, see `select_result`
}
EVALUATE = EVERY | _roles(result="metrics comparison generate_run sheet_users shard.index")


def _find(table: Mapping[str, Role], key: str) -> Role | None:
    """Returns the role of a dotted key or of its nearest parent in the table; None without either."""
    while key and key not in table:
        key = key.rpartition(".")[0]
    return table.get(key)


def _together(*tables: Mapping[str, Role]) -> dict[str, Role]:
    """Returns the roles in a command that runs several others: of each key the first role in the order of `Role`."""
    keys = {key for table in tables for key in table}
    found = {key: [role for table in tables if (role := _find(table, key))] for key in keys}
    return {key: min(roles, key=list(Role).index) for key, roles in found.items()}


COMMANDS: dict[str, dict[str, Role]] = {
    "prepare": EVERY | _roles(result="source", destination="source.folder source.downloads", unused="data seed"),
    "pretrain": EVERY
    | TRAINING
    | _roles(
        result="data stage optimizer lr_scheduler",
        destination="card into full_steps",
        execution="picture",
        unused="text_encoder",
    ),
    "keywords": EVERY
    | READING
    | _roles(
        result="splits users attribute history_items later_items",
        unused="encoder.preference_encoder encoder.inputs",
    ),
    "train": TRAIN,
    "generate": GENERATE,
    "evaluate": EVALUATE,
    "study": _together(TRAIN, GENERATE, EVALUATE),
    "export": EVERY
    | _roles(
        result="train_run copy_frozen half results title license balance sampling",
        destination="folder push_to private",
        unused="seed",
    ),
    "survey": EVERY
    | _roles(
        result="""generate_run methods design texts sample_size analyse survey evaluation comparison allowed_failures
            export delete serve""",
        execution="host port",
    ),
    "app": EVERY
    | _roles(result="data scenario pipeline users pictures preference_weights", execution="host port waiting"),
    "estimate": TRAIN | _roles(result="history_tokens profiles_per_user"),
}
RUNS = ("train_run", "generate_run", "init_from")
"""Keys of the root that name runs."""
_REFERENCE = re.compile(r"method\.[^.]+\.(?:keywords|soft_tokens|negative|references)")
_SOURCE_RUN = re.compile(r"preference\.[^.]+\.run")


def names_run(key: str) -> bool:
    """Returns whether a dotted key names a run, whose identity replaces its folder in that of another."""
    return key in RUNS or _SOURCE_RUN.fullmatch(key) is not None


def used_sources(values: Values) -> set[str]:
    """Returns the names of the preference sources that methods use, from a config's values."""
    return {str(value) for key, value in values.items() if value and _REFERENCE.fullmatch(key)}


def find_role(command: str, key: str) -> Role | None:
    """Returns the role of a dotted key in a command; None if its table doesn't have it."""
    if key.partition(".")[0] in other_keys(command):
        return Role.UNUSED
    return _find(COMMANDS[command], key)


def select_result(command: str, values: Values) -> dict[str, Any]:
    """Returns the values that decide a command's result; keys without a role count as such.

    Args:
        command: the verb.
        values: of the whole config; null ones are left out.
    """
    kept = {key: value for key, value in values.items() if find_role(command, key) in (None, Role.RESULT)}
    if values.get("shard.index") is not None:
        kept["shard.count"] = values.get("shard.count")  # the shard's content depends on it
    if command == "generate":
        others = {key for split, keys in EXAMPLES.items() if split != values.get("split") for key in keys}
        kept = {key: value for key, value in kept.items() if key not in others}
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
    """Returns a hash of what decides every image of a generation, beside its method and preference sources.

    Args:
        values: that decide the generation's result.
    """
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


# groups whose entries may be added and left out while the others' results remain
_ARMS = dict.fromkeys(("generate", "study"), ("method", "preference"))
_ARMS["evaluate"] = ("generate_run.method", "generate_run.preference")
SCHEDULE, CONSTANT = "lr_scheduler._target_", "pmg.training.optim.constant"


def format_differences(differ: Mapping[str, tuple[Any, Any]], most: int = 6) -> str:
    """Returns differing keys with their old and new values, for a message."""
    listed = [f"{key}: {_show(old)} -> {_show(new)}" for key, (old, new) in list(differ.items())[:most]]
    more = [f"and {len(differ) - most} more"] if len(differ) > most else []
    return ", ".join([*listed, *more])


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:40]}…{text[-16:]}"
