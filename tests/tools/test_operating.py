"""The operating point: by hand, against brute force, and what its intervals promise."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from fcam_tools.common.errors import ToolError
from fcam_tools.data import Picture
from fcam_tools.measure import operating
from fcam_tools.measure.operating import Prices


def example(count: int, seed: int = 0, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 4 == 0
    return 1 / (1 + np.exp(-random.normal(size=count) - np.where(labels, shift, -shift))), labels.astype(int)


def test_point_by_hand() -> None:
    scores, labels = [0.1, 0.2, 0.3, 0.8, 0.25, 0.9], [0, 0, 0, 0, 1, 1]
    # Half the parts bad. Above 0.8: 1/2 escapes. Between 0.2 and 0.25: 2/4 rejected. Between 0.3 and 0.8: both halves.
    dear = operating.choose(scores, labels, Prices(escape=10, reject=1, ng_rate=0.5), count=50)
    assert dear.threshold == pytest.approx(0.225) and (dear.escape_rate, dear.false_reject_rate) == (0, 0.5)
    assert dear.cost == pytest.approx(0.5 * 1 * 0.5)
    cheap = operating.choose(scores, labels, Prices(escape=1, reject=10, ng_rate=0.5), count=50)
    assert cheap.threshold == pytest.approx(0.85) and (cheap.escape_rate, cheap.false_reject_rate) == (0.5, 0)
    assert cheap.cost == pytest.approx(0.5 * 1 * 0.5)
    # As dear as a reject, but one bad part in a thousand: an escape must cost 999 times as much to weigh the same.
    rare = operating.choose(scores, labels, Prices(escape=10, reject=1, ng_rate=0.001), count=50)
    assert rare.threshold == pytest.approx(0.85)


@pytest.mark.parametrize("prices", [Prices(1, 1, 0.5), Prices(100, 1, 0.02), Prices(3, 7, 0.3)])
def test_no_other_threshold_is_cheaper(prices: Prices) -> None:
    scores, labels = example(400)
    point = operating.choose(np.round(scores, 2), labels, prices, count=20)  # with ties
    costs = [
        prices.cost((np.round(scores, 2)[labels == 1] < t).mean(), (np.round(scores, 2)[labels == 0] >= t).mean())
        for t in np.linspace(0.001, 0.999, 3000)
    ]
    assert point.cost <= min(costs) + 1e-12
    assert point.cost == pytest.approx(prices.cost(point.escape_rate, point.false_reject_rate))


def test_interval_covers_the_threshold_of_the_whole_population() -> None:
    prices = Prices(5, 1, 0.2)
    everyone = operating.choose(*example(40_000, seed=99), prices, count=1)
    points = [operating.choose(*example(300, seed), prices, count=200) for seed in range(20)]
    covered = sum(p.threshold_interval[0] <= everyone.threshold <= p.threshold_interval[1] for p in points)
    assert covered >= 16  # of 20, where 19 are promised
    rates = sum(p.escape_interval[0] <= everyone.escape_rate <= p.escape_interval[1] for p in points)
    assert rates >= 14  # chosen on the same pictures
    seen = np.mean([prices.cost(p.escape_rate, p.false_reject_rate) for p in points])
    unseen = np.mean([prices.cost(p.unseen_escape_rate, p.unseen_false_reject_rate) for p in points])
    assert seen < everyone.cost < unseen * 1.05  # the pictures that chose it flatter a threshold


def test_exact_interval_of_nothing_seen() -> None:
    # Clopper and Pearson: no escape in 30 still allows 1 - 0.025 ** (1 / 30).
    assert operating.exact_interval(0, 30) == (0.0, pytest.approx(1 - 0.025 ** (1 / 30)))
    assert operating.exact_interval(30, 30) == (pytest.approx(0.025 ** (1 / 30)), 1.0)
    low, high = operating.exact_interval(5, 10)
    assert (low, high) == (pytest.approx(0.1871, abs=1e-4), pytest.approx(0.8129, abs=1e-4))  # the tables' value


def test_peak_is_what_enough_pixels_reach() -> None:
    found = np.zeros((4, 4))
    found[0, :3] = 0.9, 0.8, 0.7
    assert [operating.peak_of(found, area) for area in (1, 2, 3, 4, 99)] == [0.9, 0.8, 0.7, 0.0, 0.0]


def test_map_threshold_weighs_small_regions_like_large_ones() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :10], mask[15, 15:18] = True, True  # a hundred pixels, and three
    found = np.where(mask, 0.9, 0.0)
    found[15, 15:18] = 0.3
    regions = operating.Regions()
    regions.update(found, mask)
    assert len(regions.recalls) == 2
    peaks, labels = [0.9, 0.2, 0.5, 0.1, 0.1], [1, 0, 0, 0, 0]
    # At 0.3 all is marked, and one good part of four; above 0.5 no good part, and half of the REGIONS (3 % of the
    # pixels) is missed.
    dear = operating.choose_map(peaks, labels, Prices(1, 1, 0.5), regions, count=20)
    assert 0.2 < dear["threshold"] <= 0.3 and (dear["pro"], dear["ok_marked_rate"]) == (1.0, 0.25)
    cheap = operating.choose_map(peaks, labels, Prices(1, 9, 0.5), regions, count=20)
    assert 0.5 < cheap["threshold"] <= 0.9 and (cheap["pro"], cheap["ok_marked_rate"]) == (0.5, 0.0)
    labels_alone = operating.choose_map(peaks, labels, Prices(1, 1, 0.5), None, count=20)
    assert labels_alone["chosen_by"] == "image labels" and labels_alone["threshold"] == pytest.approx(0.7)


def test_thresholds_reach_the_bundle_s_table() -> None:
    def source(path: Path) -> tuple[float, np.ndarray]:
        value = int(path.stem) / 10
        return value, np.full((4, 4), value / 2)

    pictures = [Picture(Path(f"{i}.png"), int(i > 5)) for i in range(10)]
    points = operating.measure(pictures, source, 6).points(Prices(1, 1, 0.5))
    limits = operating.shipped({"score": 0.5, "map": 0.5, "map_low": 0.3, "min_area_px": 6}, points)
    assert limits == {"score": pytest.approx(0.55), "map": pytest.approx(0.275), "map_low": pytest.approx(0.165),
                      "min_area_px": 6}  # fmt: skip
    assert "threshold 0.5500" in operating.shown(points["score"])


def test_map_that_tells_nothing_keeps_its_threshold() -> None:
    def source(path: Path) -> tuple[float, np.ndarray]:
        return int(path.stem) / 10, np.full((4, 4), 0.4 + int(path.stem) % 3 / 10)

    pictures = [Picture(Path(f"{i}.png"), int(i > 5)) for i in range(10)]
    points = operating.measure(pictures, source, 6).points(Prices(1, 1, 0.5))
    assert not points["map"]["useful"] and "not used" in operating.shown(points["map"])
    limits = {"score": 0.5, "map": 0.5, "map_low": 0.3, "min_area_px": 6}
    assert operating.shipped(limits, points) == limits | {"score": pytest.approx(0.55)}


def asked(**given: object) -> argparse.Namespace:
    plain = {"escape_cost": None, "reject_cost": None, "ng_rate": None, "masks": False}
    return argparse.Namespace(**plain | given)


def test_prices_are_asked_for_and_checked() -> None:
    assert operating.prices_of(asked(), [0, 1]) is None
    assert operating.prices_of(asked(escape_cost=2, reject_cost=1), [0, 0, 0, 2]) == Prices(2, 1, 0.25)
    for wrong in ({"escape_cost": 2}, {"ng_rate": 0.1}, {"masks": True}, {"escape_cost": 0, "reject_cost": 1},
                  {"escape_cost": 1, "reject_cost": 1, "ng_rate": 1.0}):  # fmt: skip
        with pytest.raises(ToolError):
            operating.prices_of(asked(**wrong), [0, 1])
    with pytest.raises(ToolError, match="OK and defective"):
        operating.choose([0.1, 0.2], [0, 0], Prices(1, 1, 0.5))
