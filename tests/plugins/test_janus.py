"""Janus: against transformers' own generation, hidden and weighted tokens, guidance, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers as tf
from pmg_janus.published import JANUS_PRO_1B, Janus
from safetensors.torch import load_file, save_file

from checkpoints import write_janus, write_language_model
from pmg.domain import Keywords, PmgError
from pmg.generation.condition_weighting import AttentionWeighting, ScaleWeighting
from pmg.generation.guidance import Scales
from pmg.generation.pipeline import Pipeline
from pmg.generation.requests import Request
from pmg.generation.selection import WeightGrid
from pmg.models.diffusion.conditioning import SoftBlock, join
from pmg.models.loading.checkpoints import without_weights
from pmg.models.loading.memory_tracker import weight_bytes
from pmg.models.tiny_models import tiny_scorer
from published import write_configs

TEXTS = ["red apple", "a dog with a thick black outline and no shading, 12 of them"]
TOKENS = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_janus(tmp_path_factory.mktemp("janus") / "model")


@pytest.fixture(scope="module")
def generator(folder):
    return Janus.load(folder)


@pytest.fixture(scope="module")
def library(folder):
    """The library's model and tokenizer."""
    model, tokenizer = (kind.from_pretrained(folder) for kind in (tf.JanusForConditionalGeneration, tf.AutoTokenizer))
    model.generation_config.update(bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.generation_config.generation_kwargs = {"boi_token_id": tokenizer.boi_token_id}
    return model.eval(), tokenizer


def generate(library, texts, **arguments):
    """Image tokens of the library for prompts in its chat template."""
    model, tokenizer = library
    messages = [[{"role": "user", "content": [{"type": "text", "text": text}]}] for text in texts]
    prompts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(
        [prompt + tokenizer.boi_token for prompt in prompts], return_tensors="pt", padding=True, padding_side="left"
    )
    inputs.pop("token_type_ids", None)
    return model.generate(**inputs, generation_mode="image", **arguments)


def guided(generator, texts, scale, seeds, **more):
    """Tokens under guidance by a prompt."""
    encode = generator.text_encoder.encode
    branches = [join(encode([""]).expand(len(texts))), join(encode(texts))]
    return generator.sample(branches, [1 - scale, scale], seeds, TOKENS, **more)


@pytest.mark.parametrize("scale", [1.5, 5.0])
def test_the_likeliest_tokens_are_those_of_the_library(folder, library, scale):
    greedy = Janus.load(folder, temperature=0.0)
    got = guided(greedy, TEXTS, scale, [0, 1])
    assert torch.equal(got, generate(library, TEXTS, do_sample=False, guidance_scale=scale))
    assert len(got.unique()) > 5


@pytest.mark.parametrize(("scale", "temperature"), [(5.0, 1.0), (3.0, 0.5)])
def test_drawn_tokens_are_those_of_the_library(folder, library, scale, temperature):
    """From the same seed, and within 2e-4 of its pictures."""
    generator = Janus.load(folder, temperature=temperature)
    tokens = guided(generator, TEXTS, scale, [3, 4])
    for row, text in enumerate(TEXTS):
        torch.manual_seed(3 + row)
        drawn = generate(library, [text], do_sample=True, guidance_scale=scale, temperature=temperature, top_k=0)
        assert torch.equal(tokens[row], drawn[0])
    images = library[0].decode_image_tokens(tokens).permute(0, 3, 1, 2)
    torch.testing.assert_close(generator.decode(tokens), images.clamp(-1, 1), atol=2e-4, rtol=1e-3)


def blocks(generator, words=("flat", "soft gradients, no outline"), soft=None):
    """A prompt and two blocks behind it."""
    encode = generator.text_encoder.encode
    tokens = torch.randn(2, 3, generator.text_encoder.width, generator=torch.Generator().manual_seed(1))
    return encode(TEXTS), encode(list(words), padded=False), SoftBlock.of(tokens if soft is None else soft)


def images(generator):
    return torch.randint(64, (2, TOKENS), generator=torch.Generator().manual_seed(2))


def test_tokens_are_predicted_as_they_are_drawn(generator):
    """The loss sees the same logits as sampling: the cache changes nothing."""
    condition = join(*blocks(generator))
    greedy = replace_temperature(generator, 0.0)
    tokens = greedy.sample([condition], [1.0], [0, 1], TOKENS)
    logits = generator.predict(tokens, condition)
    assert torch.equal(logits.argmax(-1), tokens)
    expected = -logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0].mean(1)
    torch.testing.assert_close(generator.loss(tokens.float(), condition, {}), expected)


def replace_temperature(generator, temperature):
    parts = generator.tokenizer, generator.transformer, generator.text_encoder, generator.frame
    return type(generator)(*parts, temperature)


