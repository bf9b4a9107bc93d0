"""The metrics against arithmetic by hand, against scikit-learn and torchmetrics, and against slow exact references."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import scipy.ndimage
from fcam_tools.measure import metrics
from fcam_tools.measure.metrics import Aupro, FixedThreshold, MaxBoxAcc, PixelCurve, Scorer
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def smooth_map(random: np.random.Generator, shape: tuple[int, int] = (40, 56), sigma: float = 3.0) -> np.ndarray:
    noise = scipy.ndimage.gaussian_filter(random.normal(size=shape), sigma)
    return (1 / (1 + np.exp(-3 * noise / noise.std()))).astype(np.float32)


def blob_mask(random: np.random.Generator, shape: tuple[int, int] = (40, 56), above: float = 1.2) -> np.ndarray:
    noise = scipy.ndimage.gaussian_filter(random.normal(size=shape), 3)
    return noise > above * noise.std()


def box(shape: tuple[int, int], top: int, left: int, bottom: int, right: int, value: float = 1.0) -> np.ndarray:
    out = np.zeros(shape, dtype=np.float32)
    out[top:bottom, left:right] = value
    return out


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_image_metrics_by_hand() -> None:
    scores, labels = [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]
    # Of the 4 (defect, ok) pairs, only (0.35, 0.4) is in the wrong order.
    assert metrics.image_auroc(scores, labels) == pytest.approx(3 / 4)
    # 0.8: precision 1/1 for the first half of the recall; 0.35 is the third picture: 2/3 for the second half.
    assert metrics.image_ap(scores, labels) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_image_metrics_need_both_labels() -> None:
    for labels in ([0, 0], [1, 1]):
        assert metrics.image_auroc([0.2, 0.3], labels) is None
        assert metrics.image_ap([0.2, 0.3], labels) is None


def test_operating_point_by_hand() -> None:
    good = [i / 100 for i in range(100)]  # 0.00 .. 0.99
    defects = [0.5, 0.985, 0.985, 2.0]
    scores, labels = good + defects, [0] * 100 + [1] * 4
    # One of 100 may be rejected (0.99), so the threshold is just above the next one, 0.98: only the 0.5 escapes.
    one = metrics.operating_point(scores, labels, 0.01)
    assert one["threshold"] == pytest.approx(0.98, abs=1e-7) and one["threshold"] > 0.98
    assert (one["false_reject_rate"], one["escape_rate"]) == (0.01, 0.25)
    # None may be rejected: just above 0.99, so both 0.985 escape too.
    none = metrics.operating_point(scores, labels, 0.0)
    assert (none["false_reject_rate"], none["escape_rate"]) == (0.0, 0.75)
    # 0.29 * 100 is 28.999... in floating point: 29 rejects are still allowed.
    assert metrics.operating_point(scores, labels, 0.29)["false_reject_rate"] == 0.29


def test_operating_point_with_ties_and_few_pictures() -> None:
    # Two of four OK pictures tie at the top: rejecting one means rejecting both, 50 % > 25 %, so none is rejected.
    point = metrics.operating_point([0.7, 0.7, 0.1, 0.1, 0.7, 0.8], [0, 0, 0, 0, 1, 1], 0.25)
    assert (point["false_reject_rate"], point["escape_rate"]) == (0.0, 0.5)
    # With 3 OK pictures, 1 % allows no reject.
    assert metrics.operating_point([0.1, 0.2, 0.3, 0.9], [0, 0, 0, 1], 0.01)["false_reject_rate"] == 0
    assert metrics.operating_point([0.1, 0.2], [1, 1], 0.01)["threshold"] is None
    assert metrics.operating_point([0.1, 0.2], [0, 0], 0.01)["escape_rate"] is None


@pytest.mark.parametrize("limit", [0.0, 0.01, 0.05, 0.3])
def test_operating_point_is_the_smallest_that_keeps_the_limit(limit: float) -> None:
    random = rng()
    scores = random.integers(0, 40, size=300).astype(np.float32) / 40  # many ties
    labels = random.random(300) < 0.3
    point = metrics.operating_point(scores, labels, limit)
    shipped = np.float32(point["threshold"])
    assert shipped == point["threshold"]  # survives a float32 bundle
    assert np.mean(scores[~labels] >= shipped) == point["false_reject_rate"] <= limit
    assert np.mean(scores[~labels] >= np.nextafter(shipped, np.float32(-1))) > limit
    assert point["escape_rate"] == np.mean(scores[labels] < shipped)


def test_confusion_by_hand() -> None:
    # At the threshold itself a picture is rejected.
    out = metrics.confusion([0.5, 0.49, 0.9, 0.5, 0.1], [1, 1, 1, 0, 0], 0.5)
    assert (out["defects_rejected"], out["defects_accepted"]) == (2, 1)
    assert (out["ok_rejected"], out["ok_accepted"]) == (1, 1)
    assert (out["escape_rate"], out["false_reject_rate"]) == (1 / 3, 1 / 2)
    assert metrics.confusion([0.5], [1], 0.5)["false_reject_rate"] is None


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_pixel_curve_by_hand() -> None:
    curve = PixelCurve()
    curve.update(np.array([[0.9, 0.6], [0.4, 0.1]]), np.array([[1, 0], [1, 0]]))
    out = curve.compute()
    # 0.9: precision 1 at recall 1/2; 0.4 comes third: precision 2/3 at recall 1.
    assert out["pxap"] == pytest.approx(100 * (1 / 2 + 1 / 2 * 2 / 3))
    assert out["pixel_auroc"] == pytest.approx(3 / 4)  # of 4 pairs, only (0.4, 0.6) is wrong
    # Down to 0.4: 2 hits, 1 false: F1 = 2 * 2 / (3 + 2). Down to 0.9 only: 2 * 1 / (1 + 2) = 0.67.
    assert out["f1_max"] == pytest.approx(4 / 5)
    assert out["f1_max_threshold"] == pytest.approx(0.4)


def test_pixels_are_pooled_not_averaged_over_pictures() -> None:
    # Each picture alone is perfect, but the second one's background (0.5) outranks the first one's defect (0.2).
    pictures = [np.array([[0.2, 0.1]]), np.array([[0.9, 0.5]])]
    mask = np.array([[1, 0]])
    pooled = PixelCurve()
    for picture in pictures:
        pooled.update(picture, mask)
        alone = PixelCurve()
        alone.update(picture, mask)
        assert alone.compute()["pxap"] == 100
    # Order: 0.9 (defect), 0.5 (background), 0.2 (defect), 0.1: 1/2 * 1 + 1/2 * 2/3.
    assert pooled.compute()["pxap"] == pytest.approx(100 * (1 / 2 + 1 / 3))


def test_pixels_of_ok_pictures_count() -> None:
    curve = PixelCurve()
    curve.update(np.array([[0.8, 0.1]]), np.array([[1, 0]]))
    curve.update(np.array([[0.9, 0.9]]), np.zeros((1, 2)))
    # Two false pixels above the only defect pixel: precision 1/3; it beats 1 of 3 background pixels.
    assert curve.compute()["pxap"] == pytest.approx(100 / 3)
    assert curve.compute()["pixel_auroc"] == pytest.approx(1 / 3)


def test_ignored_pixels_do_not_count_but_defect_pixels_always_do() -> None:
    picture, mask = np.array([[0.9, 0.8, 0.1]]), np.array([[0, 1, 0]])
    ignore = np.array([[1, 1, 0]])  # the false 0.9 goes, the defect stays
    curve, fixed, aupro = PixelCurve(), FixedThreshold(0.5), Aupro()
    for part in (curve, fixed, aupro):
        part.update(picture, mask, ignore)
    assert curve.compute()["pxap"] == 100 and curve.compute()["pixel_auroc"] == 1
    assert fixed.compute()["iou_fixed"] == 1
    assert aupro.compute() == pytest.approx(1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pxap_bins_are_numpys(dtype: type) -> None:
    edges = metrics.PXAP_EDGES[:1001].astype(dtype)
    zero, one = dtype(0), dtype(1)
    near = np.concatenate([edges, np.nextafter(edges, zero), np.nextafter(edges, one), rng().random(5000, dtype=dtype)])
    expected = np.searchsorted(metrics.PXAP_EDGES, near.astype(np.float64), side="right") - 1
    assert np.array_equal(metrics.pxap_bins(near), expected)
    counted, _ = np.histogram(near, metrics.PXAP_EDGES)
    assert np.array_equal(np.bincount(metrics.pxap_bins(near), minlength=metrics.PXAP_BINS), counted)


def test_fine_bins_rise_and_are_as_narrow_as_stated() -> None:
    tails = np.geomspace(2**-30, 0.5, 200_000)
    scores = np.unique(np.concatenate([[0, 0.5, 1], tails, 1 - tails, np.linspace(0, 1, 200_000)]).astype(np.float32))
    bins = metrics.fine_bins(scores)
    assert bins[0] == 0 and bins[-1] == metrics.FINE_BINS - 1 and (np.diff(bins) >= 0).all()
    low = scipy.ndimage.minimum(scores, bins, np.unique(bins))
    high = scipy.ndimage.maximum(scores, bins, np.unique(bins))
    assert (high - low).max() < 1 / 4096
    grid = np.arange(4097) / 4096
    assert len(np.unique(metrics.fine_bins(grid))) == 4097


def quantised(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random pixels on the centres of PxAP's bins, no two of which share a fine bin."""
    mask = random.random((60, 70)) < 0.2
    scores = np.clip(random.normal(0.4 + 0.2 * mask, 0.2), 0, 0.999)
    return (np.floor(scores * 1000) + 0.5) / 1000, mask


