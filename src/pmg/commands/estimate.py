"""``pmg-estimate``: forecasts the memory of a training before weights are loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmg.configuration.instantiate import import_target, instantiate, instantiate_by_name, to_plain
from pmg.configuration.targets import is_reserved
from pmg.domain import PmgError
from pmg.orchestration.launcher import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pmg.models.language.language_model import LanguageModel
    from pmg.models.loading.generator_family import MeasurableGenerator
    from pmg.models.meta_models import PromptSizes
    from pmg.orchestration.run import Run
    from pmg.training.memory_forecast import Estimate, Sizes

GIB = 2**30


def body(cfg: DictConfig, run: Run) -> float | None:
    """Forecasts the memory of a training."""
    from pmg.training.memory_forecast import estimate_training

    estimate = estimate_training(*empty_models(cfg), instantiate_by_name(cfg.objective.module.terms))
    _show(estimate)
    run.measure({"device_gib": estimate.device / GIB, "contexts_gib": estimate.contexts / GIB})
    return estimate.device / GIB


def empty_models(cfg: DictConfig) -> tuple[LanguageModel, MeasurableGenerator, dict[str, int], Sizes]:
    """Returns language model and generator without weights, the bytes of frozen weights, and the training's sizes."""
    from pmg.models.loading.memory_tracker import weight_bytes
    from pmg.models.loading.quantization import quantized_bytes
    from pmg.models.preference.image_prompt import build_image_prompt
    from pmg.models.preference.visual_encoder import build_visual_encoder
    from pmg.training.memory_forecast import Sizes

    node, drawn = to_plain(cfg.language_model), to_plain(cfg.generator)
    language_model, loaded = _empty_language_model(cfg)
    kept = drawn.get("dtype", "float32")
    mixed = "bf16" in str(cfg.trainer.precision) and kept == "float32"  # computed in bfloat16, from a copy
    generator, text_bytes, prompt = _empty_generator(cfg, kept, "bfloat16" if mixed else kept)
    drawing = {name: weight_bytes(model) for name, model in generator.frozen_models().items()}
    stepping, few_bits = next(iter(drawing)), drawn.get("quantization")
    if few_bits is not None:
        drawing[stepping] = quantized_bytes(generator.frozen_models()[stepping], few_bits)
    elif mixed:
        drawing[stepping] *= 3
    weights = {
        "language model": quantized_bytes(language_model.model, node.get("quantization")) if loaded else 0,
        **drawing,
        "text encoder": text_bytes,
    }
    encoder = cfg.preference_encoder
    builder = import_target("preference_encoder._target_", encoder["_target_"])
    sees = encoder.get("sees", "both") if builder is build_visual_encoder else None
    image_prompt, soft_tokens = builder is build_image_prompt, encoder.get("soft_tokens", 4)
    users = sum(cfg.split_sizes[split] * cfg.profiles_per_user for split in ("train", "validation"))
    sizes = Sizes(
        users=users, history_tokens=cfg.history_tokens, users_per_step=cfg.objective.users_per_step,
        draws=cfg.objective.batches.draws, soft_tokens=soft_tokens,
        prefix_length=encoder.get("prefix_length", 0), placement=encoder.get("placement", "late"),
        target_tokens=prompt.tokens, keyword_tokens=prompt.words or prompt.tokens, text_width=prompt.width,
        pooled_width=prompt.pooled, map_start=encoder.get("map_start", "scaled"),
        prefix_hidden=encoder.get("prefix_hidden"), sees=sees,
        pictures=cfg.inputs.get("pictures", 0), copies=encoder.get("copies", False),
        feature_width=prompt.pooled if image_prompt else soft_tokens * prompt.width, image_prompt=image_prompt,
    )  # fmt: skip
    return language_model, generator, weights, sizes


def _empty_language_model(cfg: DictConfig) -> tuple[LanguageModel, bool]:
    """Returns the language model without weights, and whether it has weights of its own."""
    from pmg.families.shared_language_model import SharedLanguageModel
    from pmg.models.loading.generator_family import find_family
    from pmg.models.meta_models import empty_language_model, language_model_config

    node, dtype = cfg.language_model, cfg.generator.get("dtype", "float32")
    if source := node.get("source"):
        return empty_language_model(language_model_config(source), node.get("dtype", "float32")), True
    match instantiate(node):
        case SharedLanguageModel() as shared:
            drawn, on_cpu = cfg.generator, cfg.generator.get("text_on_cpu", False)
            return shared.empty(find_family(drawn._target_), drawn.get("source"), dtype, on_cpu), False
        case built:
            return empty_language_model(built.model.config, node.get("dtype", "float32")), True


def _empty_generator(cfg: DictConfig, dtype: str, computed: str) -> tuple[MeasurableGenerator, int, PromptSizes]:
    """Returns the generator without weights, bytes of its text encoders, and the sizes of encoded texts.

    What pmg loads from somewhere is described by its configs alone. What is made at random, and a plug-in's, is made.

    Args:
        cfg: the command's config.
        dtype: name of the type of the weights.
        computed: name of the type in which the denoiser computes.
    """
    from pmg.models.loading.generator_family import find_family
    from pmg.models.loading.memory_tracker import weight_bytes
    from pmg.models.loading.quantization import quantized_bytes
    from pmg.models.meta_models import (
        empty_generator,
        empty_towers,
        generator_configs,
        measure_prompts,
        prompt_sizes,
    )

    target, size = cfg.generator._target_, cfg.generator.get("size")
    source = cfg.generator.get("source") or cfg.generator.get("folder")
    if family := find_family(target):
        configs = family.read_configs(source)
        models, few_bits = family.empty_text_models(configs, dtype), cfg.generator.get("quantization")
        on_cpu = cfg.generator.get("text_on_cpu", False)
        text_bytes = 0 if on_cpu else sum(quantized_bytes(model, few_bits) for model in models)
        generator = family.empty(configs, computed, size, cfg.generator.get("gradient_checkpointing", False))
        return generator, text_bytes, family.prompt_sizes(configs, cfg.generator.get("max_length", 512))
    if source is None or not is_reserved(target.partition(".")[0]):
        return _without_weights(instantiate(cfg.generator))
    parts = generator_configs(source, cfg.generator.get("t5", True))
    generator = empty_generator(parts, computed, size)
    if towers := empty_towers(parts, dtype):
        return generator, sum(map(weight_bytes, towers)), prompt_sizes(parts, towers)
    text_encoder = instantiate(cfg.text_encoder)
    return generator, weight_bytes(text_encoder), measure_prompts(text_encoder)


def _without_weights(generator: Any) -> tuple[MeasurableGenerator, int, PromptSizes]:
    """Returns a generator in memory after its weights are gone; else as `_empty_generator`.

    Raises:
        PmgError: it is no `MeasurableGenerator`.
    """
    from pmg.models.loading.memory_tracker import weight_bytes
    from pmg.models.meta_models import measure_prompts

    missing = [name for name in ("images_at_once", "encode_pass", "frozen_models") if not hasattr(generator, name)]
    if missing:
        raise PmgError(
            f"generator can't be forecast: {type(generator).__name__} lacks {', '.join(missing)}. Add what "
            "pmg.models.loading.generator_family.MeasurableGenerator asks for."
        )
    text_bytes, prompt = weight_bytes(generator.text_encoder), measure_prompts(generator.text_encoder)
    for model in generator.frozen_models().values():
        model.to("meta")
    return generator, text_bytes, prompt


def _show(estimate: Estimate) -> None:
    """Prints the table."""
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


def main() -> None:
    """Console entry point."""
    launch("estimate", body)


if __name__ == "__main__":
    main()
