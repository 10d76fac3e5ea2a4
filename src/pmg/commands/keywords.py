"""``pmg-keywords``: measures how well keywords of real users' likes predict later ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pmg.cache import atomic_write_text
from pmg.configuration.instantiate import instantiate, nearest
from pmg.domain import Example, Keywords, PmgError
from pmg.orchestration.builders import Builder
from pmg.orchestration.hardware import check_device
from pmg.orchestration.launcher import launch
from pmg.orchestration.run import Run, tracked

if TYPE_CHECKING:
    from pmg.data.dataset import Timeline
    from pmg.models.diffusion.interfaces import PromptEncoder
    from pmg.preferences.keyword_decoding import Decoding
    from pmg.preferences.scenarios import Scenario


@tracked
def body(cfg: DictConfig, run: Run) -> None:
    """Measures how well keywords of real users' likes predict later ones."""
    from pmg.data.interactions import cut_later
    from pmg.evaluation.comparison import Comparison
    from pmg.evaluation.faithfulness import METRICS, agreement_rows, with_words
    from pmg.evaluation.results import ResultBuilder, write_results
    from pmg.generation.dataset_generation import mismatch
    from pmg.runs.provenance import origin

    check_device(cfg.device)
    builder, vocabulary = Builder(cfg, run), _vocabulary(instantiate(cfg.scenario), cfg.attribute)
    data = builder.data
    timelines = [timeline for split in cfg.splits for timeline in data.timelines(split)]
    examples = with_words(cut_later(timelines, cfg.history_items, cfg.later_items), vocabulary)[: cfg.users]
    if not examples:
        needed = cfg.history_items + cfg.later_items
        splits = " and ".join(cfg.splits) or "no split"
        raise PmgError(
            f"no user of {splits} liked {needed} items or more, the later ones with words of {cfg.attribute}"
        )
    methods = {
        "popularity": popular(data.timelines("train"), examples, vocabulary),
        **read(builder, examples, instantiate(cfg.text_encoder), instantiate(cfg.decoding)),
    }
    later = {example.user: example.truth for example in examples}
    others = mismatch({user: user for user in later}, builder.seed)
    rows = agreement_rows(methods, others, later, vocabulary, builder.seed, ["popularity"])
    with run.ledger.phase("statistics"):
        comparison = Comparison(baseline="popularity", proposed="keywords", gap_metric=METRICS[0].name)
        results = ResultBuilder(METRICS, comparison, seed=builder.seed).build(rows)
        results |= origin({"keywords": run.ledger.as_dict()}, builder.masked)
    run.begin()
    write_results(cfg.results_dir, results, rows)
    lines = [json.dumps({"user": u, **{name: found[u].words for name, found in methods.items()}}) for u in later]
    atomic_write_text(Path(cfg.results_dir, "keywords.jsonl"), "\n".join(lines) + "\n")
    run.publish(Path(cfg.results_dir), results)


def _vocabulary(scenario: Scenario, attribute: str) -> Sequence[str]:
    attributes = scenario.attributes
    if attribute not in attributes or not attributes[attribute].options:
        having = [name for name, values in attributes.items() if values.options]
        raise PmgError(
            f"attribute: the scenario '{scenario.name}' has no '{attribute}' with options (it has {', '.join(having)})"
            f"{nearest(attribute, having)}"
        )
    return attributes[attribute].options


def popular(
    timelines: Sequence[Timeline], examples: Sequence[Example], vocabulary: Sequence[str]
) -> dict[str, Keywords]:
    """Returns the most frequent words of other users' likes for each user; an example a user."""
    import torch

    from pmg.evaluation.faithfulness import count_words

    counts = {timeline.user: count_words(timeline.liked, vocabulary) for timeline in timelines}
    every = torch.zeros(len(vocabulary)) + sum(counts.values())
    found = {}
    for example in examples:
        others = every - counts.get(example.user, 0)
        words = tuple(vocabulary[place] for place in others.argsort(descending=True, stable=True))
        found[example.user] = Keywords(words)
    return found


def read(
    builder: Builder, examples: Sequence[Example], text_encoder: PromptEncoder, decoding: Decoding
) -> Mapping[str, Mapping[str, Keywords]]:
    """Returns each user's keywords, counted and by the language model."""
    from pmg.preferences.keyword_sources import count_keywords

    # dislikes would be read for negative keywords, which nothing here compares
    examples = [replace(each, history=tuple(one for one in each.history if one.liked)) for each in examples]
    captions = builder.captions(examples)
    with builder.extractor(text_encoder) as extractor, builder.run.ledger.phase("read histories"):
        found = extractor.extract(examples, captions, [decoding], pixels=builder.pixels())
    counted = {example.user: count_keywords(example, extractor.scenario, captions) for example in examples}
    return {"counting": counted, "keywords": dict(zip(found.profiles, found.keywords(decoding), strict=True))}


main = partial(launch, "keywords", body)

if __name__ == "__main__":
    main()