def test_pixel_curve_equals_sklearn_on_quantised_pixels() -> None:
    random, curve = rng(), PixelCurve()
    pictures = [quantised(random) for _ in range(3)]
    for picture, mask in pictures:
        curve.update(picture, mask)
    scores, truth = (np.concatenate([pair[i].ravel() for pair in pictures]) for i in (0, 1))
    out = curve.compute()
    assert out["pxap"] == pytest.approx(100 * average_precision_score(truth, scores), abs=1e-6)
    assert out["pixel_auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    exact = max(2 * (truth & (scores >= t)).sum() / ((scores >= t).sum() + truth.sum()) for t in np.unique(scores))
    assert out["f1_max"] == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("saturated", [False, True])
def test_pixel_auroc_keeps_its_binning_bound(saturated: bool) -> None:
    random, curve = rng(), PixelCurve()
    mask = random.random((200, 200)) < 0.05
    logits = random.normal(-9 + 2 * mask) if saturated else random.normal(mask.astype(float))
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    curve.update(scores, mask)
    out = curve.compute()
    exact = roc_auc_score(mask.ravel(), scores.ravel())
    assert abs(out["pixel_auroc"] - exact) <= out["pixel_auroc_error_max"] + 1e-12
    # Nearly all of the saturated map is below 1/1000; bins that fine towards 0 still tell its pixels apart.
    assert out["pixel_auroc_error_max"] < 1e-3


def test_perfect_inverted_and_constant_maps() -> None:
    mask = blob_mask(rng())
    share = mask.mean()
    found: dict[str, dict[str, float | None]] = {}
    for name, scores in (("perfect", mask), ("inverted", ~mask), ("constant", np.full(mask.shape, 0.3))):
        scorer = Scorer()
        scorer.update(0.9, 1, scores.astype(np.float32), mask)
        found[name] = scorer.compute()
    perfect, inverted, constant = found["perfect"], found["inverted"], found["constant"]
    for key in ("pixel_auroc", "aupro_030", "f1_fixed", "iou_fixed", "iou_fixed_mean", "f1_max"):
        assert perfect[key] == pytest.approx(1), key
    for key in metrics.PERCENT:
        assert perfect[key] == pytest.approx(100), key
    assert inverted["pixel_auroc"] == inverted["aupro_030"] == inverted["iou_fixed"] == inverted["f1_fixed"] == 0
    # The inverted map finds the defect last: precision at full recall is the share of defect pixels, as for a constant.
    assert inverted["pxap"] == constant["pxap"] == pytest.approx(100 * share)
    assert constant["pixel_auroc"] == pytest.approx(0.5)
    # Recall = false positive rate: the area to 0.3 is 0.3^2 / 2, divided by 0.3.
    assert constant["aupro_030"] == pytest.approx(0.15)
    assert constant["f1_max"] == pytest.approx(2 * share / (1 + share))  # call everything a defect
    assert constant["f1_fixed"] == 0  # 0.3 is below the fixed 0.5


def test_fixed_threshold_by_hand() -> None:
    fixed = FixedThreshold(0.5)
    # At the threshold a pixel is found: hits 1, false 1, missed 1: IoU 1/3.
    fixed.update(np.array([[0.5, 0.7, 0.49, 0.0]]), np.array([[1, 0, 1, 0]]))
    # Hits 2 of 2, nothing false: IoU 1.
    fixed.update(np.array([[0.9, 0.9, 0.1, 0.0]]), np.array([[1, 1, 0, 0]]))
    # An OK picture with 2 false pixels has no IoU of its own but counts in the pool.
    fixed.update(np.array([[0.9, 0.9, 0.1, 0.0]]), np.zeros((1, 4)))
    out = fixed.compute()
    # Pooled: hits 3, false 3, missed 1.
    assert out["iou_fixed"] == pytest.approx(3 / 7)
    assert out["f1_fixed"] == pytest.approx(6 / 10)
    assert out["iou_fixed_mean"] == pytest.approx((1 / 3 + 1) / 2)


def test_fixed_threshold_is_not_rounded_to_the_maps_precision() -> None:
    # float32(0.1) is above 0.1, float32(0.7) is below 0.7: only the first one is found at its own threshold.
    for value, hit in ((0.1, 1.0), (0.7, 0.0)):
        fixed = FixedThreshold(value)
        fixed.update(np.full((1, 1), value, dtype=np.float32), np.ones((1, 1)))
        assert fixed.compute()["iou_fixed"] == hit


def test_f1_max_is_at_least_f1_at_a_threshold_of_its_grid() -> None:
    random, curve, fixed = rng(), PixelCurve(), FixedThreshold(0.5)
    for _ in range(4):
        picture, mask = smooth_map(random), blob_mask(random)
        curve.update(picture, mask)
        fixed.update(picture, mask)
    assert curve.compute()["f1_max"] >= fixed.compute()["f1_fixed"]


def test_torchmetrics_agrees() -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    classification = pytest.importorskip("torchmetrics.classification")
    random, curve, fixed = rng(), PixelCurve(), FixedThreshold(0.5)
    theirs = {
        "pxap": classification.BinaryAveragePrecision(),
        "pixel_auroc": classification.BinaryAUROC(),
        "f1_fixed": classification.BinaryF1Score(threshold=0.5),
        "iou_fixed": classification.BinaryJaccardIndex(threshold=0.5),
    }
    for _ in range(3):
        picture, mask = quantised(random)
        curve.update(picture, mask)
        fixed.update(picture, mask)
        for metric in theirs.values():
            metric.update(torch.from_numpy(picture.astype(np.float32).ravel()), torch.from_numpy(mask.ravel()).int())
    ours = {**curve.compute(), **fixed.compute()}
    for key, metric in theirs.items():
        scale = 100 if key in metrics.PERCENT else 1
        assert ours[key] / scale == pytest.approx(float(metric.compute()), abs=2e-6), key  # theirs is float32


# --- regions ----------------------------------------------------------------------------------------------------------


def test_aupro_by_hand() -> None:
    aupro = Aupro(0.3)
    # Region A: one pixel at 0.9. Region B: two pixels, 0.8 and 0.2. Background: 0.5 and three times 0.1.
    aupro.update(np.array([[0.9, 0.5, 0.8, 0.2, 0.1, 0.1, 0.1]]), np.array([[1, 0, 1, 1, 0, 0, 0]]))
    # Before any false pixel: A all, B half: 0.75. At 0.5: false positive rate 1/4, still 0.75. At 0.2: 1/4 and 1.
    # Area to 0.3: 0.25 * 0.75 + 0.05 * 1, divided by 0.3.
    assert aupro.compute() == pytest.approx((0.25 * 0.75 + 0.05) / 0.3)


def test_aupro_is_linear_at_the_limit() -> None:
    aupro = Aupro(0.3)
    aupro.update(np.array([[0.9, 0.1, 0.1, 0.1]]), np.array([[1, 1, 0, 0]]))
    # Half the region first, then one tie of everything else: the line from (0, 0.5) to (1, 1) is at 0.65 at 0.3.
    assert aupro.compute() == pytest.approx((0.5 + 0.65) / 2)


def test_aupro_weighs_regions_not_pixels() -> None:
    # A region of 99 pixels found at once, one of 1 pixel below all background: 0.5, not 0.99.
    scores, mask = np.full((20, 20), 0.1), np.zeros((20, 20), dtype=bool)
    mask[:9, :11], mask[15, 15] = True, True
    scores[:9, :11], scores[15, 15] = 0.9, 0.0
    aupro = Aupro(0.3)
    aupro.update(scores, mask)
    assert aupro.compute() == pytest.approx(0.5)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    scores = np.array([[0.9, 0.9, 0.5], [0.5, 0.5, 0.1], [0.5, 0.5, 0.5]])
    mask = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]])
    aupro = Aupro(0.3)
    aupro.update(scores, mask)
    # One region, 2 of 3 pixels found before the background; two regions (1 and 0) would give 1/2.
    assert aupro.compute() == pytest.approx(2 / 3)
    assert len(metrics.mask_boxes(mask)) == 1


