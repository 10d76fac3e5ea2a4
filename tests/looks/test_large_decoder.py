"""The decoder to larger pictures: shapes, the trunk's weights, training, the codec and the generator with it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from PIL import Image
from torch import nn

from looks import SPACE, deep_codec, fit_stage
from pmg.domain import PmgError
from pmg.looks.artwork import encode
from pmg.looks.catalogue import write_table
from pmg.looks.drawings import LookData
from pmg.looks.edge_measures import edge_width, flat_deviation, measure_edges
from pmg.looks.finishes import Finish
from pmg.looks.models.codec import AutoencoderDCCodec
from pmg.looks.models.large_decoder import FACTOR, LargeDecoder
from pmg.looks.stages.large_decoder import DrawingPairs, LargeDecoderTraining, LookLargeDecoderStage
from pmg.looks.stages.pretraining import save_half
from pmg.training.callbacks import StepSeed
from pmg.training.optim import adamw, constant

SIZE = 16  # of small pictures
ARTISTS = ("one", "two", "three")


def noise(count, *shape):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def codec():
    return deep_codec(noise(20, 3, SIZE, SIZE), widths=(8, 16, 16))


def build(autoencoder):
    torch.manual_seed(0)
    return LargeDecoder.from_autoencoder(autoencoder, SIZE, colours=3, details=4, blocks=1)


def disc(size, radius, edge=1.0):
    """A white disc on black, `(1, 3, size, size)` in [-1, 1], whose edge rises within so many pixels."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    away = torch.hypot(x - size / 2, y - size / 2)
    return (((radius - away) / edge + 0.5).clamp(0, 1) * 2 - 1).expand(1, 3, -1, -1)


def write_drawings(folder, size):
    """A catalogue of discs by three artists, of different radius for each."""
    rows = []
    for number in range(12):
        for place, artist in enumerate(ARTISTS):
            alpha = (disc(size, size * (0.2 + 0.08 * place))[0, :1] + 1) / 2
            pixels = torch.cat([torch.full((3, size, size), number / 12), alpha]).permute(1, 2, 0)
            image = Image.fromarray((pixels * 255).byte().numpy(), "RGBA")
            names = dict.fromkeys(("concept", "title", "group"), f"thing {number}")
            rows.append(
                {"id": f"{number}@{artist}", **names, "style": artist, "keywords": [], "subgroup": "disc",
                 "image": encode(image)}
            )  # fmt: skip
    write_table(folder, rows, {})
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_drawings(tmp_path_factory.mktemp("small"), SIZE)
    return LookData(folder, None, SPACE, ["three"], 0)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return write_drawings(tmp_path_factory.mktemp("large"), FACTOR * SIZE)


def test_pictures_have_four_times_the_side_and_depend_on_their_own_latents(codec):
    decoder, latents = build(codec.autoencoder).eval(), noise(2, 4, 4, 4)
    with torch.no_grad():
        both = decoder(latents)
        assert both.shape == (2, 3, FACTOR * SIZE, FACTOR * SIZE)
        assert torch.equal(both, decoder(latents))
        torch.testing.assert_close(decoder(latents[1:]), both[1:])


def test_the_trunk_begins_as_the_autoencoders_decoder_but_for_its_last_convolution(codec):
    decoder = build(codec.autoencoder)
    with torch.no_grad():
        decoder.trunk.conv_out = nn.Identity()
        features, _ = decoder._features(latents := noise(2, 4, 4, 4))
        torch.testing.assert_close(
            codec.autoencoder.decoder.conv_out(features), codec.autoencoder.decode(latents).sample
        )


def test_a_codec_with_it_encodes_small_pictures_and_decodes_large_ones(codec, tmp_path):
    codec.autoencoder.save_pretrained(tmp_path / "vae")
    codec.save_statistics(tmp_path / "vae")
    save_half(build(codec.autoencoder), str(tmp_path / "large"))
    plain = AutoencoderDCCodec.from_folder(tmp_path / "vae")
    large = AutoencoderDCCodec.from_folder(tmp_path / "vae", str(tmp_path / "large"))
    latents = plain.encode(noise(3, 3, SIZE, SIZE))
    assert torch.equal(large.encode(noise(3, 3, SIZE, SIZE)), latents)
    assert (plain.decode(latents).shape[-1], large.decode(latents).shape[-1]) == (SIZE, FACTOR * SIZE)
    assert (plain.enlargement, large.enlargement) == (1, FACTOR)
    assert not any(weight.requires_grad for weight in large.parameters())


