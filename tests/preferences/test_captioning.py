"""Captioners: from facts, zero-shot by the scorer, and real image-to-text classes at toy size."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from pmg.configuration.instantiate import instantiate
from pmg.domain import Item, PmgError
from pmg.models.tiny_models import seeded, tiny_scorer, tiny_tokenizer
from pmg.preferences.captioning import (
    ImageToTextCaptioner,
    MetadataCaptioner,
    TaggerCaptioner,
    caption_items,
    to_picture,
)

ITEMS = [Item(name, name, name, facts={"pack": "Noto"}) for name in ("apple", "dog", "ghost")]
GROUPS = {"shading": ["flat", "soft gradients", "glossy 3D"], "figure": ["dog", "rocket"]}


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_facts_become_a_phrase():
    assert MetadataCaptioner("pack {pack}")(ITEMS) == ["pack Noto"] * 3


def test_missing_fact_names_item_fact_and_nearest():
    with pytest.raises(PmgError, match=r"item 'apple' has no fact 'pak' .*did you mean 'pack'\? \(it has: pack\)"):
        MetadataCaptioner("{pak}")(ITEMS)


@pytest.fixture
def tagger(text_encoder):
    template = "shading {shading}, shows a {figure}"
    return TaggerCaptioner(tiny_scorer(width=32), text_encoder, GROUPS, template, content=["figure"])


def test_tags_are_the_words_nearest_to_the_image(tagger, text_encoder, images):
    content, style = tagger.scorer(images)
    shading = style @ tagger.scorer.encode_preference(text_encoder.encode(GROUPS["shading"]).pooled).T
    figure = content @ tagger.scorer.encode_target(text_encoder.encode(GROUPS["figure"]).pooled).T
    expected = [
        f"shading {GROUPS['shading'][row.argmax()]}, shows a {GROUPS['figure'][other.argmax()]}"
        for row, other in zip(shading, figure, strict=True)
    ]
    assert tagger(ITEMS, images) == expected
    assert [tagger([one], image[None])[0] for one, image in zip(ITEMS, images, strict=True)] == expected


@pytest.mark.parametrize(
    ("groups", "template", "content", "message"),
    [
        ({"a": ["x"]}, "{a}", [], "groups of at least two words; too small: \\['a'\\]"),
        ({}, "", [], "groups of at least two words"),
        (GROUPS, "{shadin}", [], "'shadin' is no group of the vocabulary; did you mean 'shading'"),
        (GROUPS, "{shading}", ["figur"], "'figur' is no group of the vocabulary; did you mean 'figure'"),
    ],
)
def test_vocabulary_that_cannot_work_is_refused(text_encoder, groups, template, content, message):
    with pytest.raises(PmgError, match=message):
        TaggerCaptioner(tiny_scorer(width=32), text_encoder, groups, template, content)


def test_each_item_is_described_once_in_batches(tagger, images):
    asked = []

    def pixels(items):
        asked.append([item.id for item in items])
        return torch.stack([images[ITEMS.index(item)] for item in items])

    captions = caption_items(tagger, [*ITEMS, *ITEMS[::-1]], pixels, batch_size=2)
    assert asked == [["apple", "dog"], ["ghost"]]
    assert captions == dict(zip(("apple", "dog", "ghost"), tagger(ITEMS, images), strict=True))


def test_images_are_asked_for_by_those_that_look_alone(tagger):
    assert caption_items(MetadataCaptioner("{pack}"), ITEMS) == dict.fromkeys(("apple", "dog", "ghost"), "Noto")
    with pytest.raises(PmgError, match="TaggerCaptioner needs images and this data has none"):
        caption_items(tagger, ITEMS)


def test_picture_has_the_colours_of_the_image():
    image = torch.tensor([-1.0, 0.0, 1.0])[:, None, None].expand(3, 2, 5)
    picture = to_picture(image)
    assert picture.size == (5, 2)
    assert picture.getpixel((4, 1)) == (0, 128, 255)


def enlarged(model):
    """Weights far from zero, so that what is written depends on the image."""
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return model


def save_blip(folder):
    """A captioner that gets no chat: an image encoder and a text decoder that looks at it (BLIP)."""
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *letters]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), bos_token="[DEC]")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(
        text_config={
            **size, **special, "vocab_size": len(words), "encoder_hidden_size": 16, "max_position_embeddings": 64,
        },
        vision_config={**size, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )  # fmt: skip
    with seeded(0):
        enlarged(BlipForConditionalGeneration(config)).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)


def save_llava(folder):
    """A chat model that sees: the image's tokens stand inside the text (LLaVA, as Qwen-VL)."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        text_config={**size, "model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 1},
        vision_config={**size, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    with seeded(0):
        enlarged(LlavaForConditionalGeneration(config)).save_pretrained(folder)
    image_processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    template = (
        "{% for message in messages %}{{ message.role }}: {% for part in message.content %}"
        "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}\n{% endfor %}assistant:"
    )
    LlavaProcessor(
        image_processor, tokenizer, patch_size=16, vision_feature_select_strategy="default", chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip


@pytest.mark.parametrize(("save", "prompt"), [(save_blip, ""), (save_blip, "a cat"), (save_llava, "Which style?")])
def test_image_to_text_model_from_a_folder_describes_each_image_alone(save, prompt, tmp_path, images):
    save(tmp_path)
    captioner = ImageToTextCaptioner(str(tmp_path), prompt, max_new_tokens=8)
    captions = captioner(ITEMS, images)
    assert captions == [captioner([one], image[None])[0] for one, image in zip(ITEMS, images, strict=True)]
    assert captions == ImageToTextCaptioner(str(tmp_path), prompt, max_new_tokens=8)(ITEMS, images)
    assert all(captions)
    assert len(set(captions)) > 1
    assert not any(prompt and prompt in caption for caption in captions)
    assert not any("\n" in caption or "<image>" in caption or "assistant" in caption for caption in captions)
    assert not any(weight.requires_grad for weight in captioner.model.parameters())


def test_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(PmgError, match=r"can't load an image-to-text model from .*captioner\.source is a hub id"):
        ImageToTextCaptioner(str(tmp_path / "nowhere"))


def test_options_build_what_they_name(compose, tmp_path):
    save_blip(tmp_path)
    cases = {"metadata": MetadataCaptioner, "tagger": TaggerCaptioner, "image_to_text": ImageToTextCaptioner}
    for name, kind in cases.items():
        extra = [f"captioner.source={tmp_path}"] if name == "image_to_text" else []
        cfg = compose(
            "train",
            f"captioner={name}",
            "scorer=tiny",
            "text_encoder=tiny",
            "language_model=tiny",
            "preference_encoder=text",
            *extra,
        )
        captioner = instantiate(cfg.captioner)
        assert isinstance(captioner, kind)
    items = compose("train", "scenario=movie_poster", "captioner=metadata")
    assert items.scenario.caption == items.captioner.template != ""
