"""Which probe fires on models that are known to take a shortcut, and on models that cannot.

    python benchmarks/trust_on_phantoms.py [--folder studies/trust-on-phantoms] [--no-train]

Trains small networks on clean phantoms and on phantoms with one planted shortcut, each kind at
several strengths. How much a model hangs on its shortcut is measured with what only phantoms
have: the very same validation scans rendered anew with the artefact taken away, and with it given
to the other classes instead. The probes see neither. Interrupted, it goes on where it stopped.

The clean studies numbered 0 to 5 were seen before the limit of the transplant was set; of the
others, those of odd number are the held-out check. Written below the folder: probes.csv (a row
per model), findings.csv (a row per model and probe) and table.md, which is printed as well.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from octoscope.evaluation.predict import predict
from octoscope.files import atomic_path, digest_of, read_json, write_json, write_text
from octoscope.models.classifier import Classifier
from octoscope.progress import console
from octoscope.scans.framed import read_framed
from octoscope.scans.framing import Framing
from octoscope.scans.phantom import write_study
from octoscope.scans.phantom.plan import PlannedScan, plan_study
from octoscope.scans.phantom.shortcut import Kind, Shortcut
from octoscope.scans.phantom.study import DESCRIPTION, Task, write_patient
from octoscope.study.config import StudyConfig
from octoscope.study.folder import RunFolder, StudyFolder
from octoscope.study.study import run_study
from octoscope.study.subject import subject_of
from octoscope.training.recipe import Recipe
from octoscope.trust import probes
from octoscope.trust.probes.probe import Predict, Scans
from octoscope.trust.probes.run import probe_model

LABEL = "DME"
KINDS: tuple[Kind, ...] = ("marker", "border", "size", "device")
STRENGTHS = (0.6, 0.8, 1.0)
LARGE_STRENGTHS = (1.0,)
SEEDS = (0, 1)
CLEAN = 20
SEEN = 105
"""Clean seeds up to this one were seen before limits were set."""
MOVED = 0.1
"""From here on a shortcut must be flagged: balanced accuracy that it moves."""

FRAMING = Framing(height=96, width=144, mode="pad", wedges="keep")
LARGE_FRAMING = replace(FRAMING, height=128, width=192)
RECIPE = Recipe(
    model="resnet18",
    model_options={"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "output_stride": 16},
    epochs=35,
    batch_size=16,
    lr=0.003,
    average=0.98,
    label_smoothing=0.1,
)


@dataclass(frozen=True)
class Setting:
    """One study: its seed, and what is planted in it.

    Attributes:
        name: Name of its folder.
        seed: Of the phantoms and of the network.
        shortcut: What is planted, None in a clean study.
        large: In larger frames, and trained without augmentation: a letter of three pixels in a
            corner that augmentation often cuts off is no shortcut that a network takes.
    """

    name: str
    seed: int
    shortcut: Shortcut | None = None
    large: bool = False

    @property
    def kind(self) -> str:
        """What is planted, in words."""
        if self.shortcut is None:
            return "clean"
        return f"{self.shortcut.kind}, larger" if self.large else self.shortcut.kind


def settings() -> list[Setting]:
    """Return all studies, clean and planted in turn."""
    planted = [
        Setting(f"{kind}-{strength:g}-{seed}", 200 + seed, Shortcut(kind, LABEL, strength))
        for strength in sorted(STRENGTHS, reverse=True)
        for seed in SEEDS
        for kind in KINDS
    ]
    planted += [
        Setting(f"marker-large-{strength:g}-{seed}", 200 + seed,
                Shortcut("marker", LABEL, strength), large=True)
        for strength in LARGE_STRENGTHS
        for seed in SEEDS
    ]  # fmt: skip
    clean = [Setting(f"clean-{number}", 100 + number) for number in range(CLEAN)]
    turns = list(zip(planted, clean, strict=False))
    return [one for pair in turns for one in pair] + planted[len(turns) :] + clean[len(turns) :]


def write_phantoms(out: Path, setting: Setting) -> None:
    """Write the phantoms of a study, or find them written."""
    height, width = (256, 384) if setting.large else (192, 288)
    write_study(
        out,
        patients=160,
        scans_per_patient=4,
        height=height,
        width=width,
        seed=setting.seed,
        severity=(0.6, 1.0),
        fractions=(0.6, 0.3, 0.1),
        shortcut=setting.shortcut,
        workers=1,
    )


def trained(setting: Setting, folder: Path) -> Path:
    """Train the network of a study, or find it trained; return the study's folder."""
    scans = folder / "scans" / setting.name
    write_phantoms(scans, setting)
    config = StudyConfig(
        name=setting.name,
        out=folder / "studies" / setting.name,
        data=scans,
        framing=LARGE_FRAMING if setting.large else FRAMING,
        models=(replace(RECIPE, augment=not setting.large),),
        seeds=(setting.seed,),
    )
    return run_study(config, until="train")


