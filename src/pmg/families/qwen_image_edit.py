"""Qwen-Image-Edit since 2509: Qwen-Image with reference images, which transformer and text encoder see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pmg.families.common.language_text_encoder import LanguageTextEncoder
from pmg.families.common.transformer_family import TextModel, TextModels
from pmg.families.qwen_image import QwenImage, QwenImageConditionAdapter, QwenImageDenoiser
from pmg.models.diffusion.conditioning import Condition, TextBlock
from pmg.models.diffusion.interfaces import PromptEncoder
from pmg.models.diffusion.text_encoder import as_text, concatenate_texts
from pmg.models.loading.checkpoints import load_image_processor
from pmg.models.vision.pictures import to_pictures

TEMPLATE = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
SKIPPED = 64  # tokens of the template before the text, as in diffusers' pipeline
PICTURE = "Picture {}: <|vision_start|>{}<|vision_end|>"
PICTURE_TOKEN = "<|image_pad|>"
PICTURE_SIZE = 384  # pixels a side of what the text encoder sees, as in diffusers' pipeline


class QwenImageEditTextEncoder(LanguageTextEncoder):
    """A `LanguageTextEncoder` that also reads prompts behind pictures; implements `PicturePromptEncoder`."""

    def __init__(self, *arguments: Any, image_processor: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.image_processor = image_processor

    @torch.no_grad()
    def encode_pictures(self, images: Tensor) -> Tensor:
        """Returns features `(B, P, D)`, on the CPU, of images `(B, 3, H, W)` in [-1, 1]."""
        size = (PICTURE_SIZE, PICTURE_SIZE)
        found = self.image_processor(
            [picture.resize(size, Image.Resampling.LANCZOS) for picture in to_pictures(images)], return_tensors="pt"
        )
        patches, grids = (found[name].to(self.device) for name in ("pixel_values", "image_grid_thw"))
        return torch.stack(self.model.get_image_features(patches, grids).pooler_output).cpu()

    @torch.no_grad()
    def encode_with_pictures(self, texts: Sequence[str], pictures: Sequence[Tensor]) -> TextBlock:
        """Returns texts behind pictures on the CPU, see `PicturePromptEncoder`; PmgError if one is too long."""
        self.check_lengths(texts)
        size = self.texts_at_once
        parts = [self._read(texts[i : i + size], pictures[i : i + size]) for i in range(0, len(texts), size)]
        return concatenate_texts(parts).to("cpu")

    def _read(self, texts: Sequence[str], pictures: Sequence[Tensor]) -> TextBlock:
        prompts = [self.template(_show(row) + text) for text, row in zip(texts, pictures, strict=True)]
        batch = self.tokenizer(prompts, padding=True, return_tensors="pt")
        ids, mask = batch["input_ids"], batch["attention_mask"]
        shows = ids == self.tokenizer.convert_tokens_to_ids(PICTURE_TOKEN)
        side = isqrt(pictures[0].shape[1]) * self.model.config.vision_config.spatial_merge_size
        grids = torch.tensor([[1, side, side]] * sum(len(row) for row in pictures))
        positions, _ = self.model.get_rope_index(ids, shows.int(), grids, attention_mask=mask)
        embeds = self.model.get_input_embeddings()(ids.to(self.device))
        features = torch.cat([row.flatten(0, 1) for row in pictures]).to(embeds)
        embeds = embeds.masked_scatter(shows[..., None].to(self.device), features)
        return as_text(
            self.read_states(mask.to(self.device), inputs_embeds=embeds, position_ids=positions.to(self.device))
        )


def _show(pictures: Tensor) -> str:
    """Returns the text of pictures `(R, P, D)` in front of a prompt, a token for each feature."""
    return "".join(
        PICTURE.format(place + 1, PICTURE_TOKEN * picture.shape[0]) for place, picture in enumerate(pictures)
    )


class QwenImageEditConditionAdapter(QwenImageConditionAdapter):
    """Conditions for Qwen-Image-Edit, with reference images."""

    supports = replace(QwenImageConditionAdapter.supports, references=True, prompts_with_references=True)

    def prepare(self, condition: Condition, guidance: float | None = None, reused: bool = False) -> dict[str, Any]:
        """Returns keyword arguments of the transformer, see `ConditionAdapter`."""
        return {**super().prepare(condition, guidance, reused), "references": condition.references}


class QwenImageEditDenoiser(QwenImageDenoiser):
    """The transformer of Qwen-Image-Edit: reference images are further frames behind the image.

    Rows with equal numbers of references go through it together, so that none has to be hidden.
    """

    adapter_type = QwenImageEditConditionAdapter
    refused = ("use_additional_t_cond", "use_layer3d_rope", "guidance_embeds")

    def forward(self, noisy: Tensor, times: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Returns the prediction `(B, C, h, w)`, see `DiffusersDenoiser`."""
        rest = {name: part for name, part in inputs.items() if name != "references"}
        references = inputs["references"]
        if references is None:
            return self.denoise(noisy, times, rest)
        counts, made, order = references.mask.sum(1), [], []
        for count in counts.unique().tolist():
            rows = (counts == count).nonzero()[:, 0]
            images = references.latents[rows, :count].to(noisy.dtype).unbind(1)
            made.append(self.denoise(noisy[rows], times[rows], _select(rest, rows), images))
            order.append(rows)
        return torch.cat(made)[torch.cat(order).argsort()]


def _select(inputs: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Returns some rows of nested inputs."""
    return {name: part[rows] if isinstance(part, Tensor) else _select(part, rows) for name, part in inputs.items()}


class QwenImageEdit(QwenImage):
    """Qwen-Image-Edit since 2509, with any number of reference images."""

    pipeline = "QwenImageEditPlusPipeline"
    denoiser = QwenImageEditDenoiser
    further = ("processor",)

    @classmethod
    def load_text_model(cls, path: str, name: str, weights: Mapping[str, Any]) -> TextModel:
        """Returns the text model with tokenizer and image processor, see `TransformerFamily.load_text_model`."""
        loaded = super().load_text_model(path, name, weights)
        return loaded._replace(image_processor=load_image_processor(path, "processor"))

    @classmethod
    def encode_with(cls, models: TextModels, max_length: int, width: int) -> PromptEncoder:
        """Returns the text encoder, see `TransformerFamily.encode_with`."""
        model, tokenizer, image_processor = models["text_encoder"]
        return QwenImageEditTextEncoder(
            model.model, tokenizer, max_length, TEMPLATE.format, (-1,), SKIPPED, head=model.lm_head,
            image_processor=image_processor,
        )  # fmt: skip
