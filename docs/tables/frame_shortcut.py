"""A shortcut in real scans: is it caught, and is it gone once the frame tells nothing?

    python docs/tables/frame_shortcut.py FOLDER              NORMAL against any disease
    python docs/tables/frame_shortcut.py FOLDER --diseases   all four classes

FOLDER holds ``kermany-lesions`` (scans of three diseases, cropped to a band around the retina) and
``kermany-normal`` (healthy scans, whole frames). Trained together as they are, a network can tell
NORMAL by the frame alone. The same network is trained twice: on whole frames with their borders,
and on scans cropped to the retina band. The shortcut probes then examine both.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from octoscope.evaluation.predict import predict
from octoscope.evaluation.terminal import said
from octoscope.models.classifier import Classifier
from octoscope.scans.framing import Framing
from octoscope.study.config import StudyConfig
from octoscope.study.evaluate import evaluate_run
from octoscope.study.folder import RunFolder, StudyFolder
from octoscope.study.study import run_study
from octoscope.study.subject import subject_of
from octoscope.training.recipe import Recipe
from octoscope.trust.probes.probe import Finding
from octoscope.trust.probes.run import probe_model

FRAMINGS = {
    "whole frames": Framing(height=128, width=256, mode="pad", wedges="keep"),
    "retina band": Framing(height=128, width=256, mode="band"),
}
RECIPE = Recipe(
    model="resnet18",
    model_options={"channels": [16, 32, 64, 128], "output_stride": 16},
    epochs=30,
    batch_size=16,
    lr=0.003,
    average=0.98,
)
HELD_OUT = 5
"""Of the patients that NORMAL is taken to have, those in validation."""


def joined(data: Path, out: Path, *, diseases: bool) -> Path:
    """Write the table of both folders and return its path.

    The healthy scans have no patient ids, and neighbouring numbers may be one patient: two at a
    time are taken as one (so that NORMAL-b5 and -b6, which are the same scan, stay together), and
    validation gets the last of them.

    Args:
        data: Holds both folders.
        out: The table.
        diseases: Tell the three diseases apart, too.
    """
    ill = pd.read_csv(data / "kermany-lesions" / "manifest.csv", dtype={"patient": str})
    ill = ill[["path", "label", "patient", "split"]]
    ill["path"] = [str((data / "kermany-lesions" / name).resolve()) for name in ill["path"]]
    if not diseases:
        ill["label"] = "DISEASE"
    names = sorted((data / "kermany-normal").glob("NORMAL-*.png"))
    patients = [f"normal-{(place + 1) // 2}" for place in range(len(names))]
    last = list(dict.fromkeys(patients))[-HELD_OUT:]
    healthy = pd.DataFrame(
        {
            "path": [str(name.resolve()) for name in names],
            "label": "NORMAL",
            "patient": patients,
            "split": ["val" if patient in last else "train" for patient in patients],
        }
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat([ill, healthy]).to_csv(out, index=False)
    return out


def trained(framing: str, table: Path, folder: Path) -> Path:
    """Train the network with one framing, or find it trained; return the study's folder."""
    config = StudyConfig(
        name=framing,
        out=folder / framing.replace(" ", "-"),
        data=table,
        framing=FRAMINGS[framing],
        models=(RECIPE,),
    )
    return run_study(config, until="train")


def probed(study: Path) -> tuple[str, list[Finding]]:
    """Return the validation accuracy of a study's network, and what the probes find."""
    run = RunFolder.open(StudyFolder(study).runs[0])
    cache = run.open_cache()
    metrics = evaluate_run(run, cache)
    classifier = Classifier.load(run.model)
    subject = subject_of(
        cache, partial(predict, classifier, quiet=True), classifier.classes, training=cache
    )
    return said(metrics["overall"]["balanced_accuracy"]), probe_model(subject)


def lines(framing: str, found: tuple[str, list[Finding]]) -> Iterator[str]:
    """Yield a row of the table per probe."""
    accuracy, findings = found
    for one in findings:
        fires = {True: "**yes**", False: "no", None: "not judged"}[one.fires]
        effect = f"{one.effect:.2f} [{one.low:.2f}, {one.high:.2f}]"
        yield f"| {framing} | {accuracy} | {one.title} | {effect} | {fires} |"


def main() -> None:
    """Train, probe and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("studies/frame-shortcut"))
    parser.add_argument("--diseases", action="store_true", help="tell the diseases apart, too")
    options = parser.parse_args()
    folder = options.folder / ("four-classes" if options.diseases else "two-classes")
    table = joined(options.data, folder / "table.csv", diseases=options.diseases)
    print("| framing | balanced accuracy | probe | effect | fires |")
    print("|---|---|---|---|---|")
    for framing in FRAMINGS:
        for line in lines(framing, probed(trained(framing, table, folder))):
            print(line)


if __name__ == "__main__":
    main()