def planned(config: dict[str, Any], shortcut: Shortcut) -> list[PlannedScan]:
    """Return the plan of the phantoms that `config` (of phantom.json) describes.

    Args:
        config: The options the phantoms were written with.
        shortcut: What is planted instead; the rest of the plan depends on its kind alone.
    """
    return plan_study(
        config["patients"],
        config["scans_per_patient"],
        config["seed"],
        tuple(config["severity"]),
        tuple(config["fractions"]),
        config["both_classes"],
        shortcut,
    )


def rendered_anew(
    scans: Path, names: list[str], shortcut: Shortcut, framing: Framing, store: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Render and frame the scans of a study with the artefact spread otherwise.

    Args:
        scans: Folder of the phantoms.
        names: Paths of the scans wanted, as in the table.
        shortcut: How the artefact is spread now.
        framing: Of the model.
        store: Where the result is kept.

    Returns:
        Images ``(N, H, W)`` uint8 in the model's frame; whether each has the artefact ``(N,)``.
    """
    config = read_json(scans / DESCRIPTION)["config"]
    key = digest_of([config, names, vars(shortcut), framing.to_dict()])
    if store.is_file():
        with np.load(store) as kept:
            if str(kept["key"]) == key:
                return kept["images"], kept["planted"]
    plan = {f"images/{scan.name}": scan for scan in planned(config, shortcut)}
    wanted = [plan[name] for name in names]
    with tempfile.TemporaryDirectory() as place:
        for scan in wanted:
            for part in ("images", "masks"):
                (Path(place) / part / scan.name).parent.mkdir(parents=True, exist_ok=True)
        for patient in dict.fromkeys(scan.patient for scan in wanted):
            own = tuple(scan for scan in wanted if scan.patient == patient)
            write_patient(Task(own, place, config["height"], config["width"], shortcut))
        images = np.stack([read_framed(Path(place) / name, framing)[0] for name in names])
    flags = np.array([scan.shortcut for scan in wanted])
    with atomic_path(store) as temporary, Path(temporary).open("wb") as file:
        np.savez_compressed(file, images=images, planted=flags, key=np.array(key))
    return images, flags


DATA = ("metadata",)
"""Findings that are about the data: the model could cheat, not that it does."""


def balanced_accuracy(targets: np.ndarray, logits: np.ndarray) -> float:
    """Return the mean sensitivity over classes."""
    hit = logits.argmax(axis=1) == targets
    return float(np.mean([hit[targets == k].mean() for k in np.unique(targets)]))


def ground_truth(
    setting: Setting, folder: Path, scans: Scans, predictor: Predict
) -> dict[str, float]:
    """Return the balanced accuracy as found, with the artefact taken away, and swapped.

    Swapped, the artefact is in every scan of the other classes and in none of its own. What the
    scans without it look like is checked to be the same pixel by pixel.
    """
    found = balanced_accuracy(scans.targets, predictor(scans.images))
    truth = {"found": found, "removed": np.nan, "swapped": np.nan}
    if setting.shortcut is None:
        return truth
    names = scans.frame["path"].tolist()
    had = scans.frame["shortcut"].to_numpy(dtype=bool)
    place = folder / "truth"
    place.mkdir(parents=True, exist_ok=True)
    for what, elsewhere in (("removed", 0.0), ("swapped", 1.0)):
        images, has = rendered_anew(
            folder / "scans" / setting.name,
            names,
            replace(setting.shortcut, strength=0.0, elsewhere=elsewhere),
            LARGE_FRAMING if setting.large else FRAMING,
            place / f"{setting.name}-{what}.npz",
        )
        same = np.array_equal(images[~had & ~has], scans.images[~had & ~has])
        if not same or (images[had != has] == scans.images[had != has]).all(axis=(1, 2)).any():
            raise RuntimeError(f"{setting.name}: the scans rendered anew are not the same scans")
        truth[what] = balanced_accuracy(scans.targets, predictor(images))
    return truth


def examined(setting: Setting, folder: Path, run: RunFolder) -> dict[str, Any]:
    """Probe one model, or find it probed with the same code and weights; return its record."""
    store = folder / "probed" / f"{setting.name}.json"
    key = [run.digest, _code()]
    if store.is_file() and (kept := read_json(store))["key"] == key:
        return kept
    classifier = Classifier.load(run.model)
    subject = subject_of(
        cache := run.open_cache(),
        partial(predict, classifier, quiet=True),
        classifier.classes,
        training=cache,
    )
    truth = ground_truth(setting, folder, subject.scans, subject.predict)
    record = {
        "key": key,
        "study": setting.name,
        "kind": setting.kind,
        "strength": setting.shortcut.strength if setting.shortcut else 0.0,
        "seed": setting.seed,
        **truth,
        "findings": [one.to_dict() for one in probe_model(subject)],
    }
    store.parent.mkdir(parents=True, exist_ok=True)
    write_json(store, record)
    return record


def _code() -> str:
    """Return a digest of the code of the probes: with other limits, models are probed anew."""
    files = sorted(Path(probes.__file__).parent.glob("*.py"))
    return digest_of([file.read_text(encoding="utf-8") for file in files])


def moved_by(record: dict[str, Any]) -> float:
    """Return by how much balanced accuracy the shortcut moves, by the larger of two measures."""
    if record["kind"] == "clean":
        return 0.0
    return max(abs(record["found"] - record[what]) for what in ("removed", "swapped"))


def fired(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the findings of a model that are alarms."""
    return [one for one in record["findings"] if one["fires"]]


def table_of(records: list[dict[str, Any]]) -> str:
    """Return the models and what fired on them, and the summary, as Markdown."""
    lines = [
        "| kind | strength | seed | as found | removed | swapped | probes that fire | flagged |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in sorted(records, key=lambda r: (r["kind"], -r["strength"], r["seed"])):
        alarms = "; ".join(
            f"{one['probe']} {one['effect']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
            for one in fired(record)
        )
        found, removed, swapped = (_points(record[k]) for k in ("found", "removed", "swapped"))
        lines.append(
            f"| {record['kind']} | {record['strength']:g} | {record['seed']} | {found} | "
            f"{removed} | {swapped} | {alarms or '–'} | {'yes' if alarms else 'no'} |"
        )
    clean = [record for record in records if record["kind"] == "clean"]
    planted = [record for record in records if record["kind"] != "clean"]
    moved = [record for record in planted if moved_by(record) >= MOVED]
    unmoved = [record for record in planted if moved_by(record) < MOVED]
    held_out = [r for r in clean if r["seed"] % 2 and r["seed"] > SEEN]
    lines += [
        "",
        f"- shortcut moves balanced accuracy by {100 * MOVED:g} points or more: {_share(moved)}",
        f'- the same without "frame alone", which looks at the data: {_share(moved, DATA)}',
        f'- shortcut planted, moves less than that: {_share(unmoved)}; without "frame alone": '
        f"{_share(unmoved, DATA)}",
        f"- clean: {_share(clean)}; of the held-out ones: {_share(held_out)}",
        "",
        "| probe | fires where moved | where planted, not moved | on clean | not judged |",
        "|---|---|---|---|---|",
    ]
    groups = (moved, unmoved, clean)
    names = dict.fromkeys(one["title"] for record in records for one in record["findings"])
    for name in names:
        counts = [
            sum(any(one["title"] == name for one in fired(record)) for record in group)
            for group in groups
        ]
        silent = sum(
            one["title"] == name and one["fires"] is None
            for record in records
            for one in record["findings"]
        )
        shares = (f"{hits}/{len(group)}" for hits, group in zip(counts, groups, strict=True))
        lines.append(f"| {name} | {' | '.join(shares)} | {silent} |")
    return "\n".join(lines) + "\n"


def _points(value: float | None) -> str:
    """Return an accuracy in per cent, or a dash where there is none."""
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.1f}"


def _share(records: list[dict[str, Any]], without: Collection[str] = ()) -> str:
    """Return how many of these are flagged, with the exact binomial interval."""
    if not records:
        return "none of these yet"
    hits = sum(any(one["probe"] not in without for one in fired(record)) for record in records)
    low, high = binomtest(hits, len(records)).proportion_ci(0.95, "exact")
    return f"{hits} of {len(records)} flagged (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"


def main() -> None:
    """Train, probe and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("studies/trust-on-phantoms"))
    parser.add_argument("--no-train", action="store_true", help="skip what is not trained yet")
    options = parser.parse_args()
    records = []
    for setting in settings():
        place = options.folder / "studies" / setting.name
        if not options.no_train:
            place = trained(setting, options.folder)
        runs = StudyFolder(place).runs
        if not runs:
            console.print(f"{setting.name}: not trained yet, skipped")
            continue
        records.append(examined(setting, options.folder, RunFolder.open(runs[0])))
        alarms = ", ".join(one["probe"] for one in fired(records[-1]))
        console.print(f"{setting.name}: {alarms or 'nothing fires'}")
    rows = [{k: v for k, v in r.items() if k not in ("key", "findings")} for r in records]
    for row, record in zip(rows, records, strict=True):
        row.update(moved=moved_by(record), flagged=bool(fired(record)))
    found = [
        {"study": r["study"], **{k: v for k, v in one.items() if k != "details"}}
        for r in records
        for one in r["findings"]
    ]
    pd.DataFrame(rows).to_csv(options.folder / "probes.csv", index=False)
    pd.DataFrame(found).to_csv(options.folder / "findings.csv", index=False)
    table = table_of(records)
    write_text(options.folder / "table.md", table)
    print(table)


if __name__ == "__main__":
    main()
