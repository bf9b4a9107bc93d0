"""Work that can be done side by side. In: a function, what it is asked, a number of processes. Out: answers in order.

One process does it itself, with all threads; several have a thread each, because they share the machine. What is asked
and answered goes from process to process (pickle): files by their paths.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any

import cv2
import torch

from fcam_tools.common.errors import ToolError


def spread(work: Callable[..., Any], asked: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    """`work(*each)` of everything that is asked, by `jobs` processes at a time. The first error ends it."""
    if jobs == 1 or len(asked) < 2:
        yield from (work(*each) for each in asked)
        return
    with pool(min(jobs, len(asked))) as several:
        waiting = [several.submit(work, *each) for each in asked]
        try:
            yield from (each.result() for each in waiting)
        finally:
            for each in waiting:
                each.cancel()


def pool(jobs: int) -> ProcessPoolExecutor:
    """Processes that begin afresh: torch's threads do not survive a fork. They end with the process that began them."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), initializer=begin)


def begin() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """A pool's processes go on for ever when the one that asks them is killed."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def checked(jobs: int) -> int:
    if jobs < 1:
        raise ToolError(f"--jobs {jobs} does no work: give 1 or more")
    return jobs
