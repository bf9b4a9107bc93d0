"""One training run on several processes. In: the environment that `torchrun` sets. Out: who does what, and shared sums.

Started without a launcher, a run is a team of one and nothing here talks to anyone. `torchrun --nproc-per-node N -m
fcam_tools train ...` makes a team of N, one GPU each (NCCL), or on CPUs (gloo); `accelerate launch` sets the same
variables and works as well. torch.distributed is used directly: the networks here have a few million weights, so one
all-reduce of a flat tensor after each step is all that a team needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Team:
    """This process (`rank` of `world`) and its device."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the team."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def collect(self, count: int, size: int, work: Callable[[slice], Any]) -> list[Any]:
        """`work` on every chunk of `size` among `count` things, done in turns by the team; all answers, in order.

        The chunks do not depend on the team, so the answers do not either.
        """
        slices = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        own = [work(chunk) for chunk in slices[self.rank :: self.world]]
        if self.world == 1:
            return own
        everyone: list[list[Any]] = [[] for _ in range(self.world)]
        dist.all_gather_object(everyone, own)
        return [everyone[index % self.world][index // self.world] for index in range(len(slices))]

    def wait(self) -> None:
        """Waits until every process of the team is here."""
        if self.world > 1:
            dist.barrier()


def device() -> torch.device:
    """Where one process alone computes: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def start() -> Team:
    """Join the team that the launcher's environment describes; a team of one without it."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local % torch.cuda.device_count()) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if on_gpu else "gloo")
    return Team(rank, world, device)


def stop() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
