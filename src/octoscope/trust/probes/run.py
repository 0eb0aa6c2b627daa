"""The registry of shortcut probes, and running them on one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.progress import track
from octoscope.scans.wording import many
from octoscope.trust.probes import appearance, irrelevant, reframed, transplant
from octoscope.trust.probes.background import background
from octoscope.trust.probes.blanked import blanked
from octoscope.trust.probes.effect import not_run
from octoscope.trust.probes.metadata import metadata
from octoscope.trust.probes.probe import Finding, Subject


@dataclass(frozen=True)
class Probe:
    """One row of the registry.

    Attributes:
        title: Its name in running text.
        run: What it does; one finding or several.
        sentence: What it asks, for docs and reports.
        source: Where the idea comes from.
        needs_retina: Whether it leaves out scans in which no retina was found.
    """

    title: str
    run: Callable[[Subject], Finding | list[Finding]]
    sentence: str
    source: str
    needs_retina: bool = True


PROBES: Mapping[str, Probe] = MappingProxyType(
    {
        "metadata": Probe(
            "what the frame alone gives away",
            metadata,
            "How well do size, borders, background and instrument alone tell the classes apart?",
            "Zech et al., PLoS Medicine 2018, which predicts the hospital from the picture",
            needs_retina=False,
        ),
        "background": Probe(
            "background kept, retina kept",
            background,
            "What does the model still know without the retina, and what without the rest?",
            "Xiao et al., Noise or Signal: The Role of Image Backgrounds, ICLR 2021",
        ),
        "blanked": Probe(
            "border, corners and signs blanked",
            blanked,
            "What does it cost to take away what shows no disease?",
            "Winkler et al., JAMA Dermatology 2019, on skin markings",
        ),
        transplant.PROBE: Probe(
            transplant.TITLE,
            transplant.transplant,
            "Does a retina in the surroundings of another class's scan get that class's name?",
            "Xiao et al., Noise or Signal: The Role of Image Backgrounds, ICLR 2021, Mixed-Rand",
        ),
        appearance.PROBE: Probe(
            appearance.TITLE,
            appearance.appearance,
            "Does a scan with contrast and speckle of another class's scan get its name?",
            "own; contrast and speckle as in tests of domain shift between instruments",
        ),
        reframed.PROBE: Probe(
            reframed.TITLE,
            reframed.reframed,
            "Does the model miss the sizes of the frames, once all are alike?",
            "own",
            needs_retina=False,
        ),
        irrelevant.PROBE: Probe(
            irrelevant.TITLE,
            irrelevant.irrelevant,
            "Which edit that leaves the disease as it is changes the answers most?",
            "Hendrycks and Dietterich, ICLR 2019, with mild corruptions",
        ),
    }
)
"""Key → probe, in the order in which they are shown."""


def probe_model(
    subject: Subject, probes: Sequence[str] | None = None, progress: bool = False
) -> list[Finding]:
    """Run shortcut probes on a model.

    Args:
        subject: The model with its validation scans.
        probes: Keys of `PROBES`; all by default.
        progress: Whether to show a bar.

    Returns:
        Their findings, in the order of the keys. A probe that cannot be run on these scans has
        one with ``fires`` None and the reason as its sentence.

    Raises:
        OctoscopeError: If a key is unknown.
    """
    keys = list(PROBES if probes is None else probes)
    for key in keys:
        if key not in PROBES:
            raise OctoscopeError(
                f'probe "{key}" is unknown{did_you_mean(key, PROBES)}; '
                f"choose from {', '.join(PROBES)}"
            )
    found: list[Finding] = []
    for key in track(keys, "Shortcut probes") if progress else keys:
        found += _ran(key, PROBES[key], subject)
    return found


def _ran(key: str, probe: Probe, subject: Subject) -> list[Finding]:
    """Return the findings of one probe on the scans that it can use."""
    asked = subject.with_retina() if probe.needs_retina else subject
    count, left_out = len(subject.scans), len(subject.scans) - len(asked.scans)
    try:
        if count and left_out == count:
            raise OctoscopeError(f"no retina was found in any of {many(count, 'scan')}")
        answer = probe.run(asked)
    except OctoscopeError as error:
        answer = not_run(key, probe.title, f"Not run: {error}.", unit="", limit=float("nan"))
    findings = answer if isinstance(answer, list) else [answer]
    said, details = "", {}
    if 0 < left_out < count:
        said = f" {left_out} of {many(count, 'scan')} left out: no retina was found in them."
        details["left_out"] = left_out
    if (there := subject.scans.drawn_from) > count:
        said += f" {count:,} of {there:,} scans were asked, spread over classes and patients."
        details["drawn_from"] = there
    return [
        replace(one, sentence=one.sentence + said, details={**one.details, **details})
        for one in findings
    ]