def exact_aupro(pictures: list[tuple[np.ndarray, np.ndarray]], limit: float) -> float:
    """Slow and exact: the mean over regions of the partial area under the region-against-all-background ROC curve."""
    background = np.concatenate([scores[~mask] for scores, mask in pictures])
    areas = []
    for scores, mask in pictures:
        labels, count = scipy.ndimage.label(mask, np.ones((3, 3)))
        for region in range(1, count + 1):
            inside = scores[labels == region]
            truth = np.append(np.zeros(len(background)), np.ones(len(inside)))
            rates, recalls, _ = roc_curve(truth, np.append(background, inside), drop_intermediate=False)
            area = 0.0
            for i in range(1, len(rates)):
                width = min(rates[i], limit) - min(rates[i - 1], limit)
                if width > 0:
                    slope = (recalls[i] - recalls[i - 1]) / (rates[i] - rates[i - 1])
                    area += width * (recalls[i - 1] + slope * width / 2)
            areas.append(area / limit)
    return math.fsum(areas) / len(areas)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_equals_the_exact_reference_on_quantised_maps(limit: float) -> None:
    random, aupro = rng(), Aupro(limit)
    pictures = []
    for _ in range(4):
        mask = blob_mask(random)
        scores = np.round((0.8 * smooth_map(random) + 0.2 * mask) * 4096) / 4096
        pictures.append((scores, mask))
    pictures.append((np.round(smooth_map(random) * 4096) / 4096, np.zeros((40, 56), dtype=bool)))
    for scores, mask in pictures:
        aupro.update(scores, mask)
    assert aupro.compute() == pytest.approx(exact_aupro(pictures, limit), abs=1e-9)