def test_blocks_follow_the_prompt_inside_the_template(generator, library):
    """Words behind the prompt are those of one longer prompt."""
    model, tokenizer = library
    ids = tokenizer("<|User|>: red apple", return_tensors="pt").input_ids[0].tolist()
    for part in (", flat", "\n\n<|Assistant|>:<begin_of_image>"):
        ids += tokenizer(part, add_special_tokens=False).input_ids
    encode = generator.text_encoder.encode
    sequence = generator.sequence(join(encode(["red apple"]), encode(["flat"], padded=False)))
    torch.testing.assert_close(sequence.embeds[0], model.get_input_embeddings()(torch.tensor(ids)))
    assert sequence.visible.all()


def test_hidden_tokens_have_exactly_no_effect(generator):
    target, words, soft = blocks(generator)
    hidden = words.masked(torch.tensor([True, False]))
    other = replace(hidden, tokens=torch.where(hidden.mask[..., None], hidden.tokens, torch.inf))
    outputs = [generator.predict(images(generator), join(target, block, soft)) for block in (hidden, other)]
    assert torch.equal(*outputs)
    alone = generator.predict(images(generator), join(target, soft))
    torch.testing.assert_close(outputs[0][1], alone[1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(outputs[0][0], alone[0], atol=1e-3)


def test_a_block_of_weight_zero_has_no_effect_but_its_length(generator):
    target, words, soft = blocks(generator)
    weighted = words.with_attention_bias(torch.zeros(2))
    other = replace(weighted, tokens=weighted.tokens.flip(1) + 1)
    got, same, whole, scaled = (
        generator.predict(images(generator), join(target, block, soft))
        for block in (weighted, other, words, words.scaled(torch.full((2,), 3.0)))
    )
    torch.testing.assert_close(got, same)
    assert not torch.allclose(got, whole, atol=1e-3)
    assert not torch.allclose(scaled, whole, atol=1e-3)


def test_an_image_depends_on_its_own_seed_and_condition(generator):
    encode = generator.text_encoder.encode
    branches = [join(encode([""]).expand(2)), join(encode(TEXTS)), join(*blocks(generator))]
    coefficients = [-2.0, 1.0, 2.0]
    both = generator.sample(branches, coefficients, [5, 6], TOKENS)
    row = torch.tensor([1])
    single = [join(encode([""])), join(encode(TEXTS)[row]), join(*(block[row] for block in blocks(generator)))]
    assert torch.equal(generator.sample(single, coefficients, [6], TOKENS)[0], both[1])
    assert not torch.equal(generator.sample(branches, coefficients, [7, 8], TOKENS), both)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_condition_alone(folder, generator, checkpointing):
    found = []
    for built in (generator, Janus.load(folder, gradient_checkpointing=checkpointing)):
        soft = torch.ones(2, 2, built.text_encoder.width, requires_grad=True)
        built.loss(images(built), join(*blocks(built, soft=soft)), {}).sum().backward()
        found.append(soft.grad)
        assert all(weight.grad is None for weight in built.parameters())
        built.sample([join(*blocks(built))], [1.0], [0, 1], TOKENS)
    torch.testing.assert_close(*found)
    assert found[0].abs().sum(-1).min() > 0


def test_images_become_the_codes_of_the_smallest_angle(generator, library):
    """Which `decode` sees, while the library's `encode` compares lengths as well."""
    vq = library[0].model.vqmodel
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = vq.quant_conv(vq.encoder(pictures)).permute(0, 2, 3, 1).flatten(1, 2)
    cosines = torch.nn.functional.cosine_similarity(latents[:, :, None], vq.quantize.embedding.weight, dim=-1)
    assert torch.equal(generator.encode_images(pictures), cosines.argmax(-1))
    assert generator.encode_images(torch.rand(1, 3, 64, 48)).shape == (1, TOKENS)  # of any size


def test_the_empty_condition_is_padded_to_the_longest_branch(generator, library):
    """As a dropped prompt is in the training of Janus; a dropped prompt before a preference isn't."""
    model, tokenizer = library
    _, words, _ = blocks(generator)
    empty = generator.text_encoder.encode([""]).expand(2)
    sequence = generator.sequence(join(empty), torch.tensor([5, 7]))
    assert sequence.lengths.tolist() == [5, 7]
    padding = model.get_input_embeddings().weight[tokenizer.pad_token_id]
    torch.testing.assert_close(sequence.embeds[1, 1:6], padding.expand(5, -1))
    dropped = generator.sequence(join(empty, words), torch.tensor([50, 50]))
    assert torch.equal(dropped.lengths, words.mask.sum(1) + 2)


def tiny_pipeline(generator, weighting=None, steps=None, **scales):
    scales, weighting = (
        Scales(**{"target": 3.0, "keywords": 3.0, "soft": 3.0, **scales}),
        weighting or ScaleWeighting(),
    )
    return Pipeline(generator, tiny_scorer(), WeightGrid((0.5, 1.0)), weighting, scales, steps=steps)


def test_all_scales_and_weightings_are_supported(generator):
    requests = [
        Request(Keywords((word,)), Keywords(("flat",)), True, torch.ones(2, 32), seed, negative=Keywords(("glossy",)))
        for seed, word in enumerate(("apple", "dog"))
    ]
    drawn = []
    for weighting, negative in ((ScaleWeighting(), 0.0), (AttentionWeighting(), 0.0), (ScaleWeighting(), 1.0)):
        pipeline = tiny_pipeline(generator, weighting, soft=5.0, negative=negative)
        drawn.append(pipeline(requests).images)
        branches = 3 if negative == 0 else 4
        assert pipeline.evaluations == TOKENS * 2 * 2 * branches
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_what_it_lacks_is_refused(generator):
    with pytest.raises(
        PmgError, match=r"sampling\.steps is 12, and this generator has no solver steps: it predicts th"
    ):
        tiny_pipeline(generator, steps=12)
    with pytest.raises(PmgError, match=r"steps is 2, and this generator has no solver"):
        tiny_pipeline(generator).denoise([], steps=2)
    with pytest.raises(PmgError, match=r"this generator makes 16 tokens, and takes no 3 steps\."):
        generator.sample([join(*blocks(generator))], [1.0], [0, 1], 3)
    with pytest.raises(PmgError, match=r"reads predictions of noise, and this generator predicts image tokens"):
        generator.denoising_outputs(images(generator), join(*blocks(generator)), {})
    with pytest.raises(PmgError, match="tokens, the text encoder reads 512"):
        generator.text_encoder.encode(["cat " * 600])


@pytest.fixture
def copy(folder, tmp_path):
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def refused(folder, message, **arguments):
    with pytest.raises(PmgError, match=message) as error:
        Janus.load(str(folder), **arguments)
    assert "\n" not in str(error.value)


def test_missing_components_are_named(copy, folder):
    weights = load_file(copy / "model.safetensors")
    save_file({name: weight for name, weight in weights.items() if "generation_head" not in name},
              copy / "model.safetensors", {"format": "pt"})  # fmt: skip
    refused(copy, "has not the weights of a JanusForConditionalGeneration: 4 missing: model.generation_head.proj_out")
    shutil.copy(Path(folder, "model.safetensors"), copy)
    (copy / "chat_template.jinja").unlink()
    refused(copy, "has no chat template. Load the whole checkpoint again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    refused(copy, "has no tokenizer that can be read")
    (copy / "config.json").unlink()
    refused(copy, f"can't load a generator from .*generator.source is a hub id, e.g. {JANUS_PRO_1B}")


def test_a_tokenizer_without_special_tokens_is_refused(copy):
    config = json.loads((copy / "tokenizer_config.json").read_text())
    lost = ("boi_token", "model_specific_special_tokens")
    kept = {name: value for name, value in config.items() if name not in lost}
    (copy / "tokenizer_config.json").write_text(json.dumps(kept))
    refused(copy, r"the tokenizer has no boi_token\. Use the one")


def test_other_models_and_pictures_are_refused(copy, tmp_path):
    refused(write_language_model(tmp_path / "llama"), "is a llama, and generator=janus needs a janus")
    refused(copy, r"size is 64, and the image tokenizer of .* takes pictures of 32 pixels alone\. Set", size=64)
    assert Janus.load(str(copy), size=32).size == 32
    config = json.loads((copy / "config.json").read_text())
    config["vision_config"]["num_image_tokens"] = 64
    (copy / "config.json").write_text(json.dumps(config))
    refused(copy, r"predicts 64 image tokens, and its image tokenizer decodes 16\.")


def test_sizes_without_weights_are_those_of_the_loaded_models(generator, folder):
    with without_weights():
        empty = Janus.load(folder)
    for name, model in generator.frozen_models().items():
        assert weight_bytes(empty.frozen_models()[name]) == weight_bytes(model)
    longest, text = empty.text_encoder.longest(), generator.text_encoder.encode(TEXTS)
    assert (longest.width, longest.pooled) == (text.tokens.shape[-1], text.pooled.shape[-1])
    assert (empty.supports, empty.latent_shape, empty.size) == (generator.supports, generator.latent_shape, 32)


def test_published_sizes_are_the_known_ones(tmp_path):
    """Janus-Pro-1B: a language model of 1.5 billion weights with its head, and pictures of 384 pixels."""
    with without_weights():
        empty = Janus.load(write_configs(tmp_path, JANUS_PRO_1B), "bfloat16")
    sizes = {name: weight_bytes(model) / 2e9 for name, model in empty.frozen_models().items()}
    assert sizes["image transformer"] == pytest.approx(1.49, abs=0.02)
    assert sizes["image tokenizer"] == pytest.approx(0.14, abs=0.02)  # in float32
    assert (empty.size, empty.latent_shape) == (384, (576,))
