"""A pipeline folder from anybody loads weights and nothing else: hostile indices build, read and write nothing."""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import sys

import pytest

from pipelines import TINY
from plugins import WritesWhenUnpickled, write_plugin
from pmg import PersonalizedPipeline
from pmg.api.serialization import INDEX, PARTS, SECTIONS, read_index
from pmg.api.weight_locations import LOCATIONS, Locations
from pmg.configuration.instantiate import import_target
from pmg.configuration.plugins import component_targets
from pmg.domain import PmgError

CANARY = "pmg_canary"  # a module of the hostile folder, which writes a file where it is imported
TARGETS = [
    f"{CANARY}.run",
    "os.system",
    "builtins.exec",
    "torch.hub.load",
    "torch.load",
    "pmg.models.diffusion.generator.torch.hub.load",
    "pmg.models.diffusion.generator.torch.load",
    "pmg.models.language.language_model.AutoModelForCausalLM.from_pretrained",
    "pmg.data.prepared_tables.pd.read_pickle",
    "pmg.preferences.captioning.np.load",
    "pmg.cache.Path.write_text",
    "pmg.cache.atomic_write_text",
    "pmg.models.loading.gguf.shutil.rmtree",
    "pmg.models.diffusion.unet.stable_diffusion.DiffusionPipeline.from_pretrained",
    "pmg.api.components.Component",
    "pmg.preferences.captioning.MetadataCaptioner.__init__.__globals__",
    "pmg.models.vision.scorer.EmbeddedScorer.from_folder",
]
STRANGE = [None, 3, 1.5, True, [], {}, ["Scorer"], {"a": 1}, "", "scorer", "Scorer ", "__class__", "${oc.env:HOME}"]
ESCAPES = [
    "/etc/passwd", "~/weights", "../other", "<here>/../other", "<here>/a/../../b", "<here>//etc", "<here>", "<here>/",
    "<assets_dir>/../x", "<cache_dir>/../x", "<cache_dir>", "https://example.org/x", "file:///etc/passwd",
    "s3://bucket/x", "package:os", "package:torch/../../x", "package:torch.hub/x", "package:/etc/passwd",
    "C:\\weights", "<here>/a\\..\\b", "<here>/a\u0000b", "<here>/.git/x", "${oc.env:HOME}", "a/b/c", "a..b/c", "-x",
    "<here>/\n/etc", "<elsewhere>/x",
]  # fmt: skip
TEMPLATES = [
    "${oc.env:HOME}", "${oc.decode:1}", "${now:%Y}", "{history.__class__}", "{history[0]}", "{__class__}",
    "{title.__init__.__globals__}", "{title:>99999999999}", "{title!r:9}", "{0}", "{0.a}", "{a.b}",
]  # fmt: skip


@pytest.fixture(scope="module")
def tiny_index():
    return copy.deepcopy(TINY)


@pytest.fixture(scope="module")
def other_index(tiny_index):
    """One of the classes that the tiny pipeline doesn't use."""
    return other_classes(tiny_index)


def other_classes(tiny_index):
    """An index of the classes that the tiny pipeline doesn't use."""
    hub, tiny = {"source": "openai/clip", "dtype": "float32"}, {"_class_name": "TinyTextEncoder", "seed": 0}
    return {
        **tiny_index,
        "language_model": {"_class_name": "TinyLanguageModel", "seed": 0},
        "captioner": {
            "_class_name": "TaggerCaptioner", "scorer": {"_class_name": "ClipScorer", **hub}, "text_encoder": tiny,
            "vocabulary": {"colour": ["red", "blue"]}, "template": "{colour}", "content": ["colour"],
        },
        "decoding": {"_class_name": "Generate", "prompt": "{question}{example}:", "example": "", "temperature": 0.5},
        "generator": {"_class_name": "StableDiffusion", **hub, "sampler": "dpm", "size": None},
        "scorer": {"_class_name": "ClipScorer", **hub},
        "balance": {
            **tiny_index["balance"], "weighting": {"_class_name": "AttentionWeighting"},
            "alpha_rule": {"_class_name": "HistoryAlpha", "alpha": 0.5, "half": 2},
        },
    }  # fmt: skip


