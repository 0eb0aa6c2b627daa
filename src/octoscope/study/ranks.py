"""Several processes on one task: which of them this is, and what its share is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from octoscope.errors import OctoscopeError

T = TypeVar("T")

PATIENCE = 1800.0
"""Seconds without any progress after which another process is taken for dead."""

PAUSE = 2.0
"""Seconds between two looks at what the others have done."""

LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
)
"""What torchrun (and Lightning's ``fabric run``, which starts it) and srun set in each process.

``SLURM_NTASKS`` stands in every batch script, also for the script itself, which is one process;
``SLURM_STEP_NUM_TASKS`` is set by srun only, to the number of processes that it started.
"""


@dataclass(frozen=True)
class Ranks:
    """One process among several that share a task and a disk, and need not talk.

    Attributes:
        rank: Number of this process, from 0.
        world: Number of processes.
        local: Number of this process on its machine, which chooses its GPU.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Ranks:
        """Read what torchrun, ``fabric run`` or srun has set; one process if none of them did.

        Raises:
            OctoscopeError: If what is set is no number, or no rank of that many processes.
        """
        for rank, world, local in LAUNCHERS:
            if rank in environment and world in environment:
                number, count = _number(environment, rank), _number(environment, world)
                if not 0 <= number < count:
                    raise OctoscopeError(
                        f"{rank}={number} is no process among {world}={count}; start with "
                        "torchrun, fabric run or srun, or unset both"
                    )
                own = _number(environment, local) if local in environment else 0
                return cls(number, count, own)
        return cls()

    @property
    def first(self) -> bool:
        """Whether this is the process that goes on when all are done."""
        return self.rank == 0

    def share(self, pieces: Sequence[T]) -> Sequence[T]:
        """Return the pieces of this process: piece b belongs to process b modulo `world`."""
        return pieces[self.rank :: self.world]

    def device(self) -> torch.device:
        """Return where this process computes: its GPU, several processes to one if need be."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self.local % torch.cuda.device_count())

    def wait(
        self,
        left: Callable[[], int],
        what: str,
        *,
        patience: float = PATIENCE,
        pause: float = PAUSE,
    ) -> None:
        """Wait until the other processes have left nothing to do.

        Args:
            left: Returns how much is still to do; called again and again.
            what: What is counted, such as ``"maps"``.
            patience: Seconds in which `left` must become less.
            pause: Seconds between two calls.

        Raises:
            OctoscopeError: If it did not.
        """
        fewest, since = left() if self.world > 1 else 0, time.monotonic()
        while fewest:
            if time.monotonic() - since > patience:
                raise OctoscopeError(
                    f"the other {self.world - 1} of {self.world} processes have written nothing "
                    f"for {patience:.0f} seconds, and {fewest} {what} are lacking; one of them has "
                    "probably died: see what it said, run the same command again and it goes on"
                )
            time.sleep(pause)
            begun = time.monotonic()
            now = left()
            pause = max(pause, 10 * (time.monotonic() - begun))  # looking takes time from them
            if now < fewest:
                fewest, since = now, time.monotonic()


ALONE = Ranks()
"""The only process."""


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise OctoscopeError(
            f'{name}="{environment[name]}" is no number; start with torchrun, fabric run or srun, '
            "or unset it"
        ) from None
