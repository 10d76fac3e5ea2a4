"""Training that begins at another artist's picture: where sampling starts, and that it ends at the truth."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel

from looks import SPACE, fit_stage, save_codec
from pmg.domain import PmgError
from pmg.installation import find_assets
from pmg.looks.catalogue import TargetCaptions
from pmg.looks.drawings import LookData
from pmg.looks.measured_captions import MeasuringCaptioner
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.looks.models.style_encoder import StyleEncoder, StyleImageEncoder
from pmg.looks.stages.denoiser import KEEP_ALL, FixedStyleTraining, LookDenoiser
from pmg.looks.stages.pool import ITEMS, Pool
from pmg.looks.stages.pretraining import save_half
from pmg.looks.stages.start_denoiser import Sources, StartDenoiserStage, find_sources
from pmg.models.diffusion.interfaces import Start
from pmg.models.diffusion.noise_processes import FlowMatching
from pmg.models.diffusion.sampling import sample_latents
from pmg.models.diffusion.unet.denoiser import UNetDenoiser
from pmg.models.tiny_models import tiny_text_encoder
from pmg.training.optim import adamw, constant

CAPTIONER = MeasuringCaptioner("{ground}, {palette}")
WIDTH, CHANNELS, SIDE = 32, 4, 32


def parts():
    """Returns an untrained denoiser and style encoder."""
    torch.manual_seed(0)
    return UNetDenoiser(UNet2DConditionModel(
        sample_size=SIDE, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=(8, 16), layers_per_block=1,
        attention_head_dim=(1, 2), cross_attention_dim=WIDTH, norm_num_groups=4, class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * WIDTH, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )), StyleEncoder(CHANNELS, 16, 2, WIDTH, 2, stride=8)  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return LookData(f"{find_assets()}/drawings", ["animal-mammal", "tool"], SPACE, ["twemoji"], 0)


@pytest.fixture(scope="module")
def generator_folder(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    save_codec(data, folder)
    denoiser, style = parts()
    save_half(denoiser.model, str(folder / "unet"))
    save_half(style, str(folder / "style_encoder"))
    return folder


@pytest.fixture(scope="module")
def stage(generator_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = LookDenoiser(*parts(), FlowMatching())
    return StartDenoiserStage(
        str(folder / "model"), str(generator_folder), FixedStyleTraining(model, adamw(1e-2), constant, 0.9),
        tiny_text_encoder(width=WIDTH), CAPTIONER, captions=TargetCaptions("sticker"), drop=KEEP_ALL,
        pool=Pool(str(folder / "pool"), 6, 2), batch_size=8, sources=Sources(known=30, plain=0.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def rows(stage, data):
    """The batches of held-out looks."""
    return stage._read(data, "validation", 0)


def test_noise_leads_from_what_sampling_starts_from(rows, monkeypatch):
    """With the noise that a plain batch has, ``(1 - s) source + s noise`` is on the path, at time s."""
    batch = rows(torch.arange(2), torch.Generator().manual_seed(0))
    monkeypatch.setattr(rows, "plain", 1.0)
    plain = rows(torch.arange(2), torch.Generator().manual_seed(0))
    clean, sources = batch["latents"], rows.sources.float().flatten(0, 1)
    way = (sources - clean).flatten(1)
    pull = ((batch["noise"] - plain["noise"]).flatten(1) * way).sum(1) / way.square().sum(1)
    begin = (1 / (1 + pull)).view(-1, 1, 1, 1)
    assert (begin > 0.49).all()
    assert (begin < 0.91).all()
    torch.testing.assert_close(
        torch.lerp(clean, batch["noise"], begin), torch.lerp(sources, plain["noise"], begin), atol=1e-4, rtol=0
    )
    early = batch["times"] - begin.flatten()
    assert (early < 1e-4).all()
    assert 0 < (early > -1e-4).sum() < len(early)


def test_a_solver_that_is_told_the_truth_goes_there_from_the_source(rows):
    batch = rows(torch.arange(2), torch.Generator().manual_seed(1))
    clean, sources = batch["latents"], rows.sources.float().flatten(0, 1)
    process = FlowMatching()

    def predict(noisy, time):
        share = time / process.UNIT
        return (noisy - clean) / share  # what the loss asks for: noise' - clean, wherever the path is

    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    found = sample_latents(predict, process.new_sampler(), noise, range(len(clean)), 4, Start(sources, 0.5))
    torch.testing.assert_close(found, clean, atol=0.02, rtol=0)  # the last step ends just before time 0


def test_sources_are_others_drawings_and_mirrored_with_their_looks(stage, rows, data):
    pool = rows.pool
    codec = AutoencoderDCCodec.from_folder(stage.generator_folder / "vae")
    image_encoder = StyleImageEncoder(str(stage.generator_folder / "style_encoder"), codec)
    again = find_sources(pool, data, image_encoder, stage.sources.known, 0)
    assert torch.equal(again, rows.sources)
    assert again.shape == (2, ITEMS, CHANNELS, SIDE, SIDE)
    pool.remarks, remarks = ["mirrored"] * len(pool.remarks), pool.remarks
    mirrored = find_sources(pool, data, image_encoder, stage.sources.known, 0)
    pool.remarks = remarks
    assert not torch.equal(mirrored, again)


def test_the_style_encoder_stays_as_it_is(stage, data, tmp_path):
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    fit_stage(stage, data, tmp_path, 2)
    changed = {
        name.partition(".")[0] for name, value in stage.model.state_dict().items() if not value.equal(before[name])
    }
    assert changed == {"denoiser"}


def test_a_data_set_without_drawings_is_refused(stage, data, monkeypatch):
    monkeypatch.setattr("pmg.looks.stages.start_denoiser.LookData", type(None))
    with pytest.raises(PmgError, match="needs drawings by several artists"):
        stage._read(data, "validation", 0)


def test_of_half_of_the_rows_the_style_is_the_mean_of_pictures_that_are_read_alone(stage, rows):
    batch, encoder = rows(torch.arange(2), torch.Generator().manual_seed(3)), stage.model.style_encoder
    own = [encoder(picture[None, None]) for picture in batch["latents"]]
    others = [[look + place for place in range(ITEMS) if place != row] for look in (0, ITEMS) for row in range(ITEMS)]
    style = stage.module.blocks(batch)[2].tokens
    for row, present in enumerate(batch["present"]):
        turned = others[row][row % ITEMS :] + others[row][: row % ITEMS]  # a row's references begin behind it
        shown = [one for one, keep in zip(turned, present, strict=True) if keep]
        mean = torch.stack([own[one] for one in shown]).mean(0)[0]
        joint = encoder(batch["latents"][shown][None])[0]
        torch.testing.assert_close(style[row], mean if batch["alone"][row] else joint, atol=1e-4, rtol=1e-4)
    assert 0 < batch["alone"].sum() < len(style)