class Mean(nn.Module):
    """A distance in the place of LPIPS."""

    def forward(self, a, b):
        return (a - b).square().mean((1, 2, 3))


def stage(codec, large, folder):
    codec.autoencoder.save_pretrained(folder / "vae")
    codec.save_statistics(folder / "vae")
    training = partial(LargeDecoderTraining, optimizer=adamw(3e-3), lr_scheduler=constant, crop=32)
    return LookLargeDecoderStage(
        str(folder / "model"), str(folder / "vae"), large, build, Mean(), training, batch_size=4, saved_gain=5.0
    )


def test_a_resumed_training_equals_an_uninterrupted_one(codec, data, large, tmp_path):
    trained = {}
    for name, lengths in (("whole", [4]), ("parts", [2, 4])):
        (tmp_path / name).mkdir()
        for steps in lengths:
            made = stage(codec, large, tmp_path / name)
            start = torch.cat([weight.detach().flatten() for weight in made.decoder.parameters()])
            fit_stage(made, data, tmp_path / name, steps, StepSeed(0))
        trained[name] = torch.cat([weight.detach().flatten() for weight in made.decoder.parameters()])
    torch.testing.assert_close(trained["parts"], trained["whole"])
    assert (trained["whole"] - start).abs().max() > 1e-4


def test_its_quality_is_measured_on_held_out_drawings(codec, data, large, tmp_path):
    made = stage(codec, large, tmp_path)
    quality = made.save_and_evaluate(made.build(data, 0), data)
    assert set(quality) >= {"l1", "lpips", "edge_width", "true_edge_width", "flat_deviation"}
    saved = LargeDecoder.from_pretrained(tmp_path / "model")
    assert saved.config.gain == 5
    latents = noise(1, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(saved.float()(latents), made.decoder(latents))


def test_both_sizes_show_the_same_picture(data, large):
    pairs = DrawingPairs(data, large)
    finish = Finish(outline=3.0, ground=(0.2, 0.4, 0.6))
    mirrored = torch.tensor([False, True])
    small, big = pairs.pictures(torch.tensor([0, 4]), [finish, finish], mirrored)
    assert big.shape == (2, 3, FACTOR * SIZE, FACTOR * SIZE)
    assert (nn.functional.avg_pool2d(big, FACTOR) - small).abs().mean() < 0.05


def test_large_drawings_of_another_size_or_of_few_things_are_refused(data, large, tmp_path):
    with pytest.raises(PmgError, match=f"source.size={FACTOR * SIZE}"):
        DrawingPairs(data, data.folder)
    few = LookData(data.folder, None, SPACE, ["three"], 0)
    few.drawings.items[0] = few.drawings.items[0].__class__("other@one", "other", "other", (), "disc", {})
    with pytest.raises(PmgError, match="lacks 1 drawings"):
        DrawingPairs(few, large)


@pytest.mark.parametrize("edge", [2.0, 4.0, 6.0])
def test_the_width_of_an_edge_is_four_fifths_of_its_ramp(edge):
    assert edge_width(disc(128, 40, edge)) == pytest.approx(0.8 * edge, abs=0.35)
    found = measure_edges(disc(128, 40, edge), disc(128, 40))
    assert found["edge_width"] == pytest.approx(0.8 * edge, abs=0.35)
    assert found["true_edge_width"] == pytest.approx(edge_width(disc(128, 40)), abs=0.05)
    assert found["edges_found"] == 1
    lost = measure_edges(torch.zeros(1, 3, 128, 128), disc(128, 40))
    assert lost["edges_found"] == 0


def test_flat_areas_are_those_of_the_truth():
    true = disc(64, 20)
    assert flat_deviation(true, true) == pytest.approx(0, abs=1e-3)
    mottled = true + 4 / 127.5 * torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
    assert flat_deviation(mottled, true) == pytest.approx(4, rel=0.05)
