"""The verbs of the command line, as functions: their parameters are the options.

A verb imports what it needs when it runs, so that the help of another never waits for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from octoscope.errors import OctoscopeError
from octoscope.progress import console

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from octoscope.scans.framing import Framing
    from octoscope.training.recipe import Recipe

Work = Callable[[dict[str, Any]], None]


class Listed(NamedTuple):
    """A positional argument that takes several files or folders."""

    name: str
    nargs: Literal["*", "+"]
    help: str


LISTED = {
    "explain": Listed(
        "images", "*", "Scans to explain; without them, the validation scans of the study."
    ),
    "trust": Listed("runs", "+", "Folders of trained models of one study, STUDY/runs/MODEL-seedN."),
}
"""Verb → its list of places; jsonargparse would take one as a string in brackets."""


def add_options(verb: str, parser: ArgumentParser) -> Work:
    """Add a verb's options to its parser and return what does its work with the parsed values."""
    if verb == "study":
        from octoscope.study.config import StudyConfig

        parser.add_class_arguments(StudyConfig, as_group=False)
        return lambda values: study(StudyConfig(**values))
    if verb == "train":
        from octoscope.training.recipe import Recipe

        parser.add_function_arguments(train, as_group=False, as_positional=True, skip={"recipe"})
        parser.add_class_arguments(Recipe, as_group=False, skip={"seed"})
        names = {field.name for field in fields(Recipe)} - {"seed"}
        return lambda values: train(
            **{name: value for name, value in values.items() if name not in names},
            recipe=Recipe(**{name: values[name] for name in names}),
        )
    function: Callable[..., None] = globals()[verb]
    listed = LISTED.get(verb)
    parser.add_function_arguments(
        function, as_group=False, as_positional=True, skip={listed.name} if listed else None
    )
    if listed:
        parser.add_argument(listed.name, nargs=listed.nargs, type=Path, help=listed.help)
    return lambda values: function(**values)


def phantom(
    out: Path,
    patients: int = 60,
    scans_per_patient: int = 8,
    height: int = 256,
    width: int = 384,
    seed: int = 0,
    shortcut: Literal["marker", "border", "size", "device"] | None = None,
    shortcut_label: str = "DME",
    shortcut_strength: float = 1.0,
    workers: int | None = None,
) -> None:
    """Write a synthetic study with lesion masks, in Kermany layout.

    Args:
        out: Folder to make.
        patients: Patients, shared evenly by CNV, DME, DRUSEN and NORMAL.
        scans_per_patient: B-scans of each.
        height: Rows.
        width: A-scans.
        seed: Seed of everything.
        shortcut: An artefact to plant, recorded in the manifest.
        shortcut_label: The class it is tied to.
        shortcut_strength: Share of that class's scans that carry it, 0 to 1.
        workers: Processes; by default one per core.
    """
    from octoscope.scans.phantom import Shortcut, write_study

    planted = Shortcut(shortcut, shortcut_label, shortcut_strength) if shortcut else None
    table = write_study(
        out,
        patients=patients,
        scans_per_patient=scans_per_patient,
        height=height,
        width=width,
        seed=seed,
        shortcut=planted,
        workers=workers,
    )
    console.print(f"{len(table)} phantom B-scans of {patients} patients with lesion masks")
    print(out)


def check(
    data: Path,
    layout: str = "auto",
    write: Path | None = None,
    json: Path | None = None,
    unknown_patients: Literal["grouped", "distinct"] = "grouped",
    on_overlap: Literal["error", "move", "allow"] = "error",
    drop_copies: bool = False,
    seed: int = 0,
) -> None:
    """Audit a folder or table of scans; errors and unreadable files end in exit code 2.

    Args:
        data: Folder or table of scans.
        layout: Layout of `data`: auto, kermany, folders or table.
        write: Write the table with a patient-safe split to this CSV or Parquet file.
        json: Write the audit to this file as JSON.
        unknown_patients: With `write`: scans without a patient id are grouped as one
            patient per class, or taken as distinct patients, on your word.
        on_overlap: With `write`: what to do with patients in several splits: stop, move them out
            of training, or allow them (said in the table's notes).
        drop_copies: With `write`: leave out all but one of each group of copies, and all of those
            whose labels contradict each other.
        seed: Seed of permutations, resampling and splits.
    """
    from octoscope.files import write_json
    from octoscope.scans.audit import audit, copy_findings, print_audit, without_copies
    from octoscope.scans.layouts import load_table
    from octoscope.scans.splits import ready_splits

    if drop_copies and write is None:
        raise OctoscopeError("--drop-copies: say where to write the table too: --write table.csv")
    table = load_table(data, layout)
    found = audit(table, seed=seed)
    print_audit(found, console)
    if json is not None:
        write_json(json, found.to_dict())
        print(json)
    if write is not None:
        kept = without_copies(table, found.duplicates) if drop_copies else table
        ready = ready_splits(
            kept, seed=seed, on_overlap=on_overlap, unknown_patients=unknown_patients
        )
        for note in ready.notes[len(table.notes) :]:
            console.print(note, highlight=False, markup=False)
        ready.save(write, findable=True)
        print(write)
    cured = copy_findings(table, found.duplicates) if drop_copies else []
    errors = [f.sentence for f in found.findings if f.level == "error" and f not in cured]
    errors += [f"{bad['path']}: {bad['reason']}" for bad in found.unreadable[:1]]
    if errors:
        raise OctoscopeError(f"{data}: {errors[0]}")


