"""The verbs of the command line, as functions: their parameters are the options.

`octoscope.options.verb` says how: a parameter without default is a place, a list takes several, a
dataclass brings its fields. Limits stand in the types, the help is the docstring. A verb imports
what it needs when it runs, so that the help of another never waits for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from octoscope.errors import OctoscopeError
from octoscope.options.limits import (
    BatchSize,
    FileToWrite,
    OutFolder,
    Resamples,
    Seed,
    Within,
    Workers,
)
from octoscope.progress import console, tell
from octoscope.scans.framing import Framing
from octoscope.study.config import PhantomSettings, StudyConfig
from octoscope.training.recipe import Recipe

TableFile = Annotated[Path, FileToWrite((".csv", ".parquet"))]
JsonFile = Annotated[Path, FileToWrite((".json",))]

HIDDEN = {"train": ("seed",)}
"""Verb → fields of its dataclasses that are no options: `seeds` says them."""


def function_of(verb: str) -> Callable[..., None]:
    """Return the function of a verb."""
    return globals()[verb]


def phantom(out: OutFolder, settings: PhantomSettings, workers: Workers | None = None) -> None:
    """Write a synthetic study with lesion masks, in Kermany layout.

    Args:
        out: Folder to make.
        settings: What to draw.
        workers: Processes; by default one per core.
    """
    table = settings.write(out, workers=workers)
    console.print(f"{len(table)} phantom B-scans of {settings.patients} patients with lesion masks")
    print(out)


def check(
    data: Path,
    layout: str = "auto",
    columns: str | None = None,
    write: TableFile | None = None,
    json: JsonFile | None = None,
    unknown_patients: Literal["grouped", "distinct"] = "grouped",
    on_overlap: Literal["error", "move", "allow"] = "error",
    drop_copies: bool = False,
    seed: Seed = 0,
) -> None:
    """Audit a folder or table of scans; errors and unreadable files end in exit code 2.

    Args:
        data: Folder or table of scans.
        layout: Layout of `data`: auto, kermany, folders, table, or a template such as
            '{patient}/{class}/*'.
        columns: Which column of a table is which, as in path=file_name,label=Disease.
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
    table = load_table(data, layout, columns)
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
    out: OutFolder,
    recipe: Recipe,
    layout: str = "auto",
    columns: str | None = None,
    seeds: Annotated[int, Within(1, 1000)] = 1,
    framing: Framing = Framing(),  # noqa: B008 - frozen
    on_overlap: Literal["error", "move", "allow"] = "error",
    unknown_patients: Literal["grouped", "distinct"] = "grouped",
) -> None:
    """Train one model, once per seed; the runs lie in OUT/runs.

    Args:
        data: Folder or table of scans.
        out: Study folder; several models may share it.
        recipe: The training recipe.
        layout: Layout of `data`: auto, kermany, folders, table, or a template such as
            '{patient}/{class}/*'.
        columns: Which column of a table is which, as in path=file_name,label=Disease.
        seeds: Number of repetitions, with seeds 0, 1, …
        framing: How a scan becomes the image that the network sees.
        on_overlap: What to do with patients in several splits: stop, move them out of training,
            or allow them (in red in the report).
        unknown_patients: Scans without a patient id are grouped as one patient per class,
            or taken as distinct patients, on your word.
    """
    from octoscope.study.study import run_study

    config = StudyConfig(
        out=out,
        data=data,
        layout=layout,
        columns=columns,
        on_overlap=on_overlap,
        unknown_patients=unknown_patients,
        framing=framing,
        models=(recipe,),
        seeds=tuple(range(seeds)),
    )
    run_study(config, until="train")
    print(out)


