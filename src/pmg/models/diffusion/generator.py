"""The latent diffusion or flow-matching generator, composed of its parts; latents are `(B, C, h, w)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pmg.domain import PmgError
from pmg.models.diffusion.conditioning import Condition, stack
from pmg.models.diffusion.diffusers_denoiser import DiffusersDenoiser
from pmg.models.diffusion.interfaces import Capabilities, DenoisingOutputs, LatentCodec, PromptEncoder, Start
from pmg.models.diffusion.noise_processes import NoiseProcess, denoising_loss
from pmg.models.diffusion.sampling import combine, sample_latents
from pmg.models.image_passes import ImagePasses


class DiffusionGenerator(ImagePasses):
    """Implements `Generator` by a denoiser in the latent space of an autoencoder.

    `mix` guides: it mixes predictions of branches by coefficients. PmgError if denoiser and codec differ in channels.
    """

    def __init__(
        self, codec: LatentCodec, denoiser: DiffusersDenoiser, process: NoiseProcess, text_encoder: PromptEncoder,
        mix: Callable[[Sequence[Tensor], Sequence[float]], Tensor] = combine,
    ) -> None:  # fmt: skip
        super().__init__()
        channels = denoiser.latent_shape[0]
        if channels != codec.channels:
            raise PmgError(
                f"the denoiser takes {channels} channels and the autoencoder gives {codec.channels}: this is no "
                "text-to-image checkpoint (inpainting, perhaps). Use one that is."
            )
        self.codec, self.denoiser, self.process, self.text_encoder = codec, denoiser, process, text_encoder
        self.mix, self.latent_shape = mix, denoiser.latent_shape
        self.encoded_size = self.latent_shape[-1] * codec.downsampling
        self.size = self.encoded_size * codec.enlargement

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.denoiser.device

    @property
    def supports(self) -> Capabilities:
        """What the denoiser supports."""
        return replace(self.denoiser.adapter.supports, names=self.denoiser.names)

    def encode_pass(self, images: Tensor) -> Tensor:
        """Returns normalised latents `(B, C, h, w)` of images `(B, 3, H, H)` of the encoded size, on the device."""
        return self.codec.encode(images)

    def frozen_models(self) -> dict[str, nn.Module]:
        """Returns the models beside the text encoder by name, first the one that runs once a step."""
        codec = self.codec if isinstance(self.codec, nn.Module) else self.codec.autoencoder  # with its statistics
        return {"denoiser": self.denoiser.model, "autoencoder": codec}

    def decode_pass(self, latents: Tensor) -> Tensor:
        """Returns images `(B, 3, size, size)` of normalised latents, both on the weights' device."""
        return self.codec.decode(latents)

    def prepare(
        self, condition: Condition, guidance: float | None = None, reused: bool = False,
        denoiser: DiffusersDenoiser | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Returns the inputs of a denoiser, None: the generator's, for a condition, see `ConditionAdapter.prepare`.

        The condition is moved to the denoiser's device and cast once to the type in which its layers compute.
        """
        denoiser = denoiser or self.denoiser
        kind = self.device.type
        lowered = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if lowered else denoiser.dtype
        return denoiser.adapter.prepare(condition.to(self.device, dtype), guidance, reused)

    def predict(self, noisy: Tensor, times: Tensor, condition: Condition, guidance: float | None = None) -> Tensor:
        """Returns the denoiser's output for noisy latents, both `(B, C, h, w)`, float32, on its device.

        `times` `(B,)` are in the unit of the time embedding; some denoisers take `guidance`, a scale, as an input.
        """
        return self._predict(self.denoiser, noisy, times, self.prepare(condition, guidance))

    def _predict(self, denoiser: DiffusersDenoiser, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        return denoiser(noisy.to(self.device, denoiser.dtype), times.to(self.device), inputs).float()

    def sample_inputs(self, count: int, rng: torch.Generator) -> dict[str, Tensor]:
        """Returns ``noise`` `(count, C, h, w)` from N(0, 1) and ``times`` `(count,)` of the process."""
        noise = torch.randn(count, *self.latent_shape, generator=rng)
        return {"noise": noise, "times": self.process.sample_times(count, rng)}

    def loss(self, latents: Tensor, condition: Condition, inputs: Mapping[str, Tensor]) -> Tensor:
        """Returns the weighted denoising error of each sample, `(B,)`, see `Generator.loss`."""
        return self.denoising_outputs(latents, condition, inputs).loss

    def denoising_outputs(
        self, latents: Tensor, condition: Condition, inputs: Mapping[str, Tensor]
    ) -> DenoisingOutputs:  # fmt: skip
        """Adds noise, predicts and compares, see `Generator.denoising_outputs`."""
        clean, noise, times = (part.to(self.device) for part in (latents, inputs["noise"], inputs["times"]))
        sample = self.process.add_noise(clean, noise, times)
        prediction = self.predict(sample.noisy, self.process.model_times(times), condition)
        return DenoisingOutputs(denoising_loss(prediction, sample), sample.noisy, prediction, sample.target)

    @torch.no_grad()
    def sample(
        self, branches: Sequence[Condition], coefficients: Sequence[float], seeds: Sequence[int], steps: int,
        guidance: float | None = None, start: Start | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns latents `(B, C, h, w)` on the denoiser's device, see `Generator.sample`.

        All branches go through the denoiser in one batch: a step costs an evaluation of each branch and image.
        """
        noise = [torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return self.sample_from(torch.stack(noise), branches, coefficients, seeds, steps, guidance, start=start)

    @torch.no_grad()
    def sample_from(
        self, noise: Tensor, branches: Sequence[Condition], coefficients: Sequence[float], seeds: Sequence[int],
        steps: int, guidance: float | None = None, *, start: Start | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns what `sample` returns, from given noise `(B, C, h, w)`; seeds serve samplers that add noise."""
        denoiser = start.denoiser if start and start.denoiser else self.denoiser
        inputs = self.prepare(stack(branches), guidance, reused=True, denoiser=denoiser)

        def predict(noisy: Tensor, time: Tensor) -> Tensor:
            """Returns the branches' outputs combined, `(B, C, h, w)`."""
            times = time.expand(len(noisy) * len(branches))
            output = self._predict(denoiser, torch.cat([noisy] * len(branches)), times, inputs)
            return self.mix(output.chunk(len(branches)), coefficients)

        return sample_latents(predict, self.process.new_sampler(), noise.to(self.device), seeds, steps, start)

    def compile_model(self, dynamic: bool | None) -> None:
        """Compiles the denoiser on its next call, see `Generator.compile_model`."""
        self.denoiser.model.compile(dynamic=dynamic)