def train(
    data: Path,
    out: Path,
    recipe: Recipe,
    layout: str = "auto",
    seeds: int = 1,
    framing: Framing | None = None,
    on_overlap: Literal["error", "move", "allow"] = "error",
    unknown_patients: Literal["grouped", "distinct"] = "grouped",
) -> None:
    """Train one model, once per seed; the runs lie in OUT/runs.

    Args:
        data: Folder or table of scans.
        out: Study folder; several models may share it.
        recipe: The training recipe.
        layout: Layout of `data`: auto, kermany, folders or table.
        seeds: Number of repetitions, with seeds 0, 1, …
        framing: How a scan becomes the image that the network sees.
        on_overlap: What to do with patients in several splits: stop, move them out of training,
            or allow them (in red in the report).
        unknown_patients: Scans without a patient id are grouped as one patient per class,
            or taken as distinct patients, on your word.
    """
    from octoscope.scans.framing import Framing
    from octoscope.study.config import StudyConfig
    from octoscope.study.study import run_study

    if seeds < 1:
        raise OctoscopeError(f"seeds: {seeds} is too few; train at least once")
    config = StudyConfig(
        out=out,
        data=data,
        layout=layout,
        on_overlap=on_overlap,
        unknown_patients=unknown_patients,
        framing=framing or Framing(),
        models=(recipe,),
        seeds=tuple(range(seeds)),
    )
    run_study(config, until="train")
    print(out)


def evaluate(
    run: Path, split: Literal["train", "val", "test"] = "val", why: str = "", resamples: int = 2000
) -> None:
    """Print the metrics of a run with intervals; opening the test split is recorded.

    Args:
        run: Folder of a trained model, STUDY/runs/MODEL-seedN.
        split: The split; `test` is opened on purpose and once.
        why: What the test split is opened for, kept in the run's ledger.
        resamples: Bootstrap resamples of the patients.
    """
    from octoscope.evaluation.ledger import ledger_sentence
    from octoscope.evaluation.terminal import print_metrics
    from octoscope.study.evaluate import evaluate_run
    from octoscope.study.folder import RunFolder

    folder = RunFolder.open(run)
    metrics = evaluate_run(
        folder, folder.open_cache(), split=split, resamples=resamples, why=why or "by command"
    )
    print_metrics(metrics, console)
    if split == "test":
        console.print(ledger_sentence(run))
    print(folder.metrics(split))


def explain(
    run: Path,
    images: list[Path] | None = None,
    methods: str | None = None,
    target: str | None = None,
    figure: str | None = None,
    against: str | None = None,
    masks: Path | None = None,
    out: Path | None = None,
    precision: Literal["float32", "float16", "uint8"] | None = None,
    batch_size: int | None = None,
) -> None:
    """Explain images, or the validation scans of the run's study.

    Under torchrun, `fabric run` or srun, the processes share the validation scans.

    Args:
        run: Folder of a trained model, STUDY/runs/MODEL-seedN.
        images: Scans to explain; without them, the validation scans go to the run's map store.
        methods: Names of attribution methods or families, with commas between, or `all`; with `-`
            before a name, what is left out (`all,-scorecam`). By default seven quick CAM methods.
        target: Class to explain; by default the one that each model predicts.
        figure: What to draw of the images, with commas between, or `all`. `panel`: a scan, its
            class probabilities and the map of every method. `methods`: methods side by side, a row
            per model. `models`: scans in rows, models in columns, a figure per method (Grad-CAM
            unless methods are named). `occlusion`: the logits before and after the window that
            speaks most against the class is covered. `heads`: every attention head of a
            transformer. `patches`: the patches that a transformer reads. By default `panel`, and
            `models` where there is something to compare.
        against: Folders of further trained models to compare, with commas between.
        masks: Folder of lesion masks called as the scans; by default they are looked for in the
            study and in `masks` folders beside the scans.
        out: Folder of the figures; by default RUN/panels.
        precision: Of the map store; by default that of the store that is there, or float16.
        batch_size: Validation scans per pass; by default 16.
    """
    from octoscope.attribution.registry import methods_named
    from octoscope.study.config import CAM_METHODS
    from octoscope.study.drawing import Wish
    from octoscope.study.explain import BATCH, explain_run
    from octoscope.study.explain_files import explain_files
    from octoscope.study.folder import RunFolder
    from octoscope.study.ranks import Ranks

    folder = RunFolder.open(run)
    wanted = CAM_METHODS if methods is None else _words(methods)
    methods_named(wanted)
    if images:
        given: dict[str, Any] = {"precision": precision, "batch-size": batch_size}
        _refuse(given, "used for the validation scans only; leave it out, or name no scans")
        others = [RunFolder.open(Path(word)) for word in _words(against or "") if word]
        wish = Wish(
            methods=wanted,
            figures=_words(figure or ("models" if others else "panel")),
            target=target,
            out=out or run / "panels",
            masks=masks,
            across=("gradcam",) if methods is None else None,
        )
        for path in explain_files([folder, *others], images, wish):
            print(path)
    else:
        given = {"figure": figure, "against": against, "masks": masks, "target": target, "out": out}
        _refuse(given, "figures are drawn of images; name the scans after RUN")
        ranks = Ranks.of(os.environ)
        said = explain_run(
            folder,
            folder.open_cache(),
            wanted,
            precision=precision,
            batch_size=BATCH if batch_size is None else batch_size,
            ranks=ranks,
        )
        console.print(said)
        if ranks.first:
            print(folder.maps)


