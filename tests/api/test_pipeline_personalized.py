"""The inference API on a tiny pipeline: arguments as in diffusers, batches, refused inputs, saving, notebooks."""

from __future__ import annotations

import copy
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import pmg
from pipelines import write_pipeline
from pmg import PersonalizedPipeline
from pmg.api.call_arguments import CallReader, read_scales
from pmg.api.output import PersonalizedPipelineOutput
from pmg.api.user_preference import GivenPictures, read_starts
from pmg.domain import Item, PmgError
from pmg.generation.condition_weighting import ScaleWeighting
from pmg.generation.guidance import Scales
from pmg.generation.pipeline import Pipeline
from pmg.generation.selection import WeightGrid
from pmg.models.vision.pictures import to_picture
from pmg.progress import no_bars, track

COLOURED = {"pack": "Noto", "colour": "full colour", "outline": "no outline", "shading": "flat"}
DRAWN = {"pack": "Stencil", "colour": "black and white", "outline": "thick black outline", "shading": "soft gradients"}
ONE = [{"title": title, "facts": COLOURED} for title in ("dog face", "cactus")]
OTHER = [{"title": title, "facts": DRAWN} for title in ("crown", "heart", "cat")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("pipeline"))


def load(folder, **options):
    """Loads a pipeline that shows no progress."""
    pipe = PersonalizedPipeline.from_pretrained(folder, "cpu", **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def pipe(folder):
    return load(folder)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def truncated():
    """A picture whose file ends too early, which Pillow notices when it reads the pixels."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:200]))


def pixels(output):
    return np.stack([np.asarray(image).astype(int) for image in output.images])


def without_rounding(record):
    """Returns a record with candidates' scores rounded: sums depend on the batch in their last digits."""
    rows = [{name: value and round(value, 4) for name, value in row.items()} for row in record["candidates"]]
    return {**record, "candidates": rows}


def test_call_equals_read_and_draw_with_the_generators_seeds(pipe):
    output = pipe(ONE, "rocket", num_images_per_prompt=2, generator=rng())
    seeds = torch.randint(2**62, (2,), generator=rng()).tolist()
    assert [record["seed"] for record in output.records] == seeds
    again = pipe(ONE, target="rocket", num_images_per_prompt=2, generator=rng(), num_inference_steps=2,
                 guidance_scale=2.0)  # fmt: skip
    assert np.array_equal(pixels(again), pixels(output))


def test_batch_equals_single_calls(pipe):
    calls = [(ONE, "rocket", OTHER[:1], 3), (OTHER, {"title": "cat", "keywords": ["pet"]}, (), 4)]
    batch = pipe(
        [history for history, *_ in calls],
        [target for _, target, *_ in calls],
        [dislikes for _, _, dislikes, _ in calls],
        generator=[rng(seed) for *_, seed in calls],
    )
    for row, (history, target, dislikes, seed) in enumerate(calls):
        single = pipe(history, target, dislikes, generator=rng(seed))
        assert abs(pixels(single)[0] - pixels(batch)[row]).max() <= 1
        assert without_rounding(single.records[0]) == without_rounding(batch.records[row])


def test_one_target_serves_many_users_and_one_user_many_targets(pipe):
    users = pipe([ONE, OTHER], "rocket", num_images_per_prompt=2, generator=[rng()] * 4)
    assert [record["target_keywords"][0] for record in users.records] == ["rocket"] * 4
    targets = pipe(ONE, ["rocket", "cat"], generator=[rng(), rng()])
    assert [record["target_keywords"][0] for record in targets.records] == ["rocket", "cat"]
    assert abs(pixels(targets)[0] - pixels(pipe(ONE, "rocket", generator=rng()))[0]).max() <= 1


def test_steps_and_guidance_of_a_call_hold_for_it_alone(pipe):
    before, count = pixels(pipe(ONE, "rocket", generator=rng())), pipe.pipeline.evaluations
    longer = pixels(pipe(ONE, "rocket", generator=rng(), num_inference_steps=3))
    assert pipe.pipeline.evaluations - count == 2 * 2 * 3  # branches, candidates, steps
    changed = [pixels(pipe(ONE, "rocket", generator=rng(), guidance_scale=scale)) for scale in (5.0, {"soft": 5.0})]
    assert not any(np.array_equal(before, other) for other in (longer, *changed))
    assert not np.array_equal(*changed)
    assert np.array_equal(before, pixels(pipe(ONE, "rocket", generator=rng())))
    assert read_scales(Scales(3, 3, 3, 1.5), 1) == Scales(1, 1, 1, 0)  # no guidance at all
    assert read_scales(Scales(3, 3, 3, 1.5), 2).negative == 1.5


def test_records_are_json_whatever_number_was_given(pipe):
    assert json.loads(json.dumps(pipe(ONE, "rocket", alpha=np.float32(0.5)).records[0]))["alpha"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": ""}, "target has an empty title"),
        ({"target": {"title": " "}}, "target has an empty title"),
        ({"target": ["rocket", ""]}, r"target\[1\] has an empty title"),
        ({"target": []}, "target is an empty list"),
        ({"target": {"title": "a", "keywords": "space"}}, "target.keywords can't be 'space'"),
        ({"target": {"title": "a", "keyword": ["b"]}}, "target.keyword is no field of an item; did you mean 'keyw"),
        ({"history": ["dog"]}, r"history\[0\] \('dog'\) has no fact 'pack'.*pack, colour, outline, shading"),
        ({"history": [{"titel": "dog"}]}, r"history\[0\].titel is no field of an item; did you mean 'title'\? An"),
        ({"history": [{"facts": COLOURED}]}, r"history\[0\].title is missing"),
        ({"history": [{"title": "dog", "facts": {**COLOURED, "shadng": "flat"}}]},
         r"history\[0\].facts has an unknown fact 'shadng'; did you mean 'shading'\?"),
        ({"history": [{"title": "dog", "facts": "flat"}]}, r"history\[0\].facts can't be 'flat'"),
        ({"history": [ONE[0], 3]}, r"history\[1\] is no item: 3"),
        ({"history": "dog"}, "history must be a list of items"),
        ({"history": []}, "empty history"),
        ({"history": [ONE, OTHER], "target": ["a", "b", "c"]}, "target has 3 entries for 2 histories"),
        ({"history": [ONE, OTHER], "dislikes": [ONE]}, "dislikes must have one list for each of the 2 histories"),
        ({"history": [ONE, "dog"]}, r"history\[1\] must be a list of items: 'dog'"),
        ({"dislikes": ["dog"]}, r"dislikes\[0\] \('dog'\) has no fact 'pack'"),
        ({"conversation": ["hello"]}, r"conversation\[0\] must be a mapping with role and content, .*: 'hello'"),
        (
            {"conversation": [{"role": "user", "content": "x", "nam": "Lena"}]},
            r"conversation\[0\]: unknown key 'nam'; did you mean 'name'",
        ),
        ({"target": None}, "has no target, and no conversation that an image could answer"),
        ({"image": [to_picture(torch.zeros(3, 8, 8))] * 2}, "image must be a picture of PIL, or .* of the 1 targets"),
        ({"image": 5}, "image must be a picture of PIL"),
        ({"image": truncated()}, "image can't be read"),
        ({"image": to_picture(torch.zeros(3, 8, 8)), "strength": "0.5"}, r"strength must be .*, got '0.5'"),
        ({"image": to_picture(torch.zeros(3, 8, 8)), "strength": 0}, r"strength must be in \[0.05, 1\], got 0"),
        ({"image": to_picture(torch.zeros(3, 8, 8)), "strength": 1.5}, r"strength must be in \[0.05, 1\], got 1.5"),
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\]"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt must be at least 1"),
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1, a whole number: 0"),
        ({"num_inference_steps": 2.5}, "num_inference_steps must be at least 1, a whole number: 2.5"),
        ({"guidance_scale": -1}, "guidance_scale must be a number of at least 0.*: -1"),
        ({"guidance_scale": {"sft": 1.0}}, "guidance_scale has no 'sft'; did you mean 'soft'"),
        ({"generator": [rng()] * 3}, "generator must be .* one for each of the 1 images; the list has 3 entries"),
        ({"generator": 7}, "generator must be a torch.Generator.*: 7"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_by_name(pipe, arguments, message):
    with pytest.raises(PmgError, match=message):
        pipe(**{"history": ONE, "target": "rocket", **arguments})


def test_images_come_as_pictures_tensors_and_arrays(pipe):
    made = {kind: pipe(ONE, ["rocket", "cat"], generator=rng(), output_type=kind) for kind in ("pil", "pt", "np")}
    assert made["pt"].images.shape == (2, 3, 64, 64)
    assert made["np"].images.shape == (2, 64, 64, 3)
    assert 0 <= made["np"].images.min() < made["np"].images.max() <= 1
    assert np.array_equal(made["np"].images, made["pt"].images.permute(0, 2, 3, 1).numpy())
    assert abs(255 * made["np"].images - pixels(made["pil"])).max() < 1
    assert made["pt"]._repr_html_() is made["np"]._repr_png_() is None
    with pytest.raises(PmgError, match=r"output_type is 'latent'\. Use one of pil, pt, np\."):
        pipe(ONE, "rocket", output_type="latent")


def test_images_and_records_come_as_a_tuple(pipe):
    images, records = pipe(ONE, "rocket", generator=rng(), return_dict=False)
    output = pipe(ONE, "rocket", generator=rng())
    assert records == output.records
    assert [image.tobytes() for image in images] == [image.tobytes() for image in output.images]


def test_items_of_a_data_set_may_have_further_facts(pipe):
    item = Item("1", "dog", "dog face", facts={**COLOURED, "licence": "OFL"})
    numbers = {"title": "dog face", "id": "1", "facts": {**COLOURED, "pack": 1}}
    assert pipe.read([item], "rocket").target.words[0] == "rocket"
    assert pipe.read([numbers], "rocket").target.words[0] == "rocket"
    with pytest.raises(PmgError, match="those of one image"):
        pipe.read([ONE], "rocket")


def pictured(*levels):
    """Items with grey pictures of these levels."""
    return [{"title": "dog face", "image": Image.new("RGB", (64, 64), (level,) * 3)} for level in levels]


def test_likes_dislikes_and_pictures_reach_an_encoder_that_reads_pictures(tmp_path):
    pipe = load(write_pipeline(tmp_path / "seeing", seeing=True))
    one, same, other = (pipe.read(pictured(*levels), "rocket") for levels in ((9, 9), (9, 9), (9, 250)))
    assert torch.equal(one.soft_tokens, same.soft_tokens)
    assert not torch.allclose(one.soft_tokens, other.soft_tokens, atol=1e-3)
    alone, disliked = (pipe.read(pictured(9), "rocket", dislikes) for dislikes in ((), pictured(9)))
    assert not torch.allclose(alone.soft_tokens, disliked.soft_tokens, atol=1e-3)
    many = pipe.read(
        pictured(9, 250), "rocket", pictured(*range(20, 33))
    )  # of twelve pictures both liked ones are read
    assert not torch.allclose(
        many.soft_tokens, pipe.read(pictured(9, 9), "rocket", pictured(*range(20, 33))).soft_tokens
    )
    for items in ([*pictured(9), "cat"], ["cat"]):
        with pytest.raises(PmgError, match="item 'cat' has no image, and the captioner requires images"):
            pipe.read(items, "rocket")
    pipe.save_pretrained(tmp_path / "copy")
    again = load(tmp_path / "copy")
    assert torch.equal(again.read(pictured(9, 250), "rocket").soft_tokens, other.soft_tokens)


def test_a_reader_names_the_keywords_itself(tmp_path):
    pipe = load(write_pipeline(tmp_path / "reading", reading=True))
    pipe.decoding = None  # the language model's options aren't scored
    items = [{**item, **picture} for item, picture in zip(ONE, pictured(9, 250), strict=True)]
    request = pipe.read(items, "rocket", items[:1])
    options = [list(one.options) for one in pipe.extractor.scenario.attributes.values()]
    words = request.keywords.words
    assert sorted(next(n for n, some in enumerate(options) if word in some) for word in words) == [0, 1]
    assert all(math.log(0.5) <= score <= 0 for score in request.keywords.scores)  # the likelier of two
    assert list(request.keywords.scores) == sorted(request.keywords.scores, reverse=True)
    assert not request.negative.words
    assert pipe(items, "rocket", generator=rng()).images[0].size == (64, 64)


def test_a_reader_of_another_scenario_leaves_keywords_to_the_language_model(tmp_path):
    folder = write_pipeline(tmp_path / "reading", reading=True)
    index = json.loads((folder / "model_index.json").read_text())
    index["scenario"]["attributes"]["shading"]["options"] = ["flat", "none"]
    (folder / "model_index.json").write_text(json.dumps(index))
    pipe = load(folder)
    words = pipe.read([{**ONE[0], **pictured(9)[0]}], "rocket").keywords.words
    assert {"flat", "none"} & set(words)


def test_pictures_that_are_no_squares_keep_their_shapes():
    picture = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(picture).ellipse((50, 0, 150, 100), fill="black")
    disc = GivenPictures([(Item("disc", "disc", "disc"), picture)]).pixels(torch.tensor([0]))[0, 0] < 0
    assert disc.any(0).sum() == pytest.approx(int(disc.any(1).sum()), abs=2)


def test_pictures_of_a_data_set_keep_their_pixels(shop):
    """As an encoder was trained with them; beside a larger picture they are enlarged."""
    (example,) = shop.examples("test", 1, 1)
    pixels = shop.images.pixels(shop.images.rows(example.liked))
    given = [(item, to_picture(image)) for item, image in zip(example.liked, pixels, strict=True)]
    assert GivenPictures(given).of_items(example.liked).sub(pixels).abs().max() < 1 / 127
    larger = GivenPictures([*given, (Item("up", "up", "up"), Image.new("L", (900, 300)))])
    assert larger.of_items(example.liked[:2]).shape == (2, 3, 256, 256)


def test_pipeline_moves_to_a_device(pipe):
    assert pipe.to("cpu") is pipe
    assert pipe.to(torch.device("cpu")).device == torch.device("cpu")
    assert repr(pipe).startswith("PersonalizedPipeline on cpu\n  language_model: LanguageModel\n")
    with pytest.raises(PmgError, match=r"device must be a device, .*: torch.float16"):
        pipe.to(torch.float16)
    with pytest.raises(PmgError, match="device=nowhere"):
        pipe.to("nowhere")


def test_scorer_on_another_device_gets_its_inputs_there(pipe, monkeypatch):
    """The meta device has no values: each tensor that reaches it shows where it was sent."""
    seen = []

    class Elsewhere(torch.nn.Linear):
        device = torch.device("meta")

        def forward(self, images):
            seen.append(images.device.type)
            return torch.zeros(len(images), 2), torch.zeros(len(images), 2)

        def encode_target(self, pooled):
            seen.append(pooled.device.type)
            return torch.zeros(len(pooled), 2)

        encode_preference = encode_target

    monkeypatch.setattr(pipe.pipeline, "scorer", Elsewhere(2, 2, device="meta"))
    pipe.pipeline.score([pipe.read(ONE, "rocket")], torch.zeros(2, 3, 8, 8))
    assert seen == ["meta"] * 3


def test_progress_bar_is_switched_off(pipe, capsys):
    pipe.set_progress_bar_config(desc="Users")
    pipe([ONE, OTHER], "rocket")
    assert "Users: 100%" in capsys.readouterr().err
    pipe.set_progress_bar_config(disable=True)
    pipe(ONE, "rocket")
    with no_bars():
        assert list(track(range(3), "Counting")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_saved_pipeline_has_the_encoders_weights_and_gives_the_same_images(folder, tmp_path):
    pipe = load(folder)
    with torch.no_grad():
        pipe.encoder.map.weight.add_(0.1)
    pipe.save_pretrained(tmp_path / "copy")
    again = load(tmp_path / "copy")
    assert torch.equal(again.encoder.map.weight, pipe.encoder.map.weight)
    assert again.components["scorer"].name_or_path == str(tmp_path / "copy" / "frozen" / "0-scorer")
    images = [pixels(one(ONE, "rocket", generator=rng())) for one in (pipe, again)]
    assert np.array_equal(*images)
    assert str(folder) not in (tmp_path / "copy" / "preference_encoder" / "config.json").read_text()
    with pytest.raises(PmgError, match="save_directory is the folder that the pipeline was loaded from"):
        pipe.save_pretrained(folder)
    again.source = None
    with pytest.raises(PmgError, match="only a pipeline of from_pretrained can be saved"):
        again.save_pretrained(tmp_path / "other")


def test_a_scenario_of_the_callers_reads_items_without_the_pipelines_facts(folder, tmp_path):
    scenario = pmg.instantiate(pmg.compose("generate", ["scenario=items"]).scenario)
    pipe = load(folder, scenario=scenario)
    assert pipe.components["scenario"] == scenario
    request = pipe.read([{"title": "red mug", "keywords": ["mug"]}, "blue mug"], "plate")
    assert request.target.words[-1] == "picture"
    assert len(pipe.draw([request]).images) == 1
    made = replace(scenario, line="{title}, {caption}", caption="by {maker}")
    own = load(folder, scenario=made)
    assert own.read([{"title": "red mug", "facts": {"maker": "Ann"}}], "plate")
    with pytest.raises(PmgError, match="has no fact 'maker'"):
        own.read(["red mug"], "plate")
    with pytest.raises(PmgError, match="none with a scenario of the caller's"):
        own.save_pretrained(tmp_path / "other")


def test_notebooks_display_images_and_escaped_texts(pipe):
    output = pipe([ONE, OTHER], ["<script>rocket", 'a "cat" & dog'])
    html = output._repr_html_()
    assert html.count("<img ") == html.count("data:image/png;base64,") == 2
    assert "<script>" not in html
    assert "&lt;script&gt;rocket" in html
    assert 'alt="a &quot;cat&quot; &amp; dog' in html
    assert Image.open(io.BytesIO(output._repr_png_())).size == (128, 64)
    assert output[0] is output["images"] is output.images
    many = PersonalizedPipelineOutput(output.images * 3, output.records * 3)
    assert Image.open(io.BytesIO(many._repr_png_())).size == (256, 128)


def test_images_for_nobody_avoid_what_the_scenario_does(pipe, monkeypatch):
    scenario = replace(pipe.extractor.scenario, negative_prompt="blurry, dark")
    monkeypatch.setattr(pipe.extractor, "scenario", scenario)

    def avoided():
        preference = pipe.extract_preference(ONE)
        return [pipe.draw_candidates(whose, "rocket", 0)[1]["negative_keywords"] for whose in (None, preference)]

    assert avoided() == [[], []]  # without a scale they have no effect
    assert pipe(ONE, "rocket", guidance_scale={"negative": 1.0}).records[0]["negative_keywords"] == ["blurry, dark"]
    monkeypatch.setattr(pipe.pipeline, "scales", replace(pipe.pipeline.scales, negative=1.0))
    assert avoided() == [["blurry, dark"]] * 2


def test_images_start_from_pictures_of_their_targets(pipe):
    black, white = (to_picture(torch.full((3, 30, 40), level)) for level in (-1.0, 1.0))
    alone = pipe(ONE, ["rocket", "cat"], generator=rng())
    same = pipe(ONE, ["rocket", "cat"], generator=rng(), image=black, strength=0.05)
    each = pipe(ONE, ["rocket", "cat"], generator=rng(), image=[black, white], strength=0.05)
    assert np.array_equal(pixels(same)[0], pixels(each)[0])
    assert abs(pixels(same)[1] - pixels(each)[1]).max() > 2
    assert not np.array_equal(pixels(alone), pixels(same))
    assert [output.records[0]["strength"] for output in (alone, same)] == [None, 0.05]
    (start,) = read_starts(black, 0.5, 1, pipe.pipeline.generator)
    assert (start[:, 2].min(), start[:, 32].max()) == (1, -1)  # white above and below what isn't square


@pytest.mark.parametrize("alpha", [2, -0.1, "half"])
def test_an_alpha_out_of_range_is_refused_before_a_history_is_read(pipe, alpha):
    with pytest.raises(PmgError, match=r"alpha must be in \[0, 1\], got"):
        pipe.read(ONE, "rocket", alpha=alpha)
    with pytest.raises(PmgError, match=r"alpha must be in \[0, 1\], got"):
        pipe.draw([replace(pipe.read(ONE, "rocket"), alpha=alpha)])


def test_no_requests_are_refused(pipe):
    with pytest.raises(PmgError, match="requests is an empty list"):
        pipe.draw([])


def test_weights_without_effect_are_refused_for_candidates_too(pipe, monkeypatch):
    supports = replace(pipe.pipeline.generator.supports, embedding_scale=False, attention_bias=False)
    monkeypatch.setattr(type(pipe.pipeline.generator), "supports", supports)
    monkeypatch.setattr(pipe.pipeline, "weighting", ScaleWeighting())
    with pytest.raises(PmgError, match="its text tokens, so that their scale has no"):
        pipe.draw_candidates(None, "rocket", 0, weights=[(1.0, 0.5)])


def test_a_pair_of_the_user_is_the_users_message(pipe):
    pairs, mappings = (
        CallReader(None).users([], [], said)[0][0].conversation
        for said in ([("user", "I hate neon")], [{"role": "user", "content": "I hate neon"}])
    )
    assert pairs == mappings


@pytest.mark.parametrize("damage", ["closed", "exif"])
def test_pictures_that_cant_be_read_are_named(tmp_path, damage):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG", exif=b"garbage!" if damage == "exif" else None)
    picture = Image.open(io.BytesIO(file.getvalue()))
    if damage == "closed":
        picture.load()
        picture.close()
    store = GivenPictures([(Item("disc", "disc", "disc"), picture)])
    with pytest.raises(PmgError, match="the image of item 'disc' can't be read"):
        store.pixels(torch.tensor([0]))


def test_a_generator_of_half_precision_is_not_mixed_with_bfloat16(pipe):
    given = (pipe.pipeline.scorer, WeightGrid([1.0]), ScaleWeighting(), Scales(2.0, 2.0, 2.0))
    generator = pipe.pipeline.generator
    assert Pipeline(generator, *given, steps=2, bfloat16=True).bfloat16
    half = copy.deepcopy(generator)
    half.denoiser.half()
    assert not Pipeline(half, *given, steps=2, bfloat16=True).bfloat16


@pytest.mark.parametrize(
    ("said", "message"), [("", "must be text that isn't empty"), ("x" * 4001, "a message 4000")], ids=["empty", "long"]
)
def test_messages_of_both_forms_are_checked(pipe, said, message):
    for turn in (("user", said), {"role": "user", "content": said}):
        with pytest.raises(PmgError, match=rf"conversation\[0\].*{message}"):
            pipe.read(ONE, "rocket", conversation=[turn])
