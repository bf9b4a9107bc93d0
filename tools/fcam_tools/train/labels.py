"""Image labels as arrays. In: what pictures are labelled with. Out: one array, and what training asks of it.

Two forms, numpy or torch: classes, int64 [N], where a picture has one; multi-hot, float32 [N, K], where pictures may
have several, column 0 being the OK class. A good picture has class 0, or nothing but column 0: no object need be in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)


def label_array(labels: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    """Classes where every picture has one, multi-hot otherwise; refuses a picture without a class."""
    if not all(labels):
        raise ValueError("a picture has no class: a good one has class 0")
    if all(len(set(found)) == 1 for found in labels):
        return np.array([found[0] for found in labels], np.int64)
    hot = np.zeros((len(labels), classes), np.float32)
    for row, found in zip(hot, labels, strict=True):
        row[list(found)] = 1
    return hot


def defective(labels: Array) -> Array:
    """Bool [N]: the pictures with any class but the OK one."""
    return cast(Array, labels != 0 if labels.ndim == 1 else (labels[:, 1:] > 0).any(1))


def defect_classes(labels: np.ndarray) -> list[list[int]]:
    """Each picture's classes without the OK one; class 0 alone of a good picture."""
    if labels.ndim == 1:
        return [[int(label)] for label in labels]
    return [(np.flatnonzero(row[1:]) + 1).tolist() or [0] for row in labels]


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of the pictures whose highest score [N, K] is one of their classes."""
    best = scores.argmax(1)
    right = best == labels if labels.ndim == 1 else labels[np.arange(len(labels)), best] > 0
    return float(right.mean())


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of classes; of multi-hot labels, binary cross-entropy, the mean over pictures and classes."""
    if labels.ndim == 1:
        return torch.nn.functional.cross_entropy(logits, labels)
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
