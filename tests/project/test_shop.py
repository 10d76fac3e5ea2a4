"""The shop of the tutorial: every product is drawn, customers buy what exists, mostly of the makers they like."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from pmg.evaluation.metric_interface import MetricInfo, describe


@pytest.fixture
def shop(scripts):
    """The module experiments/shop/run.py."""
    from experiments.shop import run

    return run


def test_every_product_is_drawn_in_the_makers_colours(shop):
    look = shop.draw_look(random.Random(0), 3)
    pictures = {}
    for name, shapes in shop.read_products().items():
        picture = np.asarray(shop.draw_product(shapes, look, random.Random(1)))
        assert picture.shape == (shop.SIZE, shop.SIZE, 3)
        ground = (np.abs(picture.astype(int) - picture[0, 0]).sum(2) < 12).mean()
        assert 0.1 < ground < 0.95, name
        pictures[name] = picture.tobytes()
    assert len(set(pictures.values())) == len(pictures) >= 40


def test_customers_buy_items_of_makers_they_like(shop):
    products = sorted(shop.read_products())
    items = {shop.item_id(product, maker) for product in products for maker in range(shop.MAKERS)}
    rows = shop.draw_sales(products, random.Random(0))
    assert {item for _, item, _, _ in rows} <= items
    bought: dict[str, Counter[str]] = {}
    for customer, item, action, _ in rows:
        if action == "bought":
            bought.setdefault(customer, Counter())[item.rsplit("-", 1)[1]] += 1
    assert len(bought) == shop.CUSTOMERS
    share = [sum(count for _, count in makers.most_common(2)) / makers.total() for makers in bought.values()]
    assert sum(share) / len(share) > 1 - shop.NOISE - 0.05


def test_the_difference_between_own_and_mismatched_is_paired(scripts):
    from experiments.shop import results

    rng = np.random.default_rng(0)
    rows = [
        {"example": f"e{user}", "user": f"u{user}", "seed": 0, "method": method, "control": control,
         "lpips_truth": value + (0.2 if control == "mismatched" else 0.0)}
        for user, value in enumerate(rng.random(30))
        for method, control in (("none", "own"), ("pmg", "own"), ("pmg", "mismatched"))
    ]  # fmt: skip
    found = results.own_minus_mismatched(pd.DataFrame(rows), [MetricInfo("lpips_truth", "LPIPS")])
    assert set(found) == {"pmg"}
    difference = found["pmg"]["lpips_truth"]
    assert difference["mean"] == pytest.approx(-0.2)
    assert difference["high"] < -0.19
    assert difference["p"] < 0.01


@pytest.mark.slow
def test_a_part_of_the_shop_is_the_same_shop_with_fewer_items(shop, tmp_path):
    shop.make_shop(tmp_path / "part", pictures=30)
    items, sales = (pd.read_csv(tmp_path / "part" / name) for name in ("items.csv", "sales.csv"))
    assert len(items) == len(list((tmp_path / "part" / "pictures").iterdir())) == 30
    assert set(sales["item"]) <= set(items["id"])


def test_sizes_are_compared_on_common_examples(scripts, tmp_path):
    from experiments.shop import sizes

    metrics = describe([MetricInfo("lpips_truth", "LPIPS", False)])
    for size, better in ((0, 0.0), (250, 0.1)):
        folder = tmp_path / str(size)
        (folder / "results").mkdir(parents=True)
        (folder / "results" / "results.json").write_text(json.dumps({"revision": "abc", "metrics": metrics}))
        rows = [
            {"example": f"u{user}-{number}", "user": f"u{user}", "seed": 0, "method": method, "control": control,
             "lpips_truth": 0.5 + 0.01 * user - (better + 0.1 * (control == "own") if method == "style" else 0)}
            for user in range(4)
            for number in range(2 - bool(size))
            for method, control in (("none", "own"), ("style", "own"), ("style", "mismatched"))
        ]  # fmt: skip
        pd.DataFrame(rows).to_parquet(folder / "results" / "rows.parquet")
    for name in ("data", "denoiser"):
        (tmp_path / "250" / name).mkdir()
    (tmp_path / "250" / "data" / "manifest.json").write_text(json.dumps({"pictures": 241}))
    (tmp_path / "250" / "denoiser" / "metrics.json").write_text(json.dumps({"identity": {"trainer.max_steps": 200}}))
    document = tmp_path / "shop.md"
    document.write_text("<!-- sizes-table -->\n<!-- end of sizes-table -->\n")
    sizes.main(tmp_path, tmp_path / "sizes.json", document)
    shipped, trained = json.loads((tmp_path / "sizes.json").read_text())
    assert (shipped["steps"], trained["pictures"], trained["steps"]) == (0, 241, 200)
    assert shipped["lpips_truth"]["none"]["mean"] == pytest.approx(0.515)
    assert trained["lpips_truth"]["style"]["mean"] == pytest.approx(0.315)
    assert trained["own_minus_mismatched"]["mean"] == pytest.approx(-0.1)
    assert "| none: as shipped | 0 | 0.515 [" in document.read_text()
    shutil.copytree(tmp_path / "250", tmp_path / "again")
    with pytest.raises(SystemExit, match=r"250 and .*again both have a generator of 241 pictures"):
        sizes.main(tmp_path, tmp_path / "sizes.json", document)
    with pytest.raises(SystemExit, match="has no folder with results"):
        sizes.main(tmp_path / "250" / "data", tmp_path / "sizes.json", document)