@pytest.mark.parametrize("shift", [0.0, -9.0])
def test_aupro_keeps_its_binning_bound(shift: float) -> None:
    random, aupro = rng(), Aupro(0.3)
    pictures = []
    for _ in range(3):
        mask = blob_mask(random)
        logits = scipy.ndimage.gaussian_filter(random.normal(size=mask.shape), 2) * 8 + 1.5 * mask + shift
        pictures.append(((1 / (1 + np.exp(-logits))).astype(np.float32), mask))
        aupro.update(*pictures[-1])
    bound = aupro.error_max()
    assert bound is not None and bound < 1e-3
    assert abs(aupro.compute() - exact_aupro(pictures, 0.3)) <= bound + 1e-12


# What anomalib 2.7.0 gives for the pictures of the test below, recorded with
#   metric = anomalib.metrics.aupro._AUPRO(fpr_limit=limit)
#   metric.update(torch.tensor(maps), torch.tensor(masks).int()); float(metric.compute())
ANOMALIB = {
    (0, 0.3): 0.4044857621192932,
    (0, 0.05): 0.37458911538124084,
    (1, 0.3): 0.2733056843280792,
    (1, 0.05): 0.23367130756378174,
    (2, 0.3): 0.47763267159461975,
    (2, 0.05): 0.4598972499370575,
}


