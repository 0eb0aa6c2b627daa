"""The verbs of a study: train, study, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from octoscope.options.limits import OutFolder, Within
from octoscope.progress import print_path
from octoscope.scans.framing import Framing
from octoscope.study.config import StudyConfig
from octoscope.training.recipe import Recipe


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
    print_path(out)


def study(config: StudyConfig) -> None:
    """Run a study and print where its report lies.

    Args:
        config: The study.
    """
    from octoscope.study.study import run_study

    print_path(run_study(config))


def report(folder: Path) -> None:
    """Rebuild the report of a study.

    Args:
        folder: The study folder.
    """
    from octoscope.study.folder import StudyFolder
    from octoscope.study.reporting import report_of

    print_path(report_of(StudyFolder(folder), again=True))
