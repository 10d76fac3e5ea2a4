"""Both noise processes: targets, weights, times, and samplers that lead back to the clean latents."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler

from pmg.models.diffusion.noise_processes import FlowMatching, NoisySample, VariancePreserving, denoising_loss


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def scheduler(kind):
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type=kind, clip_sample=False)


PROCESSES = [FlowMatching(), *(VariancePreserving(scheduler(kind)) for kind in ("epsilon", "sample", "v_prediction"))]
LATENTS = torch.randn(6, 2, 4, 4, generator=rng(1))
NOISE = torch.randn(6, 2, 4, 4, generator=rng(2))


def clean_of(process, sample, times):
    """The clean latents that a perfect prediction implies (Ho et al. 2020; Salimans & Ho 2022; Liu et al. 2023)."""
    if isinstance(process, FlowMatching):
        return sample.noisy - times.view(-1, 1, 1, 1) * sample.target
    alpha = process.scheduler.alphas_cumprod[times].view(-1, 1, 1, 1)
    return {
        "sample": sample.target,
        "epsilon": (sample.noisy - (1 - alpha).sqrt() * sample.target) / alpha.sqrt(),
        "v_prediction": alpha.sqrt() * sample.noisy - (1 - alpha).sqrt() * sample.target,
    }[process.scheduler.config.prediction_type]


@pytest.mark.parametrize("process", PROCESSES)
def test_the_target_leads_back_to_the_clean_latents(process):
    times = process.sample_times(6, rng())
    sample = process.add_noise(LATENTS, NOISE, times)
    assert torch.allclose(clean_of(process, sample, times), LATENTS, atol=2e-3)
    assert torch.equal(denoising_loss(sample.target, sample), torch.zeros(6))
    assert (denoising_loss(sample.target + 1, sample) - sample.weight).abs().max() < 1e-5


def test_the_error_is_a_mean_over_all_but_the_samples():
    other = LATENTS + 2 * torch.tensor([0, 1, 0, 0, 0, 0]).view(6, 1, 1, 1)
    loss = denoising_loss(other, NoisySample(LATENTS, LATENTS, torch.full((6,), 0.5)))
    assert torch.allclose(loss, torch.tensor([0.0, 2.0, 0.0, 0.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("epsilon", [1.0, 0.5]), ("v_prediction", [2 / 3, 5 / 11]), ("sample", [2.0, 5.0])],
)
def test_weights_are_those_of_min_snr(kind, expected):
    betas = [1 / 11, 4 / 15]  # signal-to-noise ratios of 10 and 2
    process = VariancePreserving(DDPMScheduler(2, trained_betas=betas, prediction_type=kind), snr_gamma=5.0)
    weight = process.add_noise(LATENTS[:2], NOISE[:2], torch.tensor([1, 0])).weight
    assert torch.allclose(weight, torch.tensor(expected), atol=1e-5)


def test_the_flow_is_a_straight_path_from_latents_to_noise():
    flow = FlowMatching()
    start, end = (flow.add_noise(LATENTS, NOISE, torch.full((6,), time)).noisy for time in (0.0, 1.0))
    assert torch.equal(start, LATENTS)
    assert torch.allclose(end, NOISE)
    times = flow.sample_times(4000, rng())
    assert 0 < times.min() < times.max() < 1
    assert float(times.median()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("flow", [FlowMatching(), FlowMatching(sampling_shift=2.0)])
@pytest.mark.parametrize("steps", [1, 4, 12])
def test_the_flows_sampler_follows_a_straight_path_exactly(flow, steps):
    sampler = flow.new_sampler()
    sampler.set_timesteps(steps)
    latents = NOISE * sampler.init_noise_sigma
    for time in sampler.timesteps:
        latents = sampler.step(NOISE - LATENTS, time, latents).prev_sample
    assert torch.allclose(latents, LATENTS, atol=5e-3)  # it starts at 0.999, not at 1


def test_times_of_training_are_shifted_towards_noise():
    plain, moved = (FlowMatching(mean=0.5, shift=shift).sample_times(100, rng()) for shift in (1.0, 3.0))
    torch.testing.assert_close(moved, 3 * plain / (1 + 2 * plain))
    assert float(plain.logit().mean()) == pytest.approx(0.5, abs=0.3)


def test_the_sampler_of_diffusion_begins_at_the_last_time():
    sampler = VariancePreserving(scheduler("epsilon")).new_sampler()
    sampler.set_timesteps(4)
    assert sampler.timesteps.tolist() == [999, 749, 499, 249]


def test_the_samplers_times_are_those_of_training():
    sampler = FlowMatching().new_sampler()
    sampler.set_timesteps(8)
    assert 990 < float(sampler.timesteps[0]) <= 1000
    assert float(FlowMatching().model_times(torch.tensor([0.5]))) == 500


@pytest.mark.parametrize(
    ("flow", "shift"),
    [(FlowMatching(), 1), (FlowMatching(shift=3.0), 3), (FlowMatching(shift=3.0, sampling_shift=2.0), 2)],
)
def test_the_samplers_times_are_shifted_as_in_training_or_by_their_own_shift(flow, shift):
    sampler = flow.new_sampler()
    sampler.set_timesteps(4)
    times = torch.tensor([1.0, 0.75, 0.5, 0.25])
    wanted = shift * times / (1 + (shift - 1) * times)  # Esser et al. 2024, equation 23
    assert (sampler.timesteps / 1000 - wanted).abs().max() < 2e-3