@pytest.mark.parametrize(("seed", "limit"), list(ANOMALIB))
def test_aupro_agrees_with_anomalib(seed: int, limit: float) -> None:
    random, aupro = np.random.default_rng(seed), Aupro(limit)
    for _ in range(6):
        mask = blob_mask(random)
        scores = np.clip(0.7 * smooth_map(random) + 0.3 * mask * random.random(), 0, 1).astype(np.float32)
        aupro.update(scores, mask)
    bound = aupro.error_max()
    assert bound is not None and bound < 1.5e-4
    assert aupro.compute() == pytest.approx(ANOMALIB[seed, limit], abs=bound)


# --- boxes ------------------------------------------------------------------------------------------------------------


def test_box_convention_by_hand() -> None:
    # 3 x 2 pixels at (2, 1): the far corner is one outside, x 2..5 and y 1..3, unless the picture ends there.
    mask = box((8, 8), 1, 2, 3, 5) + box((8, 8), 6, 6, 8, 8)
    assert metrics.mask_boxes(mask).tolist() == [[2, 1, 5, 3], [6, 6, 7, 7]]
    # Both corners inclusive: 4 x 3 = 12 and 2 x 3 = 6 pixels; 2 x 3 shared: 6 / 12.
    first, second = np.array([[2, 1, 5, 3]]), np.array([[4, 1, 5, 3]])
    assert metrics.box_iou(first, second) == pytest.approx(np.array([[0.5]]))
    assert metrics.box_iou(first, np.array([[6, 1, 7, 3]])) == pytest.approx(np.array([[0.0]]))


def test_v1_takes_the_largest_contour_and_v2_any() -> None:
    shape = (40, 40)
    mask = box(shape, 2, 2, 8, 8)
    score_map = np.maximum(mask, box(shape, 20, 20, 36, 36))  # the right one, and a larger wrong one, equally sure
    boxes = MaxBoxAcc()
    boxes.update(score_map, mask)
    assert boxes.compute() == {"max_box_acc_v1": 0.0, "max_box_acc_v2": 100.0}


