"""Kill a study at random moments, again and again, and compare what it ends in.

    python benchmarks/kills.py --kills 120 --folder FOLDER

A study of tiny scans runs in a process of its own that is forked from one which has imported
everything, is killed at a random moment (SIGKILL mostly; SIGTERM and SIGINT too), is started again
with the same settings, and so on; after some kills it is let end. Every file is then compared with
that of a study which nobody interrupted, without times. What a killed process left behind, beside
the files of the study, is counted too.

The moments are drawn uniformly over the CPU time of the uninterrupted study, which is measured
first: a busy machine does not move them to its beginning. Each is a stage, and CPU time since the
stage began; a study that is started again is killed where it comes to the next of its moments.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from octoscope.scans.framing import Framing
from octoscope.study import results, study
from octoscope.study.config import ExplainSettings, StudyConfig, TrustSettings
from octoscope.study.made_by import SOURCES, code_of
from octoscope.study.stage import Stage
from octoscope.study.study import run_study
from octoscope.training.checkpoints import load_checkpoint
from octoscope.training.recipe import Recipe
from octoscope.training.supervised import SupervisedTask

SIGNALS = {signal.SIGKILL: 0.8, signal.SIGTERM: 0.1, signal.SIGINT: 0.1}
KILLS_PER_STUDY = 20
TICKS = os.sysconf("SC_CLK_TCK")
TIMES = ("seconds", "provenance", "log_sha256")
"""Keys of JSON files that differ between two runs of the same study."""
STAMPS = ("files.parquet", "log.csv", "report.html")
"""Files that hold times; all that they say besides stands in others, but the log: see `same`."""
PARTS = {
    "reading": "reading the table",
    "audit": "audit",
    "cache": "cache",
    "training": "training, before its first epoch",
    "epoch": "training, in an epoch",
    "evaluate": "evaluation",
    "explain": "explanation",
    "trust": "trust",
    "panels": "panels",
    "report": "report",
}
"""First word of a mark → the part of a study that it begins."""


@dataclass(frozen=True)
class Mark:
    """A stage that a process has come to, and the CPU seconds that it had used then."""

    stage: str
    cpu: float


class Marks:
    """The file to which a study that runs in a forked process writes what it comes to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _announce(study, "prepare_table", lambda *_: self.write("reading"))
        _announce(study, "_audited", lambda *_: self.write("audit"))
        _announce(study, "_prepared", lambda *_: self.write("cache"))
        _announce(study, "train", lambda *_: self.write("training"))
        _announce(
            SupervisedTask,
            "on_train_epoch_start",
            lambda task: self.write(f"epoch {task.current_epoch + 1}"),
        )
        _announce(Stage, "run", lambda stage, *_: stage.name == "audit" or self.write(stage.name))
        _announce(results, "write_panels", lambda *_: self.write("panels"))

    def write(self, stage: str) -> None:
        """Add a stage, with the CPU time of this process and of its children."""
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{sum(os.times()[:4])} {stage}\n".encode())
        os.close(handle)

    def read(self) -> list[Mark]:
        """Return what was written so far."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [Mark(stage, float(cpu)) for cpu, _, stage in (x.partition(" ") for x in lines)]

    def clear(self) -> None:
        """Begin anew."""
        self.path.unlink(missing_ok=True)


def _announce(where: Any, name: str, say: Callable[..., object]) -> None:
    """Let a function say that it begins."""
    function = getattr(where, name)

    def announced(*args: Any, **options: Any) -> Any:
        say(*args)
        return function(*args, **options)

    setattr(where, name, announced)


def cpu_seconds(process: int) -> float:
    """Return user and system time of a process and of the children it has waited for."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def write_scans(folder: Path, patients: int = 10) -> Path:
    """Write pictures 48×64 of two classes, two of each patient, with lesion masks."""
    for k, name in enumerate(("CNV", "NORMAL")):
        for patient in range(patients):
            for scan in range(2):
                rng = np.random.default_rng([k, patient, scan])
                image = np.full((48, 64), 20.0)
                image[14:32] = 140
                mask = np.zeros((48, 64), np.uint8)
                if name == "CNV":
                    x, y = rng.integers(10, 44), rng.integers(20, 28)
                    image[y : y + 8, x : x + 12], mask[y : y + 8, x : x + 12] = 230, 1
                image = np.clip(image * rng.gamma(12, 1 / 12, image.shape), 0, 255)
                file = Path(name) / f"{name}-{100 * k + patient}-{scan + 1}.png"
                for place, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
                    (folder / place / file).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(folder / place / file)
    return folder


def settings(data: Path) -> StudyConfig:
    """Return the settings of the study, but its folder."""
    return StudyConfig(
        name="killed",
        data=data,
        framing=Framing(height=32, width=48),
        models=(Recipe(model="test_resnet", epochs=8, batch_size=4, average=0.9),),
        resamples=50,
        explain=ExplainSettings(methods=("gradcam",), panels=1),
        trust=TrustSettings(
            scans=4, steps=2, sanity_scans=3, stages=2, stability_scans=2, draws=1, probes=False
        ),
    )


def forked(work: Callable[[], object], log: Path) -> int:
    """Start a process that does `work`, what it says going to `log`, and return its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        work()
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def ended(child: int) -> int:
    """Wait for a process, and return how it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def came_to(child: int, moment: Mark, order: list[str], marks: Marks) -> bool:
    """Wait until a process comes to a moment, or has gone past it; False if it ends before.

    Args:
        child: The process.
        moment: A stage, and CPU seconds since it began.
        order: The stages, in their order.
        marks: What the process writes.
    """
    later = set(order[order.index(moment.stage) + 1 :])
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        for mark in marks.read():
            if mark.stage in later:
                return True
            if mark.stage == moment.stage and cpu_seconds(child) - mark.cpu >= moment.cpu:
                return True
        time.sleep(0.003)
    return False


