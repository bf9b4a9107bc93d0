"""The score from which on a picture is a reject. In: scores of good and other pictures. Out: the threshold that few
enough of the good ones reach.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit, logit

from fcam_tools.train.classifier import probabilities
from fcam_tools.train.labels import defective
from fcam_tools.train.trainer import Trainer

DRAWS, DOUBT = 500, 0.25  # of the distance between known and held-out good pictures


def score_threshold(scores: np.ndarray, ok: np.ndarray, false_reject: float) -> float:
    """The score that at most `false_reject` of the OK pictures reach: half-way to the next higher one of any picture.

    Where rejects score little above the best good pictures, half-way to the next good one, or to 1, would pass them.
    """
    good = np.sort(scores[ok])[::-1]
    if not len(good):
        return 0.5
    lower = good[min(math.floor(false_reject * len(good)), len(good) - 1)]  # the first that must stay below
    upper = scores[scores > lower].min(initial=1.0)
    return float(np.clip((upper + lower) / 2, 0.001, 0.999))


def known_good(t: Trainer, held_out: np.ndarray) -> np.ndarray:
    """Scores of the good training pictures as held-out ones would have them; `held_out` [n] are those of the val split.

    Twenty held-out pictures tell where good ones lie, and not what one in a hundred reaches. A hundred training
    pictures tell that, but for what the network knows by heart of them: where their median log-odds lie below the
    held-out ones', all of them are moved up, by as much as is sure. The mean would not do: scores end at what the map's
    bound allows, so that the highest known ones are hardly lower than they would be held out, and a few high ones among
    twenty would lift them above every reject.
    """
    known = 1 - probabilities(t, t.train.pixels[~defective(t.train.labels)])[:, 0]
    return moved_up(known, held_out)


def moved_up(known: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Scores whose median log-odds are as far above their own as the held-out ones' surely are.

    Sure is what three of four draws of both (bootstrap) have: the median of sixteen scores is off by a third of their
    spread, and to believe it moved every good picture of one product above all rejects.
    """
    if not (len(known) and len(held_out)):
        return known
    odds, wanted = (logit(np.clip(some.astype(np.float64), 1e-6, 1 - 1e-6)) for some in (known, held_out))
    rng = np.random.default_rng(0)
    apart = [np.median(rng.choice(wanted, len(wanted))) - np.median(rng.choice(odds, len(odds))) for _ in range(DRAWS)]
    return expit(odds + max(0.0, float(np.quantile(apart, DOUBT))))
