"""From one clinic to another on real scans: train, evaluate, predict, explain, examine elsewhere.

A small network is trained on the training part of ``kermany-lesions`` (CNV, DME, DRUSEN). Its
validation part, whose patients are others, then plays the scans of another clinic: CNV is called
"wet AMD" there, so that the classes come in another order, and DRUSEN is missing; a second set has
a class that the model does not know. Every number is computed again by scikit-learn, from nothing
but the CSV that ``octoscope predict`` writes and the names of the folders.

    python benchmarks/external.py --data FOLDER

FOLDER holds ``kermany-lesions`` and ``kermany-normal``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    roc_auc_score,
)

from octoscope.cli import main as octoscope
from octoscope.evaluation.ledger import openings
from octoscope.files import read_json

CALLED = {"wet AMD": "CNV", "DME": "DME"}
"""Class folders of the other clinic → what the model calls them."""


def command(*words: object, code: int = 0) -> str:
    """Run octoscope in this process, show the command, and return what went to standard output."""
    told = io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stdout(told):
        got = octoscope([str(word) for word in words])
    shown = " ".join(Path(str(word)).name or str(word) for word in words)
    print(f"$ octoscope {shown}   [exit {got}, {time.perf_counter() - began:.0f} s]", flush=True)
    if got != code:
        sys.exit(f"exit code {got}, not {code}")
    return told.getvalue()


def make_sets(data: Path, out: Path) -> tuple[Path, Path, Path]:
    """Copy scans into the folders of the other clinic; return its set, one more, and a flat one."""
    clinic, strange, flat = out / "clinic", out / "clinic-and-normal", out / "flat"
    lesions = data / "kermany-lesions"
    for folder, label in CALLED.items():
        for path in sorted((lesions / "images" / "val" / label).iterdir()):
            patient = path.stem.split("-")[1]
            mask = lesions / "masks" / "val" / label / f"{path.stem}.png"
            copies = {
                clinic / "images" / folder / patient / path.name.split("-", 1)[1]: path,
                clinic / "masks" / folder / patient / f"{path.stem.split('-', 1)[1]}.png": mask,
                strange / label / path.name: path,
                flat / f"{folder}_{path.name.split('-', 1)[1]}": path,
            }
            for copy, original in copies.items():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(original, copy)
    shutil.copyfile(lesions / "lesions.json", clinic / "lesions.json")
    for path in sorted((data / "kermany-normal").glob("NORMAL-*.png")):
        (strange / "NORMAL").mkdir(exist_ok=True)
        shutil.copyfile(path, strange / "NORMAL" / path.name)
    return clinic, strange, flat


def compared(metrics: dict, frame: pd.DataFrame) -> Iterator[tuple[str, float, float]]:
    """Yield metric, its value in ``metrics.json`` and by scikit-learn from the CSV."""
    true = np.array([CALLED[Path(path).name.split("_")[0]] for path in frame["path"]])
    said = frame["predicted"].to_numpy()
    there = sorted(set(true))
    overall = {name: number["value"] for name, number in metrics["overall"].items()}
    scores = {name: frame[f"probability_{name}"].to_numpy() for name in there}
    yield "accuracy", overall["accuracy"], accuracy_score(true, said)
    yield "balanced accuracy", overall["balanced_accuracy"], balanced_accuracy_score(true, said)
    f1 = f1_score(true, said, labels=there, average="macro", zero_division=0)
    yield "macro F1", overall["macro_f1"], f1
    auroc = np.mean([roc_auc_score(true == name, scores[name]) for name in there])
    yield "AUROC", overall["auroc"], auroc
    precision = np.mean([average_precision_score(true == name, scores[name]) for name in there])
    yield "average precision", overall["average_precision"], precision
    for name in there:
        own = metrics["per_class"][name]
        yield (
            f"sensitivity {name}",
            own["sensitivity"]["value"],
            np.mean(said[true == name] == name),
        )
        yield f"AUROC {name}", own["auroc"]["value"], roc_auc_score(true == name, scores[name])
    counts = confusion_matrix(true, said, labels=metrics["classes"])
    yield "cells of the confusion matrix that differ", 0, np.sum(counts != metrics["confusion"])


def main() -> None:
    """Run the whole and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="folder to keep; by default a temporary one")
    parser.add_argument("--model", default="resnet10t")
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp(prefix="octoscope-external-"))
    study = out / "study"
    clinic, strange, flat = make_sets(options.data, out)
    command(
        "train", options.data / "kermany-lesions" / "images" / "train", study,
        "--model", options.model, "--epochs", options.epochs, "--batch-size", "16",
        "--framing.height", "96", "--framing.width", "192",
    )  # fmt: skip
    run = study / "runs" / f"{options.model}-seed0"
    command("evaluate", run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    command("evaluate", run, "--data", strange, code=2)
    command("evaluate", run, "--data", clinic, code=2)
    same = before == {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    print(f"refused twice; {'no file changed' if same else 'FILES CHANGED'}")
    command("evaluate", run, "--data", clinic, "--classes", "wet AMD=CNV", "--why", "a benchmark")
    metrics = read_json(run / "external" / "clinic" / "metrics.json")
    frame = pd.read_csv(io.StringIO(command("predict", run, flat)))
    print(f"\n{'':42}{'octoscope':>12}{'scikit-learn':>14}")
    worst = 0.0
    for name, ours, theirs in compared(metrics, frame):
        print(f"{name:42}{ours:12.6f}{theirs:14.6f}")
        worst = max(worst, abs(ours - theirs))
    print(f"largest difference {worst:.1e}\n")
    for name, number in metrics["overall"].items():
        print(f"{name:20}{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]")
    print(f"{metrics['n_scans']} scans of {metrics['n_patients']} patients")
    command("evaluate", run, "--data", strange, "--unknown-classes", "drop")
    command("explain", run, clinic, "--methods", "gradcam", "--most", "3")
    command("explain", run, "--data", clinic, "--methods", "gradcam,layercam")
    localisation = read_json(run / "external" / "clinic" / "localisation.json")
    for row in localisation["retina"]:
        if row["lesion"] == "any":
            print(row["sentence"])
    command(
        "trust", run, "--data", clinic, "--methods", "gradcam,layercam", "--scans", "12",
        "--steps", "5", "--sanity-scans", "6", "--stages", "2", "--stability-scans", "4",
        "--draws", "2",
    )  # fmt: skip
    card = read_json(run / "external" / "clinic" / "trust.json")
    print(card["verdict"]["headline"])
    print(f"{len(openings(run))} lines in the ledger; the study has "
          f"{'a' if (run / 'trust.json').exists() else 'no'} card of its own")  # fmt: skip


if __name__ == "__main__":
    main()