def evaluate(
    run: Path,
    split: Literal["train", "val", "test"] | None = None,
    why: str = "",
    resamples: Resamples = 2000,
    data: Path | None = None,
    layout: str = "auto",
    columns: str | None = None,
    name: str | None = None,
    classes: str | None = None,
    unknown_classes: Literal["error", "drop"] = "error",
    unknown_patients: Literal["grouped", "distinct"] = "grouped",
    on_overlap: Literal["error", "move", "allow"] = "error",
    own_ids: bool = False,
) -> None:
    """Print the metrics of a run with intervals, on its own scans or on others.

    Opening test scans, of the study or of elsewhere, is recorded in the ledger.

    Args:
        run: Folder of a trained model, STUDY/runs/MODEL-seedN.
        split: The split, by default `val`; `test` is opened on purpose and once. With `data`, the
            split of that data, by default all of it.
        why: What test scans are opened for, kept in the ledger.
        resamples: Bootstrap resamples of the patients.
        data: Folder or table of labelled scans from elsewhere, an external test set; results go to
            RUN/external/NAME.
        layout: Layout of `data`: auto, kermany, folders, table, or a template such as
            '{patient}/{class}/*'.
        columns: Which column of a table is which, as in path=file_name,label=Disease.
        name: What to call the external set; by default as its folder.
        classes: Labels of `data` that the model calls otherwise, as `Normal=NORMAL,amd=DRUSEN`;
            labels that differ in case, spaces, hyphens and underscores only need no word.
        unknown_classes: Scans of `data` of a class that the model does not know: stop (`error`),
            or leave them out (`drop`).
        unknown_patients: Scans of `data` without a patient id are grouped as one patient per class,
            or taken as distinct patients, on your word.
        on_overlap: Scans and patients of `data` that the model was trained or validated on: stop
            (`error`), leave them out (`move`), or keep them (`allow`, in red).
        own_ids: The patient ids of `data` are its own: one that also stands in the study is of
            another person.
    """
    from octoscope.evaluation.ledger import ledger_sentence
    from octoscope.evaluation.terminal import print_metrics
    from octoscope.study.external import Reading
    from octoscope.study.folder import RunFolder
    from octoscope.study.opening import evaluate_on, opening_sentence

    reading = Reading(
        layout=layout,
        columns=columns,
        split=split,
        classes=_pairs("classes", classes),
        unknown_classes=unknown_classes,
        unknown_patients=unknown_patients,
        on_overlap=on_overlap,
        own_ids=own_ids,
    )
    judged, part, metrics = evaluate_on(
        RunFolder.open(run), data, reading, name=name, resamples=resamples, why=why
    )
    print_metrics(metrics, console)
    if judged.external:
        tell(opening_sentence(judged))
    elif part == "test":
        console.print(ledger_sentence(run))
    print(judged.metrics(part))


def predict(
    run: Path,
    files: list[Path],
    out: TableFile | None = None,
    columns: str | None = None,
    calibrated: bool = False,
    batch_size: BatchSize = 64,
) -> None:
    """Write what a model says of unlabelled scans: classes and their probabilities.

    One row per scan, in the order given. A scan that cannot be read has a row that says why, and is
    named; only if none can be read is that an error.

    Args:
        run: Folder of a trained model, STUDY/runs/MODEL-seedN, or of the saved model alone.
        files: Scans, folders with all scans below them, or tables with a column `path`.
        out: CSV or Parquet file to write, by its ending; by default CSV goes to standard output.
        columns: Which column of a table is the path, as in path=file_name.
        calibrated: Divide the logits by the temperature that was fitted on the validation scans.
        batch_size: Scans per pass.
    """
    from octoscope.study.predict_run import predict_run

    tally = predict_run(
        run, files, out, columns=columns, calibrated=calibrated, batch_size=batch_size
    )
    tell(tally.sentence)
    if out is not None:
        print(out)


