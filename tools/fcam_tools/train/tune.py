"""A better recipe, by search. In: labelled pictures and a budget. Out: the best recipe as options for `train`.

Optuna's TPE sampler tries recipes of stage 1, the classifier; its image AUROC on the validation split decides, so no
pixel label chooses anything (the decoder's terms change its loss, and losses of different terms cannot be compared).
A trial that is worse than the median of the others at the same epoch is pruned. The number of trials and the budget are
said first; the search is kept in a journal file, and the same command goes on with it after a stop.

The space is small on purpose; these are what was seen to matter, each with the range that is tried:
learning rate 3e-4 to 6e-3, the backbone's share of it 0.1 to 1, weight decay 1e-5 to 1e-3 (all logarithmic), pooling
lse or mean, and the stride up to which pretrained layers stay as they are, 1, 2 or 4.

The best of many trials is flattered by the split that chose it: its AUROC is no promise. Train it, then `evaluate` it
on the test split.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from fcam_tools import data
from fcam_tools.common import parallel
from fcam_tools.common.errors import ToolError
from fcam_tools.data.copies import add_leak_argument, refuse_leaks
from fcam_tools.train import classifier, train
from fcam_tools.train.options import TOLD

log = logging.getLogger(__name__)

WARM_UP = 4  # trials before any is pruned
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


def draw(trial: Trial, plain: train.Recipe) -> train.Recipe:
    """A recipe from the space that the module's first lines document."""
    return replace(
        plain,
        lr=trial.suggest_float("lr", 3e-4, 6e-3, log=True),
        backbone_lr_share=trial.suggest_float("backbone_lr_share", 0.1, 1.0, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-5, 1e-3, log=True),
        pool=trial.suggest_categorical("pool", ["lse", "mean"]),
        frozen_stride=trial.suggest_categorical("frozen_stride", [1, 2, 4]),
    )


def open_study(journal: Path, told: dict[str, Any], seed: int) -> optuna.Study:
    """The search in a journal file, new or gone on with; another data set or basis is refused."""
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        study_name="fcam",
        storage=storage,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_UP, n_warmup_steps=1),
    )
    # A search that goes on must not draw again what it drew first.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    if told and study.user_attrs and study.user_attrs != told:
        raise ToolError(f"{journal} is a search on other pictures or with another basis: choose another --out")
    for name, value in told.items():
        study.set_user_attr(name, value)
    return study


class Search:
    """Trains one recipe after another on pictures that are read once."""

    def __init__(self, plain: train.Recipe, dataset: data.Dataset) -> None:
        self.plain, self.classes = plain, len(dataset.classes)
        self.train, self.val = (
            train.read_split(dataset.splits[name], data.Sight(plain.read_at(name)), self.classes, False)
            for name in ("train", "val")
        )

    def __call__(self, trial: Trial) -> float:
        t = train.Trainer(draw(trial, self.plain), self.train, self.val, self.classes, False, parallel.Team())

        def watch(stage: train.Stage, values: dict[str, float]) -> None:
            trial.report(values["val_auroc"], stage.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        t.watch = watch
        return classifier.train_classifier(t)["val_auroc"]


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """What a killed search left half-done does not count."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def options(best: dict[str, Any]) -> str:
    return " ".join(
        f"--{name.replace('_', '-')} {f'{v:.3g}' if isinstance(v, float) else v}" for name, v in best.items()
    )


# The verb.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="the data set, as for `train`")
    parser.add_argument(
        "--trials", type=int, default=20, help="trials in all, those of an earlier start included (default 20)"
    )
    parser.add_argument("--minutes", type=float, default=60, help="no trial is begun after so many (default 60)")
    parser.add_argument("--out", type=Path, help="the journal of the search (default: runs/tune-<data>.journal)")
    plain = vars(train.Recipe())
    for name in ("size", "epochs", "batch", "seed", "backbone", "precision"):
        value = plain[name] if name != "epochs" else 5
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"{TOLD[name]} (default: %(default)s)")
    parser.add_argument("--pretrained", action=argparse.BooleanOptionalAction, default=True, help=TOLD["pretrained"])
    add_leak_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")


def run(args: argparse.Namespace) -> int:
    dataset = data.load(args.data)
    refuse_leaks(dataset, args.allow_leaks, sys.stderr.isatty() and not args.json)
    journal = args.out or Path("runs") / f"tune-{dataset.name}.journal"
    journal.parent.mkdir(parents=True, exist_ok=True)
    given = {name: getattr(args, name) for name in vars(train.Recipe()) if hasattr(args, name)}
    plain = train.Recipe(**given)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(journal, {"dataset_sha256": dataset.fingerprint(), **given}, args.seed)
    left = args.trials - len(finished(study))
    log.info("%d trials of %d epochs, %d of them done; at most %g minutes; kept in %s",
             args.trials, plain.epochs, len(finished(study)), args.minutes, journal)  # fmt: skip
    if left > 0:
        if not study.get_trials(deepcopy=False):
            basis = {name: getattr(plain, name) for name in ("lr", "backbone_lr_share", "weight_decay", "pool")}
            study.enqueue_trial(basis | {"frozen_stride": plain.frozen_stride})  # the recipe to beat
        started = time.time()
        study.optimize(Search(plain, dataset), n_trials=left, timeout=60 * args.minutes)
        log.info("%.0f s", time.time() - started)
    done = finished(study)
    if not any(trial.state == TrialState.COMPLETE for trial in done):
        raise ToolError("no trial was finished: give more --minutes")
    first = next((trial.value for trial in done if trial.number == 0), None)
    told = {
        "trials": len(done),
        "pruned": sum(trial.state == TrialState.PRUNED for trial in done),
        "default_val_auroc": first,
        "best_val_auroc": study.best_value,
        "best": study.best_params,
        "train_with": options(study.best_params),
        "journal": str(journal),
    }
    print(json.dumps(told) if args.json else "\n".join(f"{name}: {value}" for name, value in told.items()))
    return 0
