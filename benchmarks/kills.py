"""Kill a study at random moments, again and again, and compare what it ends in.

    python benchmarks/kills.py --kills 100 --folder FOLDER

A study of tiny scans runs in a process of its own that is forked from one which has imported
everything, is killed at a random moment (SIGKILL mostly; SIGTERM and SIGINT too), is started again
with the same settings, and so on; after some kills it is let end. Every file is then compared with
that of a study which nobody interrupted, without times. What a killed process left behind, beside
the files of the study, is counted too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

# What a study imports when it needs it is imported once, before the processes are forked.
import lightning.pytorch  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import numpy as np
import sklearn.ensemble
import sklearn.inspection  # noqa: F401
import torch
import zarr  # noqa: F401
from PIL import Image
from safetensors.torch import load_file

import octoscope.report.build  # noqa: F401
from octoscope.scans.framing import Framing
from octoscope.study.config import ExplainSettings, StudyConfig, TrustSettings
from octoscope.study.made_by import SOURCES, code_of
from octoscope.study.study import run_study
from octoscope.training.checkpoints import load_checkpoint
from octoscope.training.recipe import Recipe

SIGNALS = {signal.SIGKILL: 0.8, signal.SIGTERM: 0.1, signal.SIGINT: 0.1}
KILLS_PER_STUDY = 10
TIMES = ("seconds", "provenance", "log_sha256")
"""Keys of JSON files that differ between two runs of the same study."""
STAMPS = ("files.parquet", "log.csv", "report.html")
"""Files that hold times; all that they say besides stands in others, but the log: see `same`."""


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
        models=(
            Recipe(model="test_resnet", epochs=4, batch_size=4, average=0.9),
            Recipe(model="test_vit", epochs=3, batch_size=4),
        ),
        resamples=50,
        explain=ExplainSettings(methods=("gradcam",), panels=1),
        trust=TrustSettings(run=False),
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


def ended(child: int, within: float | None = None) -> int | None:
    """Return how a process ended, None if it runs after `within` seconds."""
    begun = time.perf_counter()
    while True:
        done, status = os.waitpid(child, os.WNOHANG if within is not None else 0)
        if done:
            return os.waitstatus_to_exitcode(status)
        if within is not None and time.perf_counter() - begun > within:
            return None
        time.sleep(0.005)


def where(log: Path) -> str:
    """Return at what a process was, by the last thing it said."""
    said = log.read_text(errors="replace")
    marks = {
        "▸ report": "report",
        "▸ explain": "explanation",
        "▸ evaluate": "evaluation",
        "epoch ": "training",
        "▸ audit": "cache, first epoch",
        "audit:": "cache, first epoch",
    }
    last = {name: said.rfind(mark) for mark, name in marks.items()}
    place = max(last, key=lambda name: last[name])
    return place if last[place] >= 0 else "reading, audit"


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
    log = folder / "said.txt"
    begun = time.perf_counter()
    if ended(forked(lambda: run_study(replace(config, out=folder / "whole")), log)) != 0:
        raise SystemExit(f"the uninterrupted study failed: {log.read_text()[-2000:]}")
    whole = time.perf_counter() - begun
    expected = contents(folder / "whole")
    print(f"uninterrupted: {whole:.0f} s, {len(expected)} files", flush=True)
    draw = random.Random(options.seed)
    kills: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    differing, left, failed, studies = [], Counter(), 0, 0
    while sum(sent.values()) < options.kills:
        studies += 1
        out = folder / f"killed-{studies}"
        run = lambda out=out: run_study(replace(config, out=out))  # noqa: E731
        for _ in range(KILLS_PER_STUDY):
            child = forked(run, log)
            end = ended(child, within=draw.uniform(0.02, 0.7) * whole)
            if end is not None:
                failed += end != 0
                break
            which = draw.choices(list(SIGNALS), list(SIGNALS.values()))[0]
            os.kill(child, which)
            ended(child)
            kills[where(log)] += 1
            sent[which.name] += 1
        end = ended(forked(run, log))
        if end != 0:
            failed += 1
            print(f"study {studies} failed: {log.read_text()[-1500:]}")
        found = contents(out)
        for name in sorted(found.keys() - expected.keys()):
            left[name] += 1
        differing += [
            f"{studies}: {name}" for name in expected if found.get(name) != expected[name]
        ]
        print(
            f"{sum(sent.values())} kills, {studies} studies, {len(differing)} files differ, "
            f"{sum(left.values())} left behind, {failed} failed; {dict(kills)}",
            flush=True,
        )
    print(f"\n{sum(sent.values())} kills of {studies} studies: {dict(sent)}")
    for place, number in kills.most_common():
        print(f"  {number:4d} during {place}")
    print(f"runs that failed after a kill: {failed}")
    print(f"files that differ from the uninterrupted study: {len(differing)} {differing[:10]}")
    print(f"files left behind: {sum(left.values())} {dict(left.most_common(10))}")


if __name__ == "__main__":
    main()
