"""Which probe fires on models that are known to take a shortcut, and on models that cannot.

    python benchmarks/trust_on_phantoms.py [--folder studies/trust-on-phantoms]

Trains small networks on clean phantoms and on phantoms with one planted shortcut, each kind at
several strengths. How much a model hangs on its shortcut is measured with what only phantoms
have: the very same validation scans rendered anew with the artefact taken away, and with it given
to the other classes instead. The probes see neither. Interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from octoscope.scans.framing import Framing
from octoscope.scans.phantom import write_study
from octoscope.scans.phantom.shortcut import Kind, Shortcut
from octoscope.study.config import StudyConfig
from octoscope.study.study import run_study
from octoscope.training.recipe import Recipe

LABEL = "DME"
KINDS: tuple[Kind, ...] = ("marker", "border", "size", "device")
STRENGTHS = (0.6, 0.8, 1.0)
SEEDS = (0, 1)
CLEAN = 20

FRAMING = Framing(height=96, width=144, mode="pad", wedges="keep")
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
    """

    name: str
    seed: int
    shortcut: Shortcut | None = None


def settings() -> list[Setting]:
    """Return all studies, clean and planted in turn."""
    planted = [
        Setting(f"{kind}-{strength:g}-{seed}", 200 + seed, Shortcut(kind, LABEL, strength))
        for strength in sorted(STRENGTHS, reverse=True)
        for seed in SEEDS
        for kind in KINDS
    ]
    clean = [Setting(f"clean-{number}", 100 + number) for number in range(CLEAN)]
    turns = [pair for pair in zip(planted, clean, strict=False)]
    return [one for pair in turns for one in pair] + planted[len(turns) :] + clean[len(turns) :]


def write_phantoms(out: Path, seed: int, shortcut: Shortcut | None) -> None:
    """Write the phantoms of a study, or find them written."""
    write_study(
        out,
        patients=160,
        scans_per_patient=4,
        height=192,
        width=288,
        seed=seed,
        severity=(0.6, 1.0),
        fractions=(0.6, 0.3, 0.1),
        shortcut=shortcut,
        workers=1,
    )


def trained(setting: Setting, folder: Path) -> Path:
    """Train the network of a study, or find it trained; return the study's folder."""
    scans = folder / "scans" / setting.name
    write_phantoms(scans, setting.seed, setting.shortcut)
    config = StudyConfig(
        name=setting.name,
        out=folder / "studies" / setting.name,
        data=scans,
        framing=FRAMING,
        models=(RECIPE,),
        seeds=(setting.seed,),
    )
    return run_study(config, until="train")


def main() -> None:
    """Train, probe and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("studies/trust-on-phantoms"))
    options = parser.parse_args()
    for setting in settings():
        trained(setting, options.folder)


if __name__ == "__main__":
    main()
