"""Scores of an inspection model: pictures (defect or OK), pixels, regions, boxes, and what a line would see.

In: picture by picture, a score (higher = more likely a defect), a label (0 OK, 1 defect), a float map [H, W] in 0..1
and a ground-truth mask [H, W] (above 0.5 = defect; 0/1, 0/255 and bool all do). Pictures may differ in size. Nothing of
full size is kept: every class here is an accumulator with `update` and `compute` (histograms and counts).
Out: one flat dict (`Scorer.compute`). `pxap`, `max_box_acc_v1` and `max_box_acc_v2` are 0..100, every other rate, area
and threshold is 0..1, counts are counts. A metric that the pictures do not define (one label only, no mask) is None.
Refused with a ValueError: a map that is not float, not finite or not in 0..1; shapes that differ; a label other than
0/1; a mask that contradicts its label; a map threshold that changes from picture to picture; no pictures at all.

One rule everywhere: a pixel or a picture is called a defect at threshold t if its score is >= t. The one exception is
inside MaxBoxAcc, whose definition says strictly greater.

Where the definitions come from:
- PxAP, MaxBoxAcc, MaxBoxAccV2: Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right" (CVPR
  2020). The box metrics choose their best threshold on the pictures they are scored on: an oracle, to compare methods.
- AUPRO: Bergmann et al., "The MVTec Anomaly Detection Dataset" (IJCV 2021), integrated as in anomalib: to a false
  positive rate of 0.3, linear interpolation at the limit, divided by the limit; regions are 8-connected.
- Image AUROC and AP: scikit-learn.

Binning. PxAP has its 1000 bins by definition; F1-max uses the same bins, so its thresholds are 0, 0.001, ..., 1.
AUROC and AUPRO use finer bins: at most 1/4096 wide, and 1024 to the octave towards both 0 and 1, because a trained map
puts nearly all of its pixels within 1/4096 of 0 or 1 and uniform bins would call them tied. Scores in one bin count as
tied, so each result is off by at most half the sum over the bins of (share of negatives) x (share of positives) in the
bin (for AUPRO up to the limit, divided by it). That bound is returned beside the value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from fcam_tools.common.errors import ArgumentError

Array = NDArray[Any]

# The metrics of Scorer.compute that are on a 0..100 scale.
PERCENT = ("pxap", "max_box_acc_v1", "max_box_acc_v2")

BOX_IOUS = (0.3, 0.5, 0.7)
FALSE_REJECT_LIMITS = (0.01, 0.05)

# PxAP's own edges: 1000 bins below 1, a bin for exactly 1, and one that stays empty.
PXAP_EDGES = np.append(np.arange(0.0, 1.0, 0.001), [1.0, 2.0, 3.0])
PXAP_BINS = len(PXAP_EDGES) - 1

# Fine bins: the top 10 bits of a float32's mantissa, for the 24 octaves below 0.5, mirrored above 0.5.
_MANTISSA_SHIFT = 23 - 10
_HALF_KEY = 126 << 10  # the bits of 0.5, shifted
_FLOOR_KEY = _HALF_KEY - (24 << 10)
_HALF_BIN = _HALF_KEY - _FLOOR_KEY
FINE_BINS = 2 * _HALF_BIN + 1


def _size(array: Array) -> str:
    return "x".join(map(str, array.shape)) or "a single number"


def check_map(score_map: ArrayLike) -> Array:
    """The map as an array, or a ValueError that says what to do."""
    array = np.asarray(score_map)
    if array.ndim != 2 or array.size == 0:
        raise ArgumentError(f"the map is {_size(array)}: pass one picture's map as [height, width]")
    if not np.issubdtype(array.dtype, np.floating):
        raise ArgumentError(f"the map is {array.dtype}: pass floats in 0..1 (divide an 8-bit map by 255)")
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ArgumentError("the map holds nan or infinity: look for an overflow in the model before scoring it")
    if low < 0 or high > 1:
        raise ArgumentError(f"the map spans {low:g}..{high:g}: pass probabilities in 0..1 (apply the sigmoid, or clip)")
    return array


def check_mask(mask: ArrayLike, like: Array, name: str = "mask") -> NDArray[np.bool_]:
    """The mask as booleans of the map's shape, or a ValueError that says what to do."""
    array = np.asarray(mask)
    if array.shape != like.shape:
        raise ArgumentError(
            f"the {name} is {_size(array)} but the map is {_size(like)}: resize one of them to the other"
        )
    if array.dtype == np.bool_:
        return array
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise ArgumentError(f"the {name} holds nan or infinity: pass 0 and 1")
    return array > 0.5


