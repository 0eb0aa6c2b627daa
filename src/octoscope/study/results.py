"""What a study makes of its trained models: numbers, maps, trust cards, panels and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from octoscope.attribution.registry import METHODS, methods_named
from octoscope.data.cache import ScanCache
from octoscope.evaluation.terminal import said
from octoscope.files import explained_disk_errors
from octoscope.progress import console
from octoscope.study.config import StudyConfig
from octoscope.study.evaluate import evaluate_run
from octoscope.study.explain import explain_run
from octoscope.study.folder import RunFolder, StudyFolder
from octoscope.study.made_by import code_of, maps_about
from octoscope.study.maps import clear_changed
from octoscope.study.panels import write_panels
from octoscope.study.reporting import report_of
from octoscope.study.stage import Stage, write_if_new
from octoscope.study.trust import NULLS, trust_runs


def finish(
    folder: StudyFolder, runs: Sequence[RunFolder], cache: ScanCache, config: StudyConfig
) -> Path:
    """Evaluate, explain and examine trained models, and write the report; return its path.

    Args:
        folder: Of the study.
        runs: Its finished runs.
        cache: Its scans.
        config: Its settings.
    """
    for run in runs:
        _evaluate(run, cache, config)
    write_if_new(folder.methods, {name: METHODS[name].about() for name in METHODS})
    for run in runs:
        _explain(run, cache, config)
    if config.trust.run:
        trust_runs(
            runs,
            cache,
            config.explain.methods,
            config.trust,
            resamples=config.resamples,
            strict=False,
        )
    else:
        _without_cards(folder, runs)
    write_panels(runs, cache, config.explain.panels)
    return report_of(folder)


def _evaluate(run: RunFolder, cache: ScanCache, config: StudyConfig) -> None:
    """Evaluate a run on validation."""

    def work() -> str:
        metrics = evaluate_run(run, cache, resamples=config.resamples)
        value = said(metrics["overall"]["balanced_accuracy"])
        return f"balanced accuracy {value} on {metrics['n_patients']} validation patients"

    Stage(run.study.path, f"evaluate {run.name}").run(
        {
            "model": run.digest,
            "cache": cache.digest,
            "resamples": config.resamples,
            "code": code_of("evaluate"),
        },
        [run.metrics("val"), run.predictions("val")],
        work,
    )


def _explain(run: RunFolder, cache: ScanCache, config: StudyConfig) -> None:
    """Explain a run on validation."""
    methods = [method.name for method in methods_named(config.explain.methods)]
    if config.trust.run:
        methods += [name for name in NULLS if name not in methods]
    stage = Stage(run.study.path, f"explain {run.name}")
    changed = stage.changed(run.maps)

    def work() -> str:
        clear_changed(run.maps, changed)
        return explain_run(run, cache, methods, resamples=config.resamples, strict=False)

    stage.run(
        {
            "maps": maps_about(run, cache),
            "methods": methods,
            "resamples": config.resamples,
            "code": code_of("localise"),
        },
        [
            *(run.maps / name for name in ("zarr.json", "logits", *methods)),
            run.localisation,
            run.scores,
        ],
        work,
    )


def _without_cards(folder: StudyFolder, runs: Sequence[RunFolder]) -> None:
    """Take the trust cards out of a study that asks for none; what was measured stays."""
    cards = [folder.trust, *(path for run in runs for path in (run.trust, run.trust_scores))]
    there = [path for path in cards if path.is_file()]
    with explained_disk_errors(folder.path):
        for path in there:
            path.unlink()
    if there:
        console.print(
            "· trust is switched off: its cards are taken out; what was measured stays",
            style="dim", highlight=False, markup=False,
        )  # fmt: skip
