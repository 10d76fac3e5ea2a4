"""``pmg-estimate``: forecasts the memory of a training before weights are loaded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pmg.configuration.instantiate import built_class, instantiate, instantiate_by_name, to_plain
from pmg.domain import PmgError
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run, tracked

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.models.diffusion.interfaces import PromptEncoder
    from pmg.models.diffusion.text_encoder import TextSizes
    from pmg.models.language.language_model import LanguageModel
    from pmg.training.memory_forecast import Estimate, MeasurableGenerator, Sizes

GIB = 2**30


@tracked
def body(cfg: DictConfig, run: Run) -> float | None:
    """Forecasts the memory of a training."""
    from pmg.training.memory_forecast import estimate_training

    estimate = estimate_training(*empty_models(cfg), instantiate_by_name(cfg.objective.module.terms))
    _show(estimate)
    run.begin()
    run.measure({"device_gib": estimate.device / GIB, "contexts_gib": estimate.contexts / GIB})
    return estimate.device / GIB


def empty_models(cfg: DictConfig) -> tuple[LanguageModel, MeasurableGenerator, dict[str, int], Sizes]:
    """Returns language model and generator without weights, the bytes of frozen weights, and the training's sizes.

    Both are built as for a training, from configs and tokenizers alone. What is made at random, and a plug-in's
    weights that pmg doesn't load, are discarded.
    """
    import torch

    from pmg.models.loading.checkpoints import without_weights
    from pmg.training.encoder_inputs import needs_contexts
    from pmg.training.memory_forecast import Sizes
    from pmg.training.token_sources import encoder_class

    with without_weights():
        generator = instantiate(cfg.generator)
        needed = ("images_at_once", "encode_pass", "frozen_models")
        if missing := [name for name in needed if not hasattr(generator, name)]:
            raise PmgError(
                f"generator can't be forecast: {type(generator).__name__} lacks {', '.join(missing)}. Add what "
                "pmg.training.memory_forecast.MeasurableGenerator asks for."
            )
        language_model = instantiate(cfg.language_model).of(generator.text_encoder)
    few_bits = cfg.language_model.get("quantization"), cfg.generator.get("quantization")
    mixed, models = "bf16" in str(cfg.trainer.precision), list(generator.frozen_models().values())
    weights = _weigh(language_model, generator, few_bits, mixed)
    if mixed and cfg.generator.get("dtype") == "float32":
        torch.nn.Module.to(models[0], torch.bfloat16)
    for model in (language_model.model, *models):
        model.to("meta")
    texts = _measure_texts(generator.text_encoder)
    encoder, inputs = (to_plain(cfg[part]) for part in ("preference_encoder", "inputs"))
    soft_tokens, kind = encoder.get("soft_tokens", 4), built_class(inputs)
    if not hasattr(kind, "blank"):
        raise PmgError(f"inputs can't be forecast: {kind.__name__} lacks blank (encoder_inputs.EncoderInputs)")
    shape = {name: value for name, value in encoder.items() if not name.startswith("_") and name != "words"}
    kept = cfg.profiles_per_user if needs_contexts(inputs) else 0
    if None in (numbers := [cfg.split_sizes[split] for split in ("train", "validation")]):
        raise PmgError("split_sizes.train and split_sizes.validation: a forecast needs numbers, and null is all users")
    sizes = Sizes(
        users=kept * sum(numbers), history_tokens=cfg.history_tokens, users_per_step=cfg.objective.users_per_step,
        draws=cfg.objective.batches.draws, soft_tokens=soft_tokens, texts=texts,
        inputs=partial(
            kind.blank, token_width=soft_tokens * texts.width, pooled_width=texts.pooled,
            options={**inputs, "llm_width": language_model.width},
        ),
        encoder=partial(encoder_class(encoder).sized, **shape),
    )  # fmt: skip
    return language_model, generator, weights, sizes


def _weigh(
    language_model: LanguageModel, generator: MeasurableGenerator, few_bits: tuple[str | None, str | None], mixed: bool
) -> dict[str, int]:  # fmt: skip
    """Returns the bytes of each frozen model on the device of a training; shared weights count once.

    `few_bits` are the quantizations of the language model, and of the generator's denoiser and text encoder. With
    `mixed`, the denoiser computes in bfloat16; one in float32 is cast in each step, and takes both.
    """
    from pmg.models.loading.device import is_kept
    from pmg.models.loading.quantization import quantized_bytes

    (own_bits, bits), counted, sizes = few_bits, set[int](), {}
    text_encoder: Any = generator.text_encoder
    for number, (name, model) in enumerate(generator.frozen_models().items()):
        sizes[name] = quantized_bytes(model, None if number else bits, counted)
        if mixed and not number and bits is None and next(model.parameters()).itemsize == 4:
            sizes[name] = sizes[name] * 3 // 2
    text_bytes = 0 if is_kept(text_encoder) else quantized_bytes(text_encoder, bits, counted)
    own = quantized_bytes(language_model.model, own_bits, counted)
    return {"language model": own, **sizes, "text encoder": text_bytes}


def _measure_texts(text_encoder: PromptEncoder) -> TextSizes:
    """Returns the sizes of the longest encoded texts; of a plug-in's text encoder those of an empty one."""
    from pmg.models.diffusion.text_encoder import FrozenTextEncoder, TextSizes

    if isinstance(text_encoder, FrozenTextEncoder):
        return text_encoder.longest()
    length, pooled = text_encoder.max_length, text_encoder.encode([""]).pooled
    return TextSizes(length, length, text_encoder.width, pooled.shape[-1])


def _show(estimate: Estimate) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("on the device", "GiB", header_style="dim")
    table.columns[1].justify = "right"
    rows = {
        **{f"{name}, frozen": size for name, size in estimate.weights.items()},
        "preference encoder, gradients, Adam": estimate.trained,
        **{f"while: {name}": size for name, size in estimate.phases.items()},
    }
    for name, size in rows.items():
        table.add_row(name, f"{size / GIB:.2f}")
    table.add_section()
    table.add_row("most at once", f"{estimate.device / GIB:.2f}", style="bold")
    console = Console()
    console.print(table)
    console.print(f"contexts, in the cache on disk: {estimate.contexts / GIB:.2f} GiB")


main = partial(launch, "estimate", body)

if __name__ == "__main__":
    main()
