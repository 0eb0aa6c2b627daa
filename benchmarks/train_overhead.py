"""What our training step costs over a bare PyTorch loop.

    python benchmarks/train_overhead.py [--rounds 7] [--steps 8] [--small]

Both train the same network from the same weights with the same optimiser, precision and memory
layout on the same scans, in turns within one process; the turn that goes first alternates.

ours    `octoscope.training`: Lightning's Trainer, `ScanData`, schedule, tallies, live bar
bare    for batch in batches: zero_grad, autocast forward, cross entropy, backward, step,
        over batches that lie ready in memory as float tensors

Time per step is the median over a turn, after two steps of warming up; a ratio is taken within
each round, and its smallest, median and largest value are printed. Augmentation is off in both
(it is work, not overhead); what happens once per epoch (validation, checkpoint) is not counted.
The losses of both are compared: the same bits mean the same work. Goal: at most 3 % over.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer

from octoscope.data.cache import ScanCache
from octoscope.data.datamodule import ScanData
from octoscope.scans.framing import Framing
from octoscope.scans.table import ScanTable
from octoscope.training.bar import StepBar
from octoscope.training.compute import Compute
from octoscope.training.optimisers import build_optimiser
from octoscope.training.quiet import quiet_lightning
from octoscope.training.recipe import Recipe
from octoscope.training.supervised import SupervisedTask, build_classifier, build_trainer

WARM_UP = 2


class Stopwatch(Callback):
    """Notes the time and the loss at the end of every step."""

    def __init__(self) -> None:
        self.stamps: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, *_: Any) -> None:
        """Wait for the device, as `bare` does, and look at the clock."""
        self.losses.append(float(outputs["loss"]))
        self.stamps.append(time.perf_counter())


def noise_cache(steps: int, batch_size: int, size: tuple[int, int]) -> ScanCache:
    """Return a cache in memory with as many random scans as `steps` batches take."""
    random = np.random.default_rng(0)
    count = steps * batch_size
    images = random.integers(0, 256, (count + 4, *size)).astype(np.uint8)
    frame = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(count + 4)],
            "label": ["ABCD"[i % 4] for i in range(count + 4)],
            "patient": [f"p{i}" for i in range(count + 4)],
            "split": ["train"] * count + ["val"] * 4,
        }
    )
    return ScanCache(images, None, ScanTable.from_frame(frame, Path()), Framing(*size))


def ours(cache: ScanCache, recipe: Recipe, compute: Compute) -> Stopwatch:
    """Train one epoch with octoscope."""
    data = ScanData(cache, batch_size=recipe.batch_size, seed=recipe.seed)
    classifier = build_classifier(cache, recipe).to(memory_format=compute.memory_format)
    task = SupervisedTask(classifier, recipe, len(data.train_dataloader()), torch.ones(4))
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, quiet_lightning():
        trainer = build_trainer(recipe, compute, Path(folder), [StepBar(1), watch])
        trainer.fit(task, datamodule=data)
    return watch


def bare(cache: ScanCache, recipe: Recipe, compute: Compute) -> Stopwatch:
    """Train one epoch with nothing around it."""
    data = ScanData(cache, batch_size=recipe.batch_size, seed=recipe.seed, device=compute.device)
    batches = list(data.train_dataloader())
    device = torch.device(compute.device)
    model = build_classifier(cache, recipe).to(device, memory_format=compute.memory_format)
    optimiser = build_optimiser(model.network, recipe, device)
    watch = Stopwatch()
    model.train()
    for batch in batches:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=compute.precision == "bf16"):
            loss = F.cross_entropy(model(batch["image"]).float(), batch["target"])
        loss.backward()
        optimiser.step()
        watch.losses.append(float(loss.detach()))
        watch.stamps.append(time.perf_counter())
    return watch


def per_step(watch: Stopwatch) -> float:
    """Return the median seconds of a step."""
    return statistics.median(np.diff(watch.stamps[WARM_UP - 1 :]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="steps that are timed per turn")
    parser.add_argument("--small", action="store_true", help="the small images only")
    options = parser.parse_args()
    recipe = Recipe(epochs=1, warmup_epochs=0, schedule="constant", augment=False, balance="none")
    compute = Compute.choose(recipe)
    print(
        f"{platform.processor() or platform.machine()}, {compute.device}, {compute.precision}, "
        f"channels-last {compute.channels_last}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; batch {recipe.batch_size}, {options.rounds} rounds"
    )
    print(f"{'ResNet-18':<12}{'bare':>10}{'ours':>10}{'over: least':>14}{'median':>9}{'most':>9}")
    for size in ((64, 64), (128, 256))[: 1 if options.small else 2]:
        cache = noise_cache(options.steps + WARM_UP, recipe.batch_size, size)
        seconds: dict[str, list[float]] = {"bare": [], "ours": []}
        for turn in range(options.rounds):
            pair = [("bare", bare), ("ours", ours)]
            watches = {
                name: run(cache, recipe, compute) for name, run in pair[:: 1 - 2 * (turn % 2)]
            }
            assert watches["bare"].losses == watches["ours"].losses, "they did different work"
            for name, watch in watches.items():
                seconds[name].append(per_step(watch))
        over = sorted(o / b - 1 for o, b in zip(seconds["ours"], seconds["bare"], strict=True))
        middle = {name: statistics.median(values) * 1e3 for name, values in seconds.items()}
        print(
            f"{size[0]}×{size[1]:<8}{middle['bare']:>7.1f} ms{middle['ours']:>7.1f} ms"
            f"{over[0]:>13.1%}{statistics.median(over):>9.1%}{over[-1]:>9.1%}"
        )
    print("goal: median at most 3.0%")


if __name__ == "__main__":
    main()