def _judged(mask: NDArray[np.bool_], ignore: ArrayLike | None) -> NDArray[np.bool_] | None:
    """The pixels that count: all but those to ignore that are no defect (a defect pixel always counts)."""
    return None if ignore is None else ~check_mask(ignore, mask, "ignore mask") | mask


def check_labels(scores: ArrayLike, labels: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Scores as float64 and labels as booleans, one each per picture, or a ValueError that says what to do."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.ndim != 1 or values.shape != truth.shape:
        raise ArgumentError(f"scores are {_size(values)} and labels {_size(truth)}: pass one of each per picture")
    if values.size == 0:
        raise ArgumentError("no pictures: there is nothing to score")
    if not np.isfinite(values).all():
        raise ArgumentError("a score is nan or infinite: look for an overflow in the model before scoring it")
    if not np.isin(truth, (0, 1)).all():
        raise ArgumentError("a label is neither 0 nor 1: pass 0 for ok and 1 for every kind of defect")
    return values, truth.astype(bool)


def pxap_bins(scores: Array) -> NDArray[np.int64]:
    """The PxAP bin of each score in 0..1: what `np.histogram` on PXAP_EDGES would choose, without its search."""
    exact = scores.astype(np.float64)
    bins = (exact * 1000).astype(np.int64)
    # The product rounds: a score just below an edge may land on it (the edges themselves never land below).
    bins -= exact < PXAP_EDGES[bins]
    return bins


def fine_bins(scores: Array) -> NDArray[np.int64]:
    """The fine bin of each score in 0..1, rising with the score; see the module's note on binning."""
    single = scores.astype(np.float32)
    lower = single < 0.5
    # The bits of a positive float rise with it; 1 - x is exact for x in 0.5..1.
    distance = np.where(lower, single, np.float32(1) - single)
    key = np.maximum(distance.view(np.int32) >> _MANTISSA_SHIFT, _FLOOR_KEY) - _FLOOR_KEY
    return np.asarray(np.where(lower, key, 2 * _HALF_BIN - key), dtype=np.int64)


def image_auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Area under the ROC curve over pictures, 0..1; None if only one label occurs."""
    values, truth = check_labels(scores, labels)
    return float(roc_auc_score(truth, values)) if truth.any() and not truth.all() else None


def image_ap(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Average precision over pictures, 0..1; None if only one label occurs."""
    values, truth = check_labels(scores, labels)
    return float(average_precision_score(truth, values)) if truth.any() and not truth.all() else None


def _above(value: float) -> float:
    """The smallest float32 above a value: float32, so that the threshold survives being shipped as one."""
    single = np.float32(value)
    return float(single if float(single) > value else np.nextafter(single, np.float32(np.inf)))


def confusion(scores: ArrayLike, labels: ArrayLike, threshold: float) -> dict[str, float | None]:
    """Counts and rates if a picture is rejected at score >= threshold. A rate without pictures is None."""
    values, truth = check_labels(scores, labels)
    if not math.isfinite(threshold):
        raise ArgumentError("the score threshold is nan or infinite: pass a number")
    rejected = values >= threshold
    defects, good = int(truth.sum()), int((~truth).sum())
    caught, false_rejects = int((rejected & truth).sum()), int((rejected & ~truth).sum())
    return {
        "defects_rejected": caught,
        "defects_accepted": defects - caught,
        "ok_rejected": false_rejects,
        "ok_accepted": good - false_rejects,
        "escape_rate": (defects - caught) / defects if defects else None,
        "false_reject_rate": false_rejects / good if good else None,
    }


def operating_point(scores: ArrayLike, labels: ArrayLike, limit: float) -> dict[str, float | None]:
    """The smallest threshold that rejects at most `limit` (a share, 0..1) of the OK pictures, and what then escapes.

    Returns threshold, false_reject_rate (realised, <= limit) and escape_rate. The threshold is None without an OK
    picture, the escape rate without a defect. Chosen on the pictures it is reported for: to ship one, choose it on a
    validation split and report `confusion` on the test split.
    """
    values, truth = check_labels(scores, labels)
    if not 0 <= limit < 1:
        raise ArgumentError(f"the false-reject limit is {limit}: pass a share of the ok pictures, 0 <= limit < 1")
    good = np.sort(values[~truth])[::-1]
    if good.size == 0:
        return {"threshold": None, "false_reject_rate": None, "escape_rate": None}
    allowed = math.floor(limit * good.size + 1e-9)  # 0.29 * 100 is 28.999... in floats
    threshold = _above(float(good[allowed]))
    counts = confusion(values, truth, threshold)
    return {"threshold": threshold, **{key: counts[key] for key in ("false_reject_rate", "escape_rate")}}


class PixelCurve:
    """PxAP, pixel AUROC and F1-max over the pixels of all pictures, OK pictures included."""

    def __init__(self) -> None:
        self._coarse = np.zeros((2, PXAP_BINS), dtype=np.int64)  # [is defect, bin]
        self._fine = np.zeros((2, FINE_BINS), dtype=np.int64)

    def update(self, score_map: ArrayLike, mask: ArrayLike, ignore: ArrayLike | None = None) -> None:
        scores = check_map(score_map)
        truth = check_mask(mask, scores)
        judged = _judged(truth, ignore)
        scores, truth = (scores.ravel(), truth.ravel()) if judged is None else (scores[judged], truth[judged])
        for histogram, bins in ((self._coarse, pxap_bins(scores)), (self._fine, fine_bins(scores))):
            count = histogram.shape[1]
            histogram += np.bincount(bins + count * truth, minlength=2 * count).reshape(2, count)

    def compute(self) -> dict[str, float | None]:
        """pxap (0..100), pixel_auroc and its largest binning error, f1_max and its threshold; None if undefined."""
        return {**self._auroc(), **self._precision_recall()}

    def iou_curve(self) -> list[float] | None:
        """IoU of the pixels of all pictures at the map thresholds 0, 0.001, ..., 1; None without a defect pixel."""
        false_positive, true_positive = self._coarse[:, ::-1].cumsum(axis=1)[:, ::-1][:, : PXAP_BINS - 1]
        positives = true_positive[0]
        return (true_positive / (positives + false_positive)).tolist() if positives else None

    def _auroc(self) -> dict[str, float | None]:
        negatives, positives = self._fine.sum(axis=1)
        if not negatives or not positives:
            return {"pixel_auroc": None, "pixel_auroc_error_max": None}
        negative, positive = self._fine[0] / negatives, self._fine[1] / positives
        tied = 0.5 * float(negative @ positive)
        below = np.cumsum(negative) - negative
        return {"pixel_auroc": float(below @ positive) + tied, "pixel_auroc_error_max": tied}

    def _precision_recall(self) -> dict[str, float | None]:
        false_positive, true_positive = self._coarse[:, ::-1].cumsum(axis=1)
        positives = true_positive[-1]
        if not positives:
            return {"pxap": None, "f1_max": None, "f1_max_threshold": None}
        found = np.maximum(true_positive + false_positive, 1)  # an empty bin at the top has no true positive either
        average = (true_positive / found) @ np.diff(true_positive / positives, prepend=0.0)
        f1 = 2 * true_positive / (found + positives)
        best = int(f1.argmax())
        threshold = float(PXAP_EDGES[PXAP_BINS - 1 - best])
        return {"pxap": 100 * float(average), "f1_max": float(f1[best]), "f1_max_threshold": threshold}


class Aupro:
    """Mean recall of the defect regions against the false positive rate of all other pixels, up to a limit.

    Every region weighs the same, whatever its size. The mean of the regions' histograms, each divided by its region's
    size, is the mean of their recall curves: no map is kept.
    """

    def __init__(self, limit: float = 0.3) -> None:
        if not 0 < limit <= 1:
            raise ArgumentError(f"the false-positive limit is {limit}: pass 0 < limit <= 1")
        self.limit = limit
        self._background = np.zeros(FINE_BINS, dtype=np.int64)
        self._recall = np.zeros(FINE_BINS)
        self._regions = 0

    def update(self, score_map: ArrayLike, mask: ArrayLike, ignore: ArrayLike | None = None) -> None:
        scores = check_map(score_map)
        truth = check_mask(mask, scores)
        judged = _judged(truth, ignore)
        background = ~truth if judged is None else judged & ~truth
        self._background += np.bincount(fine_bins(scores[background]), minlength=FINE_BINS)
        if not truth.any():
            return
        count, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
        region = labels[truth]
        weights = 1.0 / np.bincount(region, minlength=count)[region]
        self._recall += np.bincount(fine_bins(scores[truth]), weights=weights, minlength=FINE_BINS)
        self._regions += count - 1

    def compute(self) -> float | None:
        """AUPRO in 0..1, or None without a region or without a background pixel."""
        curve = self._curve()
        if curve is None:
            return None
        rate, recall = curve
        end = int(np.searchsorted(rate, self.limit, side="right"))
        if end < len(rate):
            share = (self.limit - rate[end - 1]) / (rate[end] - rate[end - 1])
            last = recall[end - 1] + share * (recall[end] - recall[end - 1])
            rate, recall = np.append(rate[:end], self.limit), np.append(recall[:end], last)
        return float(np.trapezoid(recall, rate)) / self.limit

    def error_max(self) -> float | None:
        """How far `compute` may be off because of binning, in 0..1; None where `compute` is None."""
        curve = self._curve()
        if curve is None:
            return None
        rate, recall = curve
        counted = rate[:-1] < self.limit
        return float((np.diff(rate) * np.diff(recall))[counted].sum()) / 2 / self.limit

    def _curve(self) -> tuple[Array, Array] | None:
        pixels = int(self._background.sum())
        if not pixels or not self._regions:
            return None
        rate = np.append(0, np.cumsum(self._background[::-1])) / pixels
        return rate, np.append(0.0, np.cumsum(self._recall[::-1])) / self._regions


def _corners(rectangles: Array, shape: tuple[int, ...]) -> Array:
    """Boxes (x0, y0, x1, y1) of (x, y, width, height): the far corner is one pixel past it, but inside the picture."""
    far = np.minimum(rectangles[:, :2] + rectangles[:, 2:4], (shape[1] - 1, shape[0] - 1))
    return np.concatenate([rectangles[:, :2], far], axis=1)


def mask_boxes(mask: ArrayLike) -> Array:
    """Boxes [n, 4] (x0, y0, x1, y1) of a mask's 8-connected regions, in the convention of the predicted boxes."""
    truth = np.asarray(mask, dtype=bool)
    _, _, stats, _ = cv2.connectedComponentsWithStats(truth.astype(np.uint8), connectivity=8)
    return _corners(stats[1:], truth.shape)


def box_iou(boxes: Array, others: Array) -> Array:
    """IoU [n, m] of boxes [n, 4] and [m, 4], both corners inclusive."""
    x0, y0, x1, y1 = boxes.T[:, :, None]
    u0, v0, u1, v1 = others.T
    width = np.minimum(x1, u1) - np.maximum(x0, u0) + 1
    height = np.minimum(y1, v1) - np.maximum(y0, v0) + 1
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    union = (x1 - x0 + 1) * (y1 - y0 + 1) + (u1 - u0 + 1) * (v1 - v0 + 1) - shared
    return np.asarray(shared / union)


class MaxBoxAcc:
    """Box accuracy at the best of `taus` global thresholds (shares of each map's own maximum); defect pictures only.

    V1: the box of the largest contour, IoU >= 0.5. V2: the best box of all contours, mean over IoU 0.3, 0.5 and 0.7,
    each at its own best tau. A box is right if it fits any box of the mask's regions. The hits are counted per tau over
    all pictures and the best tau is taken at the end: one tau for all pictures, never one per picture.
    Cost: one contour search for each of the <= 255 different binary pictures; a noisy map costs far more than a smooth
    one, and fewer taus (250 is common while training) bound it.
    """

    def __init__(self, taus: int = 1000) -> None:
        if taus < 1:
            raise ArgumentError(f"{taus} thresholds were asked for: pass at least 1")
        self.taus = taus
        self._pictures = 0
        self._hits_v1 = np.zeros(taus, dtype=np.int64)
        self._hits_v2 = np.zeros((taus, len(BOX_IOUS)), dtype=np.int64)

    def update(self, score_map: ArrayLike, mask: ArrayLike) -> None:
        """Count one picture; one whose mask is empty does not count."""
        scores = check_map(score_map)
        truth = check_mask(mask, scores)
        if not truth.any():
            return
        best = self._ious((scores * 255).astype(np.uint8), mask_boxes(truth))
        self._pictures += 1
        self._hits_v1 += best[:, 0] >= 0.5
        self._hits_v2 += best[:, 1:] >= np.array(BOX_IOUS)

    def _ious(self, levels: NDArray[np.uint8], targets: Array) -> Array:
        """IoU [taus, 2] of the largest contour's box and of the best box, at each tau."""
        thresholds = np.arange(self.taus) * int(levels.max()) // self.taus
        # The foregrounds are nested, so two thresholds with as many pixels above them give the same picture.
        above = levels.size - np.cumsum(np.bincount(levels.ravel(), minlength=256))
        _, first, picture = np.unique(above[thresholds], return_index=True, return_inverse=True)
        rows, columns = levels.max(axis=1), levels.max(axis=0)
        ious = [_contour_ious(levels, int(thresholds[i]), rows, columns, targets) for i in first]
        return np.array(ious)[picture]

    def compute(self) -> dict[str, float | None]:
        """max_box_acc_v1 and max_box_acc_v2, 0..100; None without a defect picture."""
        if not self._pictures:
            return {"max_box_acc_v1": None, "max_box_acc_v2": None}
        return {
            "max_box_acc_v1": 100 * float(self._hits_v1.max()) / self._pictures,
            "max_box_acc_v2": 100 * float(self._hits_v2.max(axis=0).mean()) / self._pictures,
        }


def _contour_ious(
    levels: NDArray[np.uint8], threshold: int, rows: Array, columns: Array, targets: Array
) -> tuple[float, float]:
    """IoU with the best target of (the largest contour's box, the best contour's box) of levels > threshold.

    `rows` and `columns` are the maxima of each row and column: only the part of the picture that holds foreground is
    searched, which changes no contour and makes the high thresholds nearly free.
    """
    ys, xs = np.flatnonzero(rows > threshold), np.flatnonzero(columns > threshold)
    if not len(ys):
        return 0.0, 0.0
    part = levels[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    offset = (int(xs[0]), int(ys[0]))
    binary = (part > threshold).view(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
    rectangles = np.array([cv2.boundingRect(contour) for contour in contours])
    ious = box_iou(_corners(rectangles, levels.shape), targets).max(axis=1)
    # A contour's area is at most its box's, so most need not be measured. Of equal ones the first counts.
    most = (rectangles[:, 2] - 1) * (rectangles[:, 3] - 1)
    least = cv2.contourArea(contours[int(most.argmax())])
    candidates: list[int] = np.flatnonzero(most >= least).tolist()
    largest = max(candidates, key=lambda i: cv2.contourArea(contours[i]))
    return float(ious[largest]), float(ious.max())


class FixedThreshold:
    """F1 and IoU of the pixels of all pictures at one threshold chosen beforehand, as a line would run it."""

    def __init__(self, threshold: float) -> None:
        if not 0 <= threshold <= 1:
            raise ArgumentError(f"the map threshold is {threshold}: pass a number in 0..1")
        self.threshold = threshold
        self._true, self._false, self._missed = 0, 0, 0
        self._ious: list[float] = []

    def update(self, score_map: ArrayLike, mask: ArrayLike, ignore: ArrayLike | None = None) -> None:
        scores = check_map(score_map)
        truth = check_mask(mask, scores)
        judged = _judged(truth, ignore)
        # In double precision: a float32 map must not be compared with a threshold rounded to float32.
        found = scores >= np.float64(self.threshold)
        if judged is not None:
            found &= judged
        hit, called, real = (int(np.count_nonzero(part)) for part in (found & truth, found, truth))
        self._true += hit
        self._false += called - hit
        self._missed += real - hit
        if real:
            self._ious.append(hit / (called + real - hit))

    def compute(self) -> dict[str, float | None]:
        """f1_fixed, iou_fixed (pooled pixels) and iou_fixed_mean (over defect pictures); None without defect pixels."""
        if not self._ious:
            return {"f1_fixed": None, "iou_fixed": None, "iou_fixed_mean": None}
        wrong = self._false + self._missed
        return {
            "f1_fixed": 2 * self._true / (2 * self._true + wrong),
            "iou_fixed": self._true / (self._true + wrong),
            "iou_fixed_mean": math.fsum(self._ious) / len(self._ious),
        }


class Scorer:
    """Every metric of this module over one split, picture by picture.

    `score_threshold`: what the model ships with, for the confusion (None: not reported). `taus`: see MaxBoxAcc.
    """

    def __init__(
        self,
        score_threshold: float | None = None,
        taus: int = 1000,
        false_reject_limits: Iterable[float] = FALSE_REJECT_LIMITS,
        aupro_limit: float = 0.3,
    ) -> None:
        self.score_threshold = score_threshold
        self.false_reject_limits: Sequence[float] = tuple(false_reject_limits)
        self._scores: list[float] = []
        self._labels: list[int] = []
        self._unmasked = 0
        self._curve, self._aupro, self._boxes = PixelCurve(), Aupro(aupro_limit), MaxBoxAcc(taus)
        self._fixed: FixedThreshold | None = None

    @property
    def scores(self) -> NDArray[np.float64]:
        """Of the pictures so far, in their order."""
        return np.array(self._scores, np.float64)

    def update(
        self,
        score: float,
        label: int,
        score_map: ArrayLike,
        mask: ArrayLike | None,
        threshold: float = 0.5,
        ignore: ArrayLike | None = None,
    ) -> None:
        """Count one picture.

        `threshold` is the map's, the same for all pictures. `mask` None: all background for an OK picture; a defect
        picture without one counts for the picture metrics only. `ignore`: non-defect pixels that count for no pixel
        metric (boxes know no ignored pixels). A picture that is refused leaves the scorer as it was.
        """
        check_labels([score], [label])
        scores = check_map(score_map)
        fixed = self._fixed or FixedThreshold(threshold)
        if fixed.threshold != threshold:
            raise ArgumentError(
                f"the map threshold was {fixed.threshold} and is now {threshold}: one threshold for all pictures"
            )
        truth = self._mask(label, scores, mask)
        _judged(np.zeros(scores.shape, dtype=bool), ignore)  # refuse a bad one before anything is counted
        self._fixed = fixed
        self._scores.append(float(score))
        self._labels.append(int(label))
        if truth is None:
            self._unmasked += 1
            return
        for pixels in (self._curve, self._aupro, fixed):
            pixels.update(scores, truth, ignore)
        self._boxes.update(scores, truth)

    @staticmethod
    def _mask(label: int, scores: Array, mask: ArrayLike | None) -> NDArray[np.bool_] | None:
        if mask is None:
            return None if label else np.zeros(scores.shape, dtype=bool)
        truth = check_mask(mask, scores)
        if bool(label) != bool(truth.any()):
            raise ArgumentError(
                "the label says defect but the mask is empty: keep small defects when resizing it, or pass no mask"
                if label
                else "the label says ok but the mask marks a defect: correct one of them"
            )
        return truth

    def iou_curve(self) -> list[float] | None:
        """See PixelCurve: how much the choice of the map's threshold matters."""
        return self._curve.iou_curve()

    def compute(self) -> dict[str, float | None]:
        """All metrics by name; None where the pictures do not define one."""
        if self._fixed is None:
            raise ArgumentError("no pictures: there is nothing to score")
        defects = sum(self._labels)
        return {
            "pictures": len(self._labels),
            "defects": defects,
            "defects_with_mask": defects - self._unmasked,
            "image_auroc": image_auroc(self._scores, self._labels),
            "image_ap": image_ap(self._scores, self._labels),
            **self._curve.compute(),
            f"aupro_{round(self._aupro.limit * 100):03d}": self._aupro.compute(),
            f"aupro_{round(self._aupro.limit * 100):03d}_error_max": self._aupro.error_max(),
            **self._boxes.compute(),
            "map_threshold": self._fixed.threshold,
            **self._fixed.compute(),
            **self._line(),
        }

    def _line(self) -> dict[str, float | None]:
        out: dict[str, float | None] = {}
        for limit in self.false_reject_limits:
            name = f"fr_{limit * 100:g}pct".replace(".", "_")
            point = operating_point(self._scores, self._labels, limit)
            out[f"escape_at_{name}"] = point["escape_rate"]
            out[f"threshold_at_{name}"] = point["threshold"]
            out[f"false_reject_at_{name}"] = point["false_reject_rate"]
        if self.score_threshold is not None:
            counts = confusion(self._scores, self._labels, self.score_threshold)
            out["shipped_threshold"] = self.score_threshold
            out.update({f"shipped_{key}": value for key, value in counts.items()})
        return out
