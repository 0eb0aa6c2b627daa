"""Explain single scan files: draw what a model looks at in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from octoscope.attribution.explain import explain
from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.files import atomic_path
from octoscope.models.classifier import Classifier
from octoscope.report.figures.panel import panel_png
from octoscope.study.folder import RunFolder


def explain_files(
    run: RunFolder,
    images: Sequence[Path],
    methods: Sequence[str],
    target: str | None,
    out: Path,
) -> Iterator[Path]:
    """Draw a panel for each scan file, and give its path.

    Args:
        run: A finished run.
        images: Scan files.
        methods: Registry keys.
        target: Class to explain; None for the predicted one.
        out: Folder of the panels.

    Raises:
        ScanError: If a file cannot be read.
        OctoscopeError: If the class or a method is unknown.
    """
    classifier = Classifier.load(run.model)
    classes = classifier.classes
    if target is not None and target not in classes:
        hint = did_you_mean(target, classes)
        raise OctoscopeError(f'"{target}" is not a class of {run.name}{hint}: {", ".join(classes)}')
    number = None if target is None else classes.index(target)
    prepared = classifier.prepare(images)
    for path, image in zip(images, prepared, strict=True):
        maps = explain(classifier, image[None], methods, number)
        probabilities = maps.logits.softmax(-1)[0].tolist()
        drawn = panel_png(
            image[0].mul(255).round().byte().numpy(),
            {METHODS[name].title: maps[name][0].numpy() for name in maps},
            dict(zip(classes, probabilities, strict=True)),
            explained=classes[int(maps.targets[0])],
            title=f"{path.name} · {run.name}",
        )
        panel = out / f"{path.stem}-{run.name}.png"
        with atomic_path(panel) as temporary:
            temporary.write_bytes(drawn)
        yield panel
