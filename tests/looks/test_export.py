"""What `pmg-export` writes of looks: generators with their weights, measured words, the image encoder of styles."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from diffusers import UNet2DConditionModel

from exports import nodes_of
from looks import deep_codec
from pmg.api.export import copy_weights, name_weights, write_index
from pmg.api.serialization import INDEX, PARTS, read_index
from pmg.looks.models.pooled_denoiser import PooledTransformer2DModel
from pmg.models.diffusion.conditioning import Block, join


def test_the_shipped_config_gives_the_index_of_the_shipped_pipeline(compose, root, tmp_path):
    own = [
        "experiment=channels",
        "generator=looks_large",
        "inputs.text_encoder=${text_encoder}",
        "language_model.dtype=bfloat16",
    ]
    cfg = compose("study", *own)
    places = {"<assets_dir>": cfg.paths.assets_dir, "<cache_dir>": cfg.paths.cache_dir}
    nodes, copies = name_weights(nodes_of(cfg), places, copy_all=False)
    write_index(tmp_path, nodes)
    assert not copies
    written, shipped = (json.loads((folder / INDEX).read_text()) for folder in (tmp_path, root / "assets/pipeline"))
    assert [*tmp_path.iterdir()] == [tmp_path / INDEX]
    for name in (*PARTS, "preference_encoder"):
        assert written[name] == shipped[name]


def test_measured_words_are_exported(compose, tmp_path):
    thresholds = "{_target_:pmg.looks.measured_captions.Thresholds,grain:0.3}"
    cfg = compose("study", "scenario=looks", "captioner=measured", f"+captioner.thresholds={thresholds}")
    nodes, _ = name_weights(nodes_of(cfg), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    write_index(tmp_path, nodes)
    captioner = read_index(tmp_path, "")["captioner"].create()
    assert captioner.thresholds.grain == 0.3
    assert captioner(list("ab"), torch.ones(2, 3, 16, 16))[0].startswith("ground: white ground, ")


SIZES = {"sample_size": 8, "in_channels": 4, "attention_head_dim": 8}
DENOISERS = {
    "looks": partial(
        UNet2DConditionModel, **SIZES, layers_per_block=1, block_out_channels=[16], norm_num_groups=4,
        mid_block_type=None, down_block_types=["CrossAttnDownBlock2D"], up_block_types=["CrossAttnUpBlock2D"],
        cross_attention_dim=32, class_embed_type="projection", projection_class_embeddings_input_dim=64,
    ),
    "looks_transformer": partial(
        PooledTransformer2DModel, **SIZES, num_layers=1, num_attention_heads=2, caption_channels=32,
        pooled_projection_dim=64,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DENOISERS)
def test_a_generator_of_looks_is_exported_with_its_weights(compose, tmp_path, name):
    vae, denoiser = tmp_path / "vae", tmp_path / "denoiser"
    codec = deep_codec(torch.rand(4, 3, 16, 16) * 2 - 1)
    codec.autoencoder.save_pretrained(vae)
    codec.save_statistics(vae)
    DENOISERS[name]().save_pretrained(denoiser)
    folders = [f"generator.codec.folder={vae}", f"generator.denoiser.folder={denoiser}"]
    cfg = compose("study", f"generator={name}", "text_encoder=tiny", "text_encoder.width=32", *folders)
    nodes, copies = name_weights(nodes_of(cfg), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    folder = tmp_path / "pipeline"
    copy_weights(folder, copies)
    write_index(folder, nodes)
    generator = read_index(folder, "")["generator"].create()
    block = generator.text_encoder.encode(["a rocket"])
    condition = join(Block(block.tokens, block.mask, block.pooled))
    assert generator.codec.encode(torch.zeros(1, 3, 16, 16)).shape == (1, 4, 8, 8)
    assert generator.sample([condition], [1.0], [0], steps=2).isfinite().all()
    assert not any(weight.requires_grad for weight in generator.parameters())


STYLE_ENCODER = (
    "{_target_:pmg.looks.models.style_encoder.StyleImageEncoder,folder:'${paths.assets_dir}/look_generator/style_encoder',"
    "codec:{_target_:pmg.looks.models.codec.AutoencoderDCCodec.from_folder,"
    "folder:'${paths.assets_dir}/look_generator/vae'}}"
)


def test_the_image_encoder_of_styles_is_exported(compose, tmp_path):
    cfg = compose("study", "preference_encoder=visual", f"inputs.image_encoder={STYLE_ENCODER}", "inputs.pictures=3")
    nodes, _ = name_weights(nodes_of(cfg), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    write_index(tmp_path, nodes)
    assert read_index(tmp_path, "")["inputs"].create().pictures == 3
    assert nodes["inputs"]["image_encoder"]["folder"] == "<assets_dir>/look_generator/style_encoder"


def test_a_generator_with_the_large_decoder_is_exported_and_gives_256_pixels(compose, tmp_path):
    cfg = compose("study", "generator=looks_large", "text_encoder=tiny")
    nodes, _ = name_weights(nodes_of(cfg), {"<assets_dir>": cfg.paths.assets_dir}, copy_all=False)
    codec = nodes["generator"]["codec"]
    assert codec["decoder_folder"] == "<assets_dir>/look_generator/large_decoder"
    write_index(tmp_path, nodes)
    node = read_index(tmp_path, "")["generator"].arguments["codec"]
    assert node.create().decode(torch.zeros(1, 16, 8, 8)).shape == (1, 3, 256, 256)