def drawn_moments(draw: random.Random, whole: list[Mark], end: float) -> list[Mark]:
    """Draw moments in their order, uniformly over the CPU time of a whole study.

    Args:
        draw: Random numbers.
        whole: The stages of the uninterrupted study.
        end: CPU seconds at its end.

    Returns:
        Stages, and CPU seconds since they began.
    """
    moments = []
    for at in sorted(draw.uniform(whole[0].cpu, end) for _ in range(KILLS_PER_STUDY)):
        last = [mark for mark in whole if mark.cpu <= at][-1]
        moments.append(Mark(last.stage, at - last.cpu))
    return moments


def contents(folder: Path) -> dict[str, object]:
    """Return name → content, without times, of all files of a study but its locks."""
    found: dict[str, object] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        parts = list(path.relative_to(folder).parts)
        if path.suffix == ".lock":
            continue
        if parts[0] == "cache" and len(parts) > 2:
            parts[1] = parts[1].partition("-")[0]  # the rest is the time
        name = "/".join(parts)
        if path.name in STAMPS:
            found[name] = "there"
        elif path.suffix == ".ckpt":
            found[name] = _tensors(load_checkpoint(path)["state_dict"])
        elif path.suffix == ".safetensors":
            found[name] = _tensors(load_file(path))
        elif path.suffix == ".json" and ".zarr" not in name:
            found[name] = _without_times(json.loads(path.read_text()), folder)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _tensors(state: dict[str, torch.Tensor]) -> dict[str, str]:
    return {k: hashlib.sha256(v.numpy(force=True).tobytes()).hexdigest() for k, v in state.items()}


def _without_times(value: object, folder: Path) -> object:
    """Drop times, the folder's name, and digests of files that hold times."""
    if isinstance(value, dict):
        return {
            key: _without_times(part, folder)
            for key, part in value.items()
            if key not in (*TIMES, "key", "outputs", "inputs", "said", "out")
        }
    if isinstance(value, list):
        return [_without_times(part, folder) for part in value]
    return value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep the studies here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for work in SOURCES:
        code_of(work)  # once: sources that are edited meanwhile are none of this
    folder = options.folder or Path(tempfile.mkdtemp())
    config = settings(write_scans(folder / "data"))
    log, marks = folder / "said.txt", Marks(folder / "marks.txt")
    marks.clear()

    modules = folder / "modules.txt"

    def whole_study(out: Path) -> None:
        run_study(replace(config, out=out))
        marks.write("end")
        modules.write_text("\n".join(sys.modules))

    for name in ("first", "whole"):  # what the first imports when it needs it, the others have
        marks.clear()
        if ended(forked(partial(whole_study, folder / name), log)) != 0:
            raise SystemExit(f"the uninterrupted study failed: {log.read_text()[-2000:]}")
        for module in modules.read_text().splitlines():
            with suppress(ImportError):
                importlib.import_module(module)
    *whole, end = marks.read()
    order = [mark.stage for mark in whole]
    expected = contents(folder / "whole")
    shares: Counter[str] = Counter()
    for mark, after in zip(whole, [*whole[1:], end], strict=True):
        shares[part_of(mark.stage)] += after.cpu - mark.cpu
    print(f"uninterrupted: {shares.total():.1f} s of CPU time, {len(expected)} files", flush=True)
    draw = random.Random(options.seed)
    kills: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    differing, left, failed, studies = [], Counter(), 0, 0
    while sent.total() < options.kills:
        studies += 1
        out = folder / f"killed-{studies}"
        run = lambda out=out: run_study(replace(config, out=out))  # noqa: E731
        for moment in drawn_moments(draw, whole, end.cpu):
            marks.clear()
            child = forked(run, log)
            if not came_to(child, moment, order, marks):
                failed += ended(child) != 0
                break
            which = draw.choices(list(SIGNALS), list(SIGNALS.values()))[0]
            os.kill(child, which)
            ended(child)
            kills[part_of(marks.read()[-1].stage)] += 1
            sent[which.name] += 1
        if ended(forked(run, log)) != 0:
            failed += 1
            print(f"study {studies} failed: {log.read_text()[-1500:]}")
        found = contents(out)
        for name in sorted(found.keys() - expected.keys()):
            left[name] += 1
        differing += [
            f"{studies}: {name}" for name in expected if found.get(name) != expected[name]
        ]
        print(
            f"{sent.total()} kills, {studies} studies, {len(differing)} files differ, "
            f"{left.total()} left behind, {failed} failed; {dict(kills)}",
            flush=True,
        )
    print(f"\n{sent.total()} kills of {studies} studies: {dict(sent)}\n")
    print("| part of the study | share of its CPU time | kills |\n|---|---|---|")
    for part in PARTS.values():
        print(f"| {part} | {shares[part] / shares.total():.0%} | {kills[part]} |")
    print(f"\nruns that failed after a kill: {failed}")
    print(f"files that differ from the uninterrupted study: {len(differing)} {differing[:10]}")
    print(f"files left behind: {left.total()} {dict(left.most_common(10))}")


def part_of(stage: str) -> str:
    """Return the part of a study that a stage belongs to."""
    return PARTS[stage.partition(" ")[0]]


if __name__ == "__main__":
    main()
