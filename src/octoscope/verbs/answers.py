"""The verbs of what a trained model says: evaluate, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from octoscope.errors import OctoscopeError
from octoscope.options.limits import BatchSize, Resamples
from octoscope.progress import console, print_path, tell
from octoscope.verbs.data import TableFile


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
    print_path(judged.metrics(part))


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
        print_path(out)


def _pairs(option: str, text: str | None) -> dict[str, str]:
    """Split ``a=A,b=B`` into its pairs."""
    pairs = [word.partition("=") for word in (text or "").split(",") if word.strip()]
    for left, sign, right in pairs:
        if not (left.strip() and sign and right.strip()):
            raise OctoscopeError(
                f'--{option} "{text}": is not LABEL=CLASS, with commas between several'
            )
    return {left.strip(): right.strip() for left, _, right in pairs}
