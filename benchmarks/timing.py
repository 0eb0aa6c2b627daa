"""Timing contenders side by side, interleaved round by round in one process."""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import torch

Seconds = dict[str, list[float]]


def wall(
    work: Callable[[], object], device: str, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Seconds of one call, with the device idle before and after."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str,
    *,
    before: Callable[[], object] = lambda: None,
    warm_up: bool = True,
    clock: Callable[[], float] = time.perf_counter,
) -> Seconds:
    """Time every contender once per round, each after the same `before`.

    Args:
        contenders: Name to a call without arguments.
        rounds: Rounds that count.
        device: "cpu" or "cuda".
        before: Leaves caches and memory alike for all.
        warm_up: Whether a first round does not count.
        clock: Seconds as they pass, or those of the processors (``time.process_time``).
    """
    seconds: Seconds = {name: [] for name in contenders}
    for turn in range(rounds + warm_up):
        for name, work in contenders.items():
            before()
            took = wall(work, device, clock)
            if turn >= warm_up:
                seconds[name].append(took)
    return seconds


def ratio(of: list[float], to: list[float]) -> str:
    """Smallest, median and largest ratio of two contenders within the rounds."""
    values = [a / b for a, b in zip(of, to, strict=True)]
    return f"{min(values):8.2f} {statistics.median(values):8.2f} {max(values):8.2f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what all benchmarks of explanations can be told."""
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())


def announce(options: argparse.Namespace) -> None:
    """Set the threads and print on what the numbers were taken."""
    torch.set_num_threads(options.threads)
    where = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor()
    print(f"torch {torch.__version__}, {options.device} {where}, {options.threads} threads")