def _refuse(options: dict[str, Any], sentence: str) -> None:
    """Refuse options that were given and would do nothing."""
    named = ", ".join(f"--{name}" for name, value in options.items() if value is not None)
    if named:
        raise OctoscopeError(f"{named}: {sentence}")


def _words(text: str) -> str | list[str]:
    """Split ``a, b`` at its commas; ``all`` is one word."""
    return text if text == "all" else [word.strip() for word in text.split(",")]


def trust(
    runs: list[Path],
    methods: str | None = None,
    scans: int = 64,
    steps: int = 10,
    baseline: Literal["blur", "mean", "retina"] = "blur",
    sanity_scans: int = 16,
    stages: int = 4,
    stability_scans: int = 16,
    draws: int = 4,
    most_passes: int = 64,
    probes: bool = True,
    twin: bool = False,
    resamples: int = 2000,
) -> None:
    """Measure on the validation scans whether maps and models can be believed; rebuild the report.

    Args:
        runs: Folders of trained models of one study, STUDY/runs/MODEL-seedN.
        methods: Names of attribution methods or families, with commas between, or `all`; with `-`
            before a name, what is left out. By default seven quick CAM methods. The null maps are
            always among them.
        scans: Scans whose maps are scored by changing their pixels.
        steps: Steps of a perturbation curve.
        baseline: What pixels are replaced with: blur, mean, or retina (tissue of the same depth).
        sanity_scans: Scans on which the weights are randomised.
        stages: Steps in which they are, from the output down.
        stability_scans: Scans that are explained again under noise, shifted and flipped.
        draws: Draws of the noise.
        most_passes: Methods whose map takes more forward passes, such as occlusion (170), are left
            out of the sanity checks and of the stability.
        probes: Whether the shortcut probes are run.
        twin: Train each model again on shuffled labels and compare the maps.
        resamples: Bootstrap resamples of the patients.
    """
    from octoscope.attribution.registry import methods_named
    from octoscope.files import read_json
    from octoscope.report import build_report
    from octoscope.study.config import CAM_METHODS, TrustSettings
    from octoscope.study.folder import RunFolder
    from octoscope.study.trust import trust_runs
    from octoscope.trust.terminal import print_card

    folders = [RunFolder.open(run) for run in runs]
    wanted = CAM_METHODS if methods is None else _words(methods)
    methods_named(wanted)
    settings = TrustSettings(
        scans=scans,
        steps=steps,
        baseline=baseline,
        sanity_scans=sanity_scans,
        stages=stages,
        stability_scans=stability_scans,
        draws=draws,
        most_passes=most_passes,
        probes=probes,
        twin=twin,
    )
    trust_runs(folders, folders[0].open_cache(), wanted, settings, resamples=resamples)
    for folder in folders:
        print_card(read_json(folder.trust), console)
        print(folder.trust)
    print(build_report(folders[0].study.path))


def study(config: Any) -> None:
    """Run a study and print where its report lies."""
    from octoscope.study.study import run_study

    print(run_study(config))


def report(folder: Path) -> None:
    """Rebuild the report of a study.

    Args:
        folder: The study folder.
    """
    from octoscope.report import build_report

    print(build_report(folder))