def test_v2_counts_the_contours_of_holes() -> None:
    shape = (40, 40)
    ring = box(shape, 5, 5, 25, 25)
    ring[10:20, 10:20] = 0
    boxes = MaxBoxAcc()
    boxes.update(ring, box(shape, 10, 10, 20, 20))
    # The hole's contour runs on the ring: 12 x 12 pixels, a box of 13 x 13 = 169 around the mask's 11 x 11 = 121: IoU
    # 0.72. The ring's own box is 21 x 21 = 441: IoU 0.27.
    assert boxes.compute() == {"max_box_acc_v1": 0.0, "max_box_acc_v2": 100.0}


def test_v2_takes_a_best_tau_for_each_iou() -> None:
    shape = (40, 40)
    mask, halo = box(shape, 10, 10, 20, 20), box(shape, 7, 7, 23, 23, 0.5)
    peak = box(shape, 15, 15, 16, 16)
    boxes = MaxBoxAcc()
    for top in (mask, peak):
        boxes.update(np.maximum(halo, top), mask)
    # Low taus: both boxes are the halo's, 17 x 17 = 289 around 11 x 11 = 121: IoU 0.42, right at 0.3 only.
    # High taus: IoU 1 for the first, 4 / 121 for the second. So 2 of 2 at 0.3, then 1 of 2 at 0.5 and at 0.7.
    assert boxes.compute()["max_box_acc_v2"] == pytest.approx((100 + 50 + 50) / 3)
    assert boxes.compute()["max_box_acc_v1"] == 50


def test_v2_is_the_mean_over_three_ious_by_hand() -> None:
    shape = (40, 40)
    # Mask 19 x 19 at the border: its box is 20 x 20 = 400 (0..19 inclusive). The map's 11 x 19 give 12 x 20 = 240:
    # IoU 0.6, right at 0.3 and 0.5 but not at 0.7.
    boxes = MaxBoxAcc()
    boxes.update(box(shape, 0, 0, 19, 11), box(shape, 0, 0, 19, 19))
    assert boxes.compute()["max_box_acc_v2"] == pytest.approx(100 * 2 / 3)
    assert boxes.compute()["max_box_acc_v1"] == 100


def test_any_region_of_the_mask_may_be_hit() -> None:
    shape = (30, 30)
    boxes = MaxBoxAcc()
    boxes.update(box(shape, 20, 20, 26, 26), box(shape, 20, 20, 26, 26) + box(shape, 2, 2, 8, 8))
    assert boxes.compute()["max_box_acc_v1"] == 100


def test_one_global_tau_never_one_per_picture() -> None:
    shape = (24, 24)
    # A: the defect is at 0.3 with a single peak of 1: its box is right only for tau below 0.3.
    low = box(shape, 4, 4, 14, 14)
    low_map = 0.3 * low
    low_map[8, 8] = 1.0
    # B: the defect is at 1 in a wide halo of 0.6: its box is right only for tau of 0.6 and above.
    high = box(shape, 10, 10, 14, 14)
    high_map = np.maximum(high, box(shape, 2, 2, 22, 22, 0.6))
    pictures = [(low_map, low), (high_map, high)]
    together = MaxBoxAcc()
    for picture in pictures:
        alone = MaxBoxAcc()
        alone.update(*picture)
        together.update(*picture)
        assert alone.compute()["max_box_acc_v1"] == alone.compute()["max_box_acc_v2"] == 100
    assert together.compute() == {"max_box_acc_v1": 50.0, "max_box_acc_v2": 50.0}


def test_only_pictures_with_a_defect_count() -> None:
    mask = box((20, 20), 4, 4, 10, 10)
    boxes = MaxBoxAcc()
    assert boxes.compute() == {"max_box_acc_v1": None, "max_box_acc_v2": None}
    boxes.update(mask, np.zeros((20, 20)))
    assert boxes.compute() == {"max_box_acc_v1": None, "max_box_acc_v2": None}
    boxes.update(mask, mask)
    assert boxes.compute()["max_box_acc_v1"] == 100
    boxes.update(np.zeros((20, 20)), mask)  # no foreground at any tau: wrong
    assert boxes.compute()["max_box_acc_v1"] == 50