def explain(
    run: Path,
    images: list[Path] | None = None,
    methods: str | None = None,
    target: str | None = None,
    figure: str | None = None,
    against: str | None = None,
    masks: Path | None = None,
    out: OutFolder | None = None,
    precision: Literal["float32", "float16", "uint8"] | None = None,
    batch_size: BatchSize | None = None,
    most: Annotated[int, Within(1)] | None = None,
    split: Literal["val", "test"] | None = None,
    data: Path | None = None,
    name: str | None = None,
    why: str = "",
) -> None:
    """Explain images, or the validation scans of the run's study, or other labelled scans.

    Under torchrun, `fabric run` or srun, the processes share the scans of the map store.

    Args:
        run: Folder of a trained model, STUDY/runs/MODEL-seedN.
        images: Scans to draw, or folders of scans; without them, the validation scans (or those of
            `split` or `data`) go to a map store, with scores where there are lesion masks.
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
        batch_size: Scans of the map store per pass; by default 16.
        most: Scans drawn of a folder, evenly taken; by default 40.
        split: Without images: the split to explain, by default `val`; `test` is opened on purpose,
            and its maps go to RUN/test.
        data: Without images: folder or table of an external test set, which is read as it was
            evaluated; its maps go to RUN/external/NAME.
        name: What the external set is called; by default as its folder.
        why: What test scans are opened for, kept in the ledger.
    """
    from octoscope.attribution.registry import methods_named
    from octoscope.study.config import CAM_METHODS
    from octoscope.study.drawing import Wish
    from octoscope.study.explain import BATCH, explain_run
    from octoscope.study.explain_files import MOST, explain_files, scans_to_draw
    from octoscope.study.folder import RunFolder
    from octoscope.study.opening import open_scans
    from octoscope.study.ranks import Ranks

    folder = RunFolder.open(run)
    wanted = CAM_METHODS if methods is None else _words(methods)
    methods_named(wanted)
    if images:
        given: dict[str, Any] = {"precision": precision, "batch-size": batch_size}
        given |= {"split": split, "data": data, "name": name, "why": why or None}
        _refuse(given, "used for whole splits only; leave it out, or name no scans")
        others = [RunFolder.open(Path(word)) for word in _words(against or "") if word]
        wish = Wish(
            methods=wanted,
            figures=_words(figure or ("models" if others else "panel")),
            target=target,
            out=out or run / "panels",
            masks=masks,
            across=("gradcam",) if methods is None else None,
        )
        scans = scans_to_draw(images, MOST if most is None else most)
        for path in explain_files([folder, *others], scans, wish):
            print(path)
    else:
        given = {"figure": figure, "against": against, "masks": masks, "target": target, "out": out}
        given["most"] = most
        _refuse(given, "figures are drawn of images; name the scans after RUN")
        ranks = Ranks.of(os.environ)
        (folder,), cache = open_scans(
            [folder], split=split, data=data, name=name, why=why, record=ranks.first
        )
        said = explain_run(
            folder,
            cache,
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


def _pairs(option: str, text: str | None) -> dict[str, str]:
    """Split ``a=A,b=B`` into its pairs."""
    pairs = [word.partition("=") for word in (text or "").split(",") if word.strip()]
    for left, sign, right in pairs:
        if not (left.strip() and sign and right.strip()):
            raise OctoscopeError(
                f'--{option} "{text}": is not LABEL=CLASS, with commas between several'
            )
    return {left.strip(): right.strip() for left, _, right in pairs}


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
    resamples: Resamples = 2000,
    split: Literal["val", "test"] | None = None,
    data: Path | None = None,
    name: str | None = None,
    why: str = "",
) -> None:
    """Measure whether maps and models can be believed: on validation scans, or on others.

    On validation scans the report is rebuilt. On others (`split`, `data`) the cards lie beside
    those of the study, which stay as they are, and so does the report.

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
        split: The split to examine on, by default `val`; `test` is opened on purpose, and its cards
            go to RUN/test.
        data: Folder or table of an external test set, which is read as it was evaluated; its cards
            go to RUN/external/NAME.
        name: What the external set is called; by default as its folder.
        why: What test scans are opened for, kept in the ledger.
    """
    from octoscope.attribution.registry import methods_named
    from octoscope.files import read_json
    from octoscope.study.config import CAM_METHODS, TrustSettings
    from octoscope.study.folder import RunFolder
    from octoscope.study.opening import open_scans
    from octoscope.study.reporting import report_of
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
    folders, cache = open_scans(folders, split=split, data=data, name=name, why=why)
    trust_runs(folders, cache, wanted, settings, resamples=resamples)
    for folder in folders:
        print_card(read_json(folder.trust), console)
        print(folder.trust)
    if folders[0].split == "val":
        print(report_of(folders[0].study, again=True))


def study(config: StudyConfig) -> None:
    """Run a study and print where its report lies.

    Args:
        config: The study.
    """
    from octoscope.study.study import run_study

    print(run_study(config))


def report(folder: Path) -> None:
    """Rebuild the report of a study.

    Args:
        folder: The study folder.
    """
    from octoscope.study.folder import StudyFolder
    from octoscope.study.reporting import report_of

    print(report_of(StudyFolder(folder), again=True))
