"""The generator: padding, batches, guidance, loss and latents, on a tiny one."""

from __future__ import annotations

import torch

from pmg.models.diffusion.conditioning import join
from pmg.models.diffusion.sampling import combine

TEXTS = ["red apple", "a much longer text about a dog", "cat"]


def noise(generator, count):
    return torch.randn(count, *generator.latent_shape, generator=torch.Generator().manual_seed(0))


def sample(generator, start, branches, coefficients):
    return generator.sample_from(start, branches, coefficients, range(len(start)), 3)


def test_padding_changes_nothing(generator):
    block = generator.text_encoder.encode(TEXTS)
    longer = block.padded(block.tokens.shape[1] + 5)
    longer.tokens[:, -5:] = 100
    timesteps = torch.tensor([10, 500, 900])
    outputs = [generator.predict(noise(generator, 3), timesteps, join(b)) for b in (block, longer)]
    assert torch.allclose(*outputs, atol=1e-5)


def test_a_text_is_encoded_as_if_alone_and_pooled_to_its_mean_of_unit_variance(generator):
    together = generator.text_encoder.encode(TEXTS)
    for row, text in enumerate(TEXTS):
        alone = generator.text_encoder.encode([text])
        length = alone.tokens.shape[1]
        assert torch.allclose(together.tokens[row, :length], alone.tokens[0], atol=1e-5)
        assert torch.allclose(together.pooled[row], alone.pooled[0], atol=1e-5)
        assert not together.mask[row, length:].any()
        mean = alone.tokens[0].mean(0)
        assert torch.allclose(alone.pooled[0], mean / mean.norm() * len(mean) ** 0.5, atol=1e-5)


def test_batch_equals_loop(generator):
    condition = join(generator.text_encoder.encode(TEXTS))
    empty = join(generator.text_encoder.encode([""]).expand(3))
    start = noise(generator, 3)
    together = sample(generator, start, [empty, condition], [-1.0, 2.0])
    for row, text in enumerate(TEXTS):
        alone = join(generator.text_encoder.encode([text]))
        one = join(generator.text_encoder.encode([""]))
        image = sample(generator, start[row : row + 1], [one, alone], [-1.0, 2.0])[0]
        assert torch.allclose(image, together[row], atol=1e-4)


def test_guidance_of_one_follows_the_condition_alone(generator):
    condition = join(generator.text_encoder.encode(TEXTS))
    others = [join(generator.text_encoder.encode([text]).expand(3)) for text in ("", "ghost")]
    start = noise(generator, 3)
    outputs = [sample(generator, start, [other, condition], [0.0, 1.0]) for other in others]
    assert torch.allclose(*outputs, atol=1e-4)
    assert torch.allclose(sample(generator, start, [condition], [1.0]), outputs[0], atol=1e-4)


def test_mix_of_predictions_is_the_weighted_sum():
    outputs = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    mixed = combine(outputs.unbind(), [-1.0, 0.5, 1.5])
    assert torch.allclose(mixed, -outputs[0] + 0.5 * outputs[1] + 1.5 * outputs[2], atol=1e-6)


def test_each_sample_has_a_loss_with_its_min_snr_weight(generator, monkeypatch):
    latents, random = noise(generator, 2), noise(generator, 2).flip(0)
    condition = join(generator.text_encoder.encode(TEXTS[:2]))
    inputs = {"noise": random, "times": torch.tensor([100, 800])}
    weighted = generator.loss(latents, condition, inputs)
    monkeypatch.setattr(generator.process, "snr_gamma", None)
    plain = generator.loss(latents, condition, inputs)
    assert plain.shape == (2,)
    alphas = generator.process.scheduler.alphas_cumprod[inputs["times"]]
    snr = alphas / (1 - alphas)
    torch.testing.assert_close(weighted, plain * snr.clamp(max=5) / (snr + 1))  # of predictions of velocities


def test_latent_statistics_are_undone(generator):
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    before = generator.decode(generator.encode_images(images))
    generator.codec.autoencoder.register_to_config(latents_mean=[0.5] * 8, latents_std=[2.0] * 8)
    assert torch.allclose(generator.decode(generator.encode_images(images)), before, atol=1e-4)