def reference_box_hits(levels: np.ndarray, mask: np.ndarray, taus: int) -> np.ndarray:
    """Slow: every tau on the whole picture, one box at a time. [taus, 4]: V1 at 0.5, V2 at 0.3, 0.5, 0.7."""
    height, width = levels.shape

    def corners(x: int, y: int, w: int, h: int) -> tuple[int, int, int, int]:
        return x, y, min(x + w, width - 1), min(y + h, height - 1)

    def iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
        shared = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1) * max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
        total = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
        return shared / (total - shared)

    labels, _ = scipy.ndimage.label(mask, np.ones((3, 3)))
    targets = [
        corners(x.start, y.start, x.stop - x.start, y.stop - y.start) for y, x in scipy.ndimage.find_objects(labels)
    ]
    hits = np.zeros((taus, 4), dtype=bool)
    for k in range(taus):
        binary = (levels > k * int(levels.max()) // taus).astype(np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        if not contours:
            continue
        found = [max(iou(corners(*cv2.boundingRect(c)), target) for target in targets) for c in contours]
        largest = found[int(np.argmax([cv2.contourArea(c) for c in contours]))]
        hits[k] = [largest >= 0.5, *(max(found) >= delta for delta in (0.3, 0.5, 0.7))]
    return hits


@pytest.mark.parametrize("taus", [1, 100, 400])
def test_box_metrics_equal_the_slow_reference(taus: int) -> None:
    random, boxes = rng(), MaxBoxAcc(taus)
    hits = []
    for sigma in (0.5, 1.5, 3.0, 5.0, 3.0):  # the roughest have holes, nesting and foreground at every border
        mask = blob_mask(random)
        picture = np.clip(0.6 * smooth_map(random, sigma=sigma) + 0.3 * mask, 0, 0.9)
        boxes.update(picture, mask)
        hits.append(reference_box_hits((picture * 255).astype(np.uint8), mask, taus))
    best = 100 * np.mean(hits, axis=0).max(axis=0)
    out = boxes.compute()
    assert out["max_box_acc_v1"] == pytest.approx(best[0])
    assert out["max_box_acc_v2"] == pytest.approx(best[1:].mean())
    if taus > 1:
        assert 0 < best[3] < 100  # the comparison is worth something


# --- all together -----------------------------------------------------------------------------------------------------


def filled_scorer(**options: float) -> Scorer:
    random, scorer = rng(), Scorer(**options)
    for i in range(12):
        label = i % 2
        mask = blob_mask(random) if label else None
        scorer.update(0.3 * label + 0.7 * random.random(), label, smooth_map(random), mask)
    return scorer


def test_scorer_gives_the_parts_results() -> None:
    out = filled_scorer(score_threshold=0.5).compute()
    random = rng()
    curve, aupro, boxes, fixed = PixelCurve(), Aupro(), MaxBoxAcc(), FixedThreshold(0.5)
    scores, labels = [], []
    for i in range(12):
        mask = blob_mask(random) if i % 2 else np.zeros((40, 56), dtype=bool)
        scores.append(0.3 * (i % 2) + 0.7 * random.random())
        labels.append(i % 2)
        picture = smooth_map(random)
        for part in (curve, aupro, boxes, fixed):
            part.update(picture, mask)
    parts = {**curve.compute(), **boxes.compute(), **fixed.compute(), "aupro_030": aupro.compute()}
    parts |= {"image_auroc": roc_auc_score(labels, scores), "image_ap": average_precision_score(labels, scores)}
    parts |= {f"shipped_{key}": value for key, value in metrics.confusion(scores, labels, 0.5).items()}
    point = metrics.operating_point(scores, labels, 0.05)
    parts |= {"escape_at_fr_5pct": point["escape_rate"], "threshold_at_fr_5pct": point["threshold"]}
    for key, value in parts.items():
        assert out[key] == pytest.approx(value), key


def test_scorer_names() -> None:
    assert list(filled_scorer(score_threshold=0.5).compute()) == [
        "pictures",
        "defects",
        "defects_with_mask",
        "image_auroc",
        "image_ap",
        "pixel_auroc",
        "pixel_auroc_error_max",
        "pxap",
        "f1_max",
        "f1_max_threshold",
        "aupro_030",
        "aupro_030_error_max",
        "max_box_acc_v1",
        "max_box_acc_v2",
        "map_threshold",
        "f1_fixed",
        "iou_fixed",
        "iou_fixed_mean",
        "escape_at_fr_1pct",
        "threshold_at_fr_1pct",
        "false_reject_at_fr_1pct",
        "escape_at_fr_5pct",
        "threshold_at_fr_5pct",
        "false_reject_at_fr_5pct",
        "shipped_threshold",
        "shipped_defects_rejected",
        "shipped_defects_accepted",
        "shipped_ok_rejected",
        "shipped_ok_accepted",
        "shipped_escape_rate",
        "shipped_false_reject_rate",
    ]
    names = Scorer(false_reject_limits=[0.005], aupro_limit=0.05)
    names.update(0.1, 0, np.zeros((4, 4)), None)
    assert {"escape_at_fr_0_5pct", "aupro_005"} <= set(names.compute())
    assert not any(name.startswith("shipped") for name in names.compute())


def test_undefined_metrics_are_none() -> None:
    only_ok, no_mask = Scorer(), Scorer()
    only_ok.update(0.2, 0, np.full((4, 4), 0.3), None)
    pixel_keys = ("pxap", "pixel_auroc", "f1_max", "aupro_030", "max_box_acc_v1", "f1_fixed", "iou_fixed_mean")
    for key in ("image_auroc", "image_ap", "escape_at_fr_1pct", *pixel_keys):
        assert only_ok.compute()[key] is None, key
    assert only_ok.compute()["false_reject_at_fr_1pct"] == 0
    no_mask.update(0.2, 0, np.full((4, 4), 0.3), None)
    no_mask.update(0.9, 1, np.full((4, 4), 0.3), None)
    assert (no_mask.compute()["defects"], no_mask.compute()["defects_with_mask"]) == (1, 0)
    assert no_mask.compute()["image_auroc"] == 1
    for key in pixel_keys:
        assert no_mask.compute()[key] is None, key


GOOD = np.full((4, 4), 0.5)
DEFECT = np.eye(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, 1, np.full((4, 4), np.nan), DEFECT), "nan"),
        ((0.5, 1, np.full((4, 4), np.inf), DEFECT), "infinity"),
        ((0.5, 1, GOOD + 0.6, DEFECT), "0..1"),
        ((0.5, 1, GOOD - 0.6, DEFECT), "0..1"),
        ((0.5, 1, np.full((4, 4), 128, dtype=np.uint8), DEFECT), "divide"),
        ((0.5, 1, np.full((1, 4, 4), 0.5), DEFECT), r"1x4x4.*\[height, width\]"),
        ((0.5, 1, np.zeros((0, 4)), DEFECT), "0x4"),
        ((0.5, 1, GOOD, np.eye(5)), "mask is 5x5 but the map is 4x4: resize"),
        ((0.5, 1, GOOD, DEFECT * np.nan), "mask holds nan"),
        ((0.5, 1, GOOD, DEFECT, 0.5, np.eye(3)), "ignore mask is 3x3"),
        ((0.5, 1, GOOD, np.zeros((4, 4))), "mask is empty"),
        ((0.5, 0, GOOD, DEFECT), "label says ok"),
        ((0.5, 2, GOOD, DEFECT), "neither 0 nor 1"),
        ((math.nan, 1, GOOD, DEFECT), "score is nan"),
        ((0.5, 1, GOOD, DEFECT, 1.5), "map threshold is 1.5"),
        ((0.5, 1, GOOD, DEFECT, 0.4), "one threshold for all pictures"),
    ],
)
def test_refused_pictures_leave_the_scorer_as_it_was(arguments: tuple, message: str) -> None:
    scorer = Scorer()
    if "one threshold" in message:
        scorer.update(0.9, 1, GOOD, DEFECT, 0.5)
    before = scorer.compute() if scorer._labels else None
    with pytest.raises(ValueError, match=message) as refusal:
        scorer.update(*arguments)
    assert str(refusal.value)[0].islower()
    if before is None:
        with pytest.raises(ValueError, match="no pictures"):
            scorer.compute()
    else:
        assert scorer.compute() == before


def test_other_refusals() -> None:
    with pytest.raises(ValueError, match="one of each"):
        metrics.image_auroc([0.1, 0.2], [1])
    with pytest.raises(ValueError, match="no pictures"):
        metrics.image_ap([], [])
    with pytest.raises(ValueError, match="0 <= limit < 1"):
        metrics.operating_point([0.1], [0], 1.0)
    with pytest.raises(ValueError, match="score threshold"):
        metrics.confusion([0.1], [0], math.nan)
    with pytest.raises(ValueError, match="at least 1"):
        MaxBoxAcc(0)
    with pytest.raises(ValueError, match="0 < limit <= 1"):
        Aupro(0)


def test_masks_of_0_and_255_and_bool_are_the_same() -> None:
    random = rng()
    picture, mask = smooth_map(random), blob_mask(random)
    results = []
    for variant in (mask, mask.astype(np.uint8) * 255, mask.astype(np.float32)):
        scorer = Scorer()
        scorer.update(0.9, 1, picture, variant)
        results.append(scorer.compute())
    assert results[0] == results[1] == results[2]
