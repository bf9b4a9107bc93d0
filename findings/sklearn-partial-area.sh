#!/bin/sh
# scikit-learn 1.9.1: roc_auc_score(max_fpr=0.3), the area under the curve up to that rate of false positives. The guess: the area divided by 0.3, as AUPRO to 0.3 is divided in anomaly
# detection, so that scores that tell nothing get 0.15. Seen: 0.5: the area is standardised after McClish, between what chance has and the most that can be had; a weak detector
# with 0.64 by division has 0.79, and both are printed as "AUROC to 0.3". Source: the function's documentation; by running it beside the plain integral.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install -q --disable-pip-version-check scikit-learn==1.9.1
"$place/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

LIMIT, PER_CLASS = 0.3, 100_000
rng = np.random.default_rng(0)
faulty = np.repeat([0, 1], PER_CLASS)


def divided(scores: np.ndarray) -> float:
    false, true, _ = roc_curve(faulty, scores)
    rates = np.append(false[false < LIMIT], LIMIT)
    return float(np.trapezoid(np.interp(rates, false, true), rates)) / LIMIT


noise = rng.normal(size=2 * PER_CLASS)
seen = {}
for name, scores in {"nothing": np.ones(2 * PER_CLASS), "noise": noise, "a weak detector": noise + 1.55 * faulty}.items():
    seen[name] = (round(float(roc_auc_score(faulty, scores, max_fpr=LIMIT)), 2), round(divided(scores), 2))
    print(f"{name}: roc_auc_score(max_fpr={LIMIT}) {seen[name][0]}, area / {LIMIT} {seen[name][1]}")
sys.exit(0 if seen == {"nothing": (0.5, 0.15), "noise": (0.5, 0.15), "a weak detector": (0.79, 0.64)} else "it is not as it was")
PYTHON