def places(node, path=()):
    """Yields the path of each value of an index, in mappings and lists."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, name)
        yield from places(value, (*path, name))


def changed(index, path, value):
    """Returns a copy of an index with another value at a path, and ways to wrap that value."""
    index = copy.deepcopy(index)
    node = index
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    return index


def attacks(folder):
    """Nodes that Hydra, or a loader that trusts an index, would run."""
    arguments = {
        "repo_or_dir": folder,
        "model": "run",
        "source": "local",
        "weights_only": False,
        "f": f"{folder}/x.pkl",
    }
    for target in TARGETS:
        yield {"_target_": target, **arguments}
        yield {"_target_": target, "_partial_": True, "_args_": [f"touch {folder}/canary"]}
        yield {"_target_": target, "_recursive_": False, "_convert_": "all", "filepath_or_buffer": f"{folder}/x.pkl"}
        yield [{"_target_": target, "_args_": [f"{folder}/canary", "text"]}]
        yield {"_class_name": target, **arguments}
        yield {"_class_name": [folder, target], "trust_remote_code": True}
        yield {"inner": {"deeper": [{"_target_": target}]}}


def hostile_indices(index, folder):
    """At least 200 indices: each attack somewhere, and attacks, odd classes and escapes at each place."""
    rng = random.Random(0)
    paths, nodes = [path for path in places(index) if path[0] != "_class_name"], list(attacks(folder))
    values = {path for path in paths if path[0] != "_pmg_version"}
    for path in sorted(values, key=str):
        yield from (changed(index, path, node) for node in rng.sample(nodes, 6))
    for path in sorted(values, key=str):
        old = index
        for name in path:
            old = old[name]
        if path[-1] == "_class_name":
            yield from (changed(index, path, odd) for odd in (*STRANGE, *TARGETS) if odd != old)
            for extra in ("trust_remote_code", "_target_", "_partial_", "__init__", "kwargs", "self", "cls"):
                yield changed(index, (*path[:-1], extra), True)
        elif path[-1] in LOCATIONS:
            yield from (changed(index, path, escape) for escape in ESCAPES)
        elif isinstance(old, str):
            yield from (changed(index, path, text) for text in TEMPLATES)
        elif not isinstance(old, (dict, list)):
            yield from (changed(index, path, odd) for odd in ("1", [1], {}, float("nan"), float("inf")))
    for node in nodes:
        yield changed(index, (rng.choice(["extra", "plugins", "_target_", "evidence"]),), node)
        yield changed(index, (rng.choice([*PARTS, *SECTIONS]),), node)


class Watch:
    """Notes what a process does while it is on: files that are opened to write, programs, connections, imports."""

    WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "shutil.")
    RUNS = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "ctypes.dlopen")

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self.look)  # can't be taken away again

    def look(self, event, details):
        if not self.on:
            return
        if event == "open":
            path, mode, flags = details
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else "r" not in str(mode)
            if writes or "x.pkl" in str(path) or "hubconf" in str(path):
                self.seen.append((event, path))
        elif event == "import" and details[0].split(".")[0] in (CANARY, "hubconf"):
            self.seen.append((event, details[0]))
        elif event.startswith((*self.WRITES, *self.RUNS)) or event == "pickle.find_class":
            self.seen.append((event, details))


@pytest.fixture(scope="module")
def watch():
    return Watch()


@pytest.fixture
def folder(importable):
    """A folder with code that would leave a file `canary` behind, on the path of imports."""
    canary = str(importable / "canary")
    for name in (CANARY, "hubconf"):
        (importable / f"{name}.py").write_text(f"open({canary!r}, 'w')\ndef run(*a, **k): open({canary!r}, 'w')\n")
    (importable / "x.pkl").write_bytes(pickle.dumps(WritesWhenUnpickled(canary)))
    return importable


@pytest.mark.slow
@pytest.mark.parametrize("base", ["tiny_index", "other_index"])
def test_hostile_indices_build_read_and_write_nothing(request, base, folder, watch, record_property):
    name, base = base, request.getfixturevalue(base)
    (folder / INDEX).write_text(json.dumps(base))
    read_index(folder, "cache")  # unchanged, it is taken
    count = 0
    for index in hostile_indices(base, str(folder)):
        (folder / INDEX).write_text(json.dumps(index))
        watch.on = True
        try:
            with pytest.raises(PmgError) as caught:
                PersonalizedPipeline.from_pretrained(folder, "cpu", str(folder / "cache"))
        except pytest.fail.Exception:
            raise AssertionError(f"was loaded: {difference(index, base)}") from None
        finally:
            watch.on = False
        assert "\n" not in str(caught.value)
        assert not watch.seen, difference(index, base)
        count += 1
    record_property("fault", ("hostile indices", name, f"{count} indices", "each refused in one line", ""))
    assert count > 1000
    assert not (folder / "canary").exists()
    assert not (folder / "cache").exists()


def difference(index, other):
    return {name: index.get(name) for name in {*index, *other} if index.get(name) != other.get(name)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "is damaged"),
        ('{"_class_name": "PersonalizedPipeline"', "is damaged"),
        ("[]", "no PersonalizedPipeline"),
        ("null", "no PersonalizedPipeline"),
        ('{"_class_name": ["x", "PersonalizedPipeline"]}', "no PersonalizedPipeline"),
    ],
)
def test_what_is_no_index_is_refused(tmp_path, text, message):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(PmgError, match=message):
        read_index(tmp_path, "")


def test_links_out_of_the_folder_are_refused_and_those_of_the_hubs_cache_are_not(tiny_index, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "x").write_text("x")
    folder, blobs = tmp_path / "hub" / "snapshots" / "0", tmp_path / "hub" / "blobs"
    for path in (folder, blobs):
        path.mkdir(parents=True)
    (blobs / "1").write_text(json.dumps(tiny_index))
    (folder / INDEX).symlink_to("../../blobs/1")
    read_index(folder, "")
    for target in (secret, secret / "x", "../../../secret/x", "/etc/passwd", "link"):
        (folder / "link").symlink_to(target)
        with pytest.raises(PmgError, match=r"link leads out|is a link that leads out|can't be followed"):
            read_index(folder, "")
        (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(PmgError, match="neither file nor folder"):
        read_index(folder, "")


def test_a_folder_here_is_not_taken_for_an_id_of_the_hub(other_index, tmp_path, monkeypatch):
    (tmp_path / INDEX).write_text(json.dumps(other_index))
    monkeypatch.chdir(tmp_path)
    assert read_index(tmp_path, "")["scorer"].arguments["source"] == "openai/clip"
    (tmp_path / "openai" / "clip").mkdir(parents=True)
    with pytest.raises(PmgError, match="leads elsewhere: 'openai/clip'"):
        read_index(tmp_path, "")


@pytest.mark.parametrize("kind", LOCATIONS.values())
def test_locations_out_of_the_folders_of_a_pipeline_are_refused(kind, tmp_path):
    places = Locations(tmp_path / "here", tmp_path / "assets", tmp_path / "cache")
    assert places.resolve(kind, "key", "<cache_dir>/a/b") == str(tmp_path / "cache" / "a" / "b")
    for text in ESCAPES:
        with pytest.raises(PmgError, match="key leads elsewhere"):
            places.resolve(kind, "key", text)


def test_adapters_and_shards_from_elsewhere_are_refused(tiny_index, tmp_path):
    (tmp_path / INDEX).write_text(json.dumps(tiny_index))
    for name in ("model.safetensors.index.json", "model.safetensors.index.fp16.json"):
        shards = tmp_path / name
        for names, message in (({"a": "../x.safetensors"}, "outside its folder"), ("x", "is damaged")):
            shards.write_text(json.dumps({"weight_map": names}))
            with pytest.raises(PmgError, match=message):
                read_index(tmp_path, "")
        shards.unlink()
    shards.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    read_index(tmp_path, "")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(PmgError, match="adapter"):
        read_index(tmp_path, "")


def test_each_text_of_a_constructor_is_known_to_be_a_path_or_not():
    """A new parameter that names files must be checked as one."""
    texts = {
        "dtype", "name", "template", "line", "caption", "target_prefix", "target_question", "negative_prompt",
        "dislike_template", "chat_template", "turn", "prompt", "integrate",
        "example", "quantization", "sampler", "device", "question",
        "placement", "map_start", "distilled_from",
    }  # fmt: skip
    from pmg.api.components import _parameters

    for part, registered in component_targets().items():
        for target in registered.values():
            build = import_target(part, target)
            found = {
                name for name, parameter in _parameters(build).items() if parameter.annotation in (str, str | None)
            }
            assert found <= texts | set(LOCATIONS), build


@pytest.fixture
def plugin(importable):
    """The canary of an installed plug-in."""
    return write_plugin(importable, "pmg_test_plugin")


def with_decoder(index, folder, name, **arguments):
    (folder / INDEX).write_text(json.dumps({**index, "decoding": {"_class_name": name, **arguments}}))
    return folder


def test_a_plug_ins_component_needs_the_callers_trust(tiny_index, tmp_path, plugin):
    folder = with_decoder(tiny_index, tmp_path, "pmg_test_plugin.LastOptions", count=2)
    with pytest.raises(PmgError, match=r"decoding\._class_name is code of another.*trust=\['pmg_test_plugin'\]"):
        PersonalizedPipeline.from_pretrained(folder, "cpu")
    with pytest.raises(PmgError, match="is code of another package"):
        read_index(folder, "", trust=["another"])
    assert not plugin.exists()
    parts = read_index(folder, "", trust=["pmg_test_plugin"])
    assert plugin.exists()
    assert parts["decoding"].create().count == 2


@pytest.mark.parametrize(
    "name", ["run.__globals__", "Path.write_text", "Path", "dataclass", "os.system", "nothing", "LastOptions.__call__"]
)
def test_trust_reaches_the_plug_ins_own_classes_and_no_further(tiny_index, tmp_path, plugin, name):
    folder = with_decoder(tiny_index, tmp_path, f"pmg_test_plugin.{name}")
    with pytest.raises(PmgError, match=r"is not allowed|outside the allowed|is no class|can't find"):
        read_index(folder, "", trust=["pmg_test_plugin"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": "x"}, "decoding.count can't be 'x'"),
        ({"cuont": 1}, "decoding.cuont is no argument of decoding; did you mean 'count'"),
        ({"count": {"_target_": "os.system"}}, "decoding.count can't hold a key that begins with '_'"),
    ],
)
def test_arguments_of_a_plug_in_are_checked(tiny_index, tmp_path, plugin, arguments, message):
    folder = with_decoder(tiny_index, tmp_path, "pmg_test_plugin.LastOptions", **arguments)
    with pytest.raises(PmgError, match=message):
        read_index(folder, "", trust=["pmg_test_plugin"])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_class_name": "pmg_test_plugin.Encoder"}, None),
        ({"_class_name": "PreferenceEncoder"}, None),
        ({"_class_name": "another.Encoder"}, "is code of another package"),
        ({"_class_name": "pmg_test_plugin.LastOptions"}, "is no model of diffusers"),
        ({"_class_name": "pmg_test_plugin.run"}, "is no model of diffusers"),
        ({"_class_name": "diffusers.UNet2DConditionModel"}, "is not allowed"),
        ({"_class_name": "PreferenceEncoder", "soft_tokens": 3}, "with _class_name alone"),
        ("PreferenceEncoder", "with _class_name alone"),
    ],
)
def test_class_of_the_encoder_is_pmgs_or_a_trusted_plug_ins(tiny_index, tmp_path, plugin, node, message):
    (tmp_path / INDEX).write_text(json.dumps({**tiny_index, "preference_encoder": node}))
    if message is None:
        name = node["_class_name"].rpartition(".")[2]
        assert read_index(tmp_path, "", trust=["pmg_test_plugin"])["preference_encoder"].__name__ == name
    else:
        with pytest.raises(PmgError, match=message):
            read_index(tmp_path, "", trust=["pmg_test_plugin"])


@pytest.mark.parametrize("name", ["os", "torch", "pmg", "builtins", "no_such_module", "a.b"])
def test_only_plug_ins_are_trusted(tmp_path, name):
    with pytest.raises(PmgError, match="plugins: "):
        PersonalizedPipeline.from_pretrained(tmp_path, "cpu", trust=[name])


def test_trust_in_a_plug_in_lets_no_hostile_index_in(tiny_index, folder, watch, plugin):
    for number, index in enumerate(hostile_indices(tiny_index, str(folder))):
        if number % 40:
            continue
        (folder / INDEX).write_text(json.dumps(index))
        watch.on = True
        try:
            with pytest.raises(PmgError):
                PersonalizedPipeline.from_pretrained(folder, "cpu", str(folder / "cache"), trust=["pmg_test_plugin"])
        finally:
            watch.on = False
        assert not watch.seen
    assert not plugin.exists()
