"""A study: from scans to a report, in stages that are done once.

``table → audit → cache → train → evaluate → explain → trust → report``. Every stage depends on the
ones before it through digests, so that a changed option redoes what hangs on it and nothing else,
and an interrupted study goes on where it stopped.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

from octoscope.attribution.registry import METHODS, methods_named
from octoscope.data.cache import ScanCache
from octoscope.errors import OctoscopeError, PatientOverlapError
from octoscope.evaluation.terminal import said
from octoscope.files import digest_of, read_json, write_json
from octoscope.progress import console
from octoscope.report import build_report
from octoscope.scans.audit import audit
from octoscope.scans.layouts import load_table
from octoscope.scans.splits import ready_splits
from octoscope.scans.table import ScanTable
from octoscope.study.config import StudyConfig
from octoscope.study.evaluate import evaluate_run
from octoscope.study.explain import explain_run
from octoscope.study.explainable import require_defined
from octoscope.study.folder import RunFolder, StudyFolder
from octoscope.study.panels import write_panels
from octoscope.study.provenance import provenance
from octoscope.study.stage import Stage
from octoscope.study.trust import NULLS, trust_runs
from octoscope.training.recipe import Recipe
from octoscope.training.supervised import train


def run_study(config: StudyConfig, *, until: str = "report") -> Path:
    """Run the stages of a study and return what it ends in: the report, or the study folder.

    Args:
        config: The study.
        until: The last stage: ``train`` or ``report``.

    Raises:
        OctoscopeError: For every fault in data or options, naming it.
    """
    methods_named(config.explain.methods)  # a mistyped name is said now, not after the training
    for recipe in config.models:
        recipe.require_known()
    folder = StudyFolder(config.folder)
    table = prepare_table(config)
    _require_own(folder, table)
    table = _audit(folder, table, config)
    _describe(folder, config, table)
    if until != "train":
        require_defined(config, len(table.classes))
    cache = ScanCache.build(table, config.framing, folder.cache)
    runs = [
        _train(folder, cache, replace(recipe, seed=seed))
        for recipe in config.models
        for seed in config.seeds
    ]
    if until == "train":
        return folder.path
    for run in runs:
        _evaluate(run, cache, config)
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
    write_panels(runs, cache, config.explain.panels)
    return _report(folder)


def prepare_table(config: StudyConfig) -> ScanTable:
    """Return the scans of a study with patient-safe splits; phantoms where it has no data.

    Raises:
        OctoscopeError: If there are no scans, or patients stand in several splits.
    """
    if config.data is None:
        table = config.phantom.write(StudyFolder(config.folder).phantoms)
    else:
        table = load_table(config.data, config.layout, config.columns)
    return ready_splits(
        table,
        seed=config.split_seed,
        on_overlap=config.on_overlap,
        unknown_patients=config.unknown_patients,
    )


def _require_own(folder: StudyFolder, table: ScanTable) -> None:
    """Refuse a folder that holds the study of other scans."""
    root = str(table.root.resolve())
    if folder.config.exists() and (former := read_json(folder.config)["root"]) != root:
        raise OctoscopeError(
            f"{folder.path}: holds the study of {former}, not of {root}; "
            "choose another folder with --out"
        )


def _describe(folder: StudyFolder, config: StudyConfig, table: ScanTable) -> None:
    """Say what was assumed, and write what the study is."""
    for note in table.notes:
        colour = "red" if note.startswith("OVERRIDE") else "dim"
        console.print(f"· {note}", style=colour, highlight=False, markup=False)
    described = {
        "name": config.name,
        "root": str(table.root.resolve()),
        "layout": table.layout,
        "classes": table.classes,
        "notes": table.notes,
        "table_digest": table.digest(),
        "config": asdict(config),
    }
    key = digest_of(described)
    if folder.config.exists() and read_json(folder.config).get("key") == key:
        return  # what is there was made by the version that it names
    table.save(folder.table)
    write_json(folder.config, {"key": key, **described, "provenance": provenance()})


def _audit(folder: StudyFolder, table: ScanTable, config: StudyConfig) -> ScanTable:
    """Audit the scans and stop at what would make every later number false.

    Returns:
        The table; with a note for every error that was overridden.

    Raises:
        PatientOverlapError: If copies of a scan stand in several splits and that is not allowed.
    """

    def work() -> str:
        found = audit(table)
        write_json(folder.audit, found.to_dict())
        for finding in found.findings:
            if finding.level != "info":
                line = f"  {finding.level}: {finding.sentence}"
                console.print(line, style="yellow", highlight=False, markup=False)
        return f"{len(table)} scans, {len(found.findings)} findings"

    inputs = {"table": table.digest(), "files": [_stamp(path) for path in table.paths]}
    Stage(folder.path, "audit").run(inputs, [folder.audit], work)
    findings = read_json(folder.audit)["findings"]
    errors = [finding["sentence"] for finding in findings if finding["level"] == "error"]
    if errors and config.on_overlap != "allow":
        raise PatientOverlapError(f"{table.root}: {errors[0]}")
    return table.noting(*(f"OVERRIDE: {sentence}" for sentence in errors))


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size and time of a file, None if it is not there (the audit will say so)."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _train(folder: StudyFolder, cache: ScanCache, recipe: Recipe) -> RunFolder:
    """Train one model with one seed, or find it trained."""
    path = folder.run(recipe.model, recipe.seed)
    train(cache, recipe, path)
    return RunFolder.open(path)


def _evaluate(run: RunFolder, cache: ScanCache, config: StudyConfig) -> None:
    """Evaluate a run on validation."""

    def work() -> str:
        metrics = evaluate_run(run, cache, resamples=config.resamples)
        value = said(metrics["overall"]["balanced_accuracy"])
        return f"balanced accuracy {value} on {metrics['n_patients']} validation patients"

    Stage(run.study.path, f"evaluate {run.name}").run(
        {"model": run.digest, "cache": cache.digest, "resamples": config.resamples},
        [run.metrics("val"), run.predictions("val")],
        work,
    )


def _explain(run: RunFolder, cache: ScanCache, config: StudyConfig) -> None:
    """Explain a run on validation."""

    def work() -> str:
        write_json(run.study.methods, {name: METHODS[name].about() for name in METHODS})
        return explain_run(run, cache, methods, resamples=config.resamples, strict=False)

    methods = list(config.explain.methods)
    if config.trust.run:
        methods += [name for name in NULLS if name not in methods]

    Stage(run.study.path, f"explain {run.name}").run(
        {
            "model": run.digest,
            "cache": cache.digest,
            "methods": methods,
            "resamples": config.resamples,
        },
        [run.maps, *([] if cache.masks is None else [run.localisation])],
        work,
    )


def _report(folder: StudyFolder) -> Path:
    """Write the report, unless nothing that it shows has changed."""

    def work() -> str:
        build_report(folder.path)
        return f"{folder.report} ({folder.report.stat().st_size / 2**20:.1f} MB)"

    inputs = {
        str(path.relative_to(folder.path)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in ("*.json", "runs/*/*.json*", "runs/*/*.parquet", "runs/*/log.csv")
        for path in sorted(folder.path.glob(pattern))
    }
    Stage(folder.path, "report").run(inputs, [folder.report], work)
    return folder.report
