"""The verbs of attribution maps: explain, trust."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from octoscope.errors import OctoscopeError
from octoscope.options.limits import BatchSize, OutFolder, Resamples, Within
from octoscope.progress import console, print_path
from octoscope.study.config import TrustSettings


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
            print_path(path)
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
            print_path(folder.maps)


def trust(
    runs: list[Path],
    settings: TrustSettings,
    methods: str | None = None,
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
        settings: What is measured.
        methods: Names of attribution methods or families, with commas between, or `all`; with `-`
            before a name, what is left out. By default seven quick CAM methods. The null maps are
            always among them.
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
    from octoscope.study.config import CAM_METHODS
    from octoscope.study.folder import RunFolder
    from octoscope.study.opening import open_scans
    from octoscope.study.reporting import report_of
    from octoscope.study.trust import trust_runs
    from octoscope.trust.terminal import print_card

    folders = [RunFolder.open(run) for run in runs]
    wanted = CAM_METHODS if methods is None else _words(methods)
    methods_named(wanted)
    folders, cache = open_scans(folders, split=split, data=data, name=name, why=why)
    trust_runs(folders, cache, wanted, settings, resamples=resamples)
    for folder in folders:
        print_card(read_json(folder.trust), console)
        print_path(folder.trust)
    if folders[0].split == "val":
        print_path(report_of(folders[0].study, again=True))


def _refuse(options: dict[str, Any], sentence: str) -> None:
    """Refuse options that were given and would do nothing."""
    named = ", ".join(f"--{name}" for name, value in options.items() if value is not None)
    if named:
        raise OctoscopeError(f"{named}: {sentence}")


def _words(text: str) -> str | list[str]:
    """Split ``a, b`` at its commas; ``all`` is one word."""
    return text if text == "all" else [word.strip() for word in text.split(",")]
