"""Whether the frame gives the class away: features, their association, and sentences about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from octoscope.scans.audit.association import Association, associations, holm
from octoscope.scans.audit.finding import Finding, Level
from octoscope.scans.audit.measure import Measurement
from octoscope.scans.table import COLUMNS, ScanTable

SIGNIFICANT = 0.05
AUROC_FROM, CRAMERS_V_FROM = 0.65, 0.2
"""Effects from which a significant association is a warning."""

UNITS = {
    "frame height": ("{:.0f}", " pixels"),
    "frame width": ("{:.0f}", " pixels"),
    "aspect ratio": ("{:.2f}", ""),
    "bytes per pixel": ("{:.2f}", ""),
    "white border": ("{:.1%}", " of the frame"),
    "black border": ("{:.1%}", " of the frame"),
    "wedge area": ("{:.1%}", " of the frame"),
    "brightness": ("{:.0f}", " grey levels"),
    "contrast": ("{:.0f}", " grey levels"),
    "sharpness": ("{:.0f}", ""),
    "noise": ("{:.1f}", " grey levels"),
    "upper left corner": ("{:.0f}", " grey levels"),
    "upper right corner": ("{:.0f}", " grey levels"),
    "lower left corner": ("{:.0f}", " grey levels"),
    "lower right corner": ("{:.0f}", " grey levels"),
    "B-scans in the volume": ("{:.0f}", ""),
}
"""How the mean of each measured number is written, and its unit."""

OF_THE_PICTURE = ("brightness", "contrast", "sharpness", "noise", "bytes per pixel")
"""Features that the disease itself can change, besides the way the scan was made."""

ACQUISITION = re.compile(
    r"device|scanner|camera|machine|vendor|manufacturer|model|software|version|site|cent(er|re)|"
    r"hospital|clinic|protocol|pattern|operator|quality|field|resolution|spacing|eye|source|"
    r"dataset|format|batch",
    re.IGNORECASE,
)
"""Names of table columns that tell how, where or by whom a scan was made."""


@dataclass(frozen=True, eq=False)
class Artefact:
    """One feature and how it goes with the classes.

    Attributes:
        association: Effect and means by class.
        p_value: Permutation p by patient, corrected for the number of features (Holm).
        p_grouped: The same when all scans of unknown patients of a class are one patient.
        level: ``warning`` if it gives a class away, else ``info``.
        sentence: What that means.
    """

    association: Association
    p_value: float
    p_grouped: float
    level: Level
    sentence: str

    @property
    def effect_name(self) -> str:
        """AUROC for numbers, Cramér's V for words."""
        return "AUROC" if self.association.numeric else "Cramér's V"

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the artefact for JSON."""
        a = self.association
        return {
            "feature": a.feature,
            "kind": "number" if a.numeric else "word",
            "effect_size": a.effect_size,
            "effect_name": self.effect_name,
            "class": classes[a.stands_out],
            "value": a.telling,
            "p_value": self.p_value,
            "p_value_uncorrected": a.p_value,
            "p_value_unknown_as_one_patient": self.p_grouped,
            "by_class": {
                name: {"mean": float(mean), "sd": float(sd)}
                for name, mean, sd in zip(classes, a.mean, a.sd, strict=False)
                if not np.isnan(mean)
            },
            "level": self.level,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, eq=False)
class Features:
    """What the associations are computed from, one row per readable, labelled, not blank scan.

    Attributes:
        rows: ``(n,)`` their rows in the table.
        numbers: Feature → ``(n,)`` float.
        words: Feature → ``(n,)`` str.
        constant: Names of features that are the same in all of them, which are not tested.
        from_table: Names of the features that are columns of the table, not measured.
        findings: Columns that were not tested, and why.
    """

    rows: np.ndarray
    numbers: dict[str, np.ndarray]
    words: dict[str, np.ndarray]
    constant: tuple[str, ...]
    from_table: frozenset[str]
    findings: list[Finding]


def gather_features(table: ScanTable, measured: Sequence[Measurement]) -> Features:
    """Collect the measured features and the extra columns of the table."""
    targets = table.targets
    rows = np.array(
        [i for i, m in enumerate(measured) if m.fault is None and not m.blank and targets[i] >= 0],
        dtype=np.int64,
    )
    kept = [measured[i] for i in rows]
    number_names = list(dict.fromkeys(name for m in kept for name in m.numbers))
    word_names = list(dict.fromkeys(name for m in kept for name in m.words))
    numbers = {n: np.array([m.numbers.get(n, np.nan) for m in kept], float) for n in number_names}
    words = {n: np.array([m.words.get(n, "none") for m in kept], object) for n in word_names}
    measured_names, findings = {*numbers, *words}, []
    for name in ("eye", *(c for c in table.frame.columns if c not in COLUMNS)):
        column = table.frame[name].iloc[rows]
        if column.isna().all() or name in measured_names:
            continue
        if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            values = column.to_numpy(float, na_value=np.nan)
            if not any(_agree(values, known) for known in numbers.values()):
                numbers[name] = values
        elif column.nunique() > max(10, len(column) / 2):
            findings.append(
                Finding(
                    "info",
                    f"Column {name!r} of the table was not tested against the classes: it has "
                    "another value on most rows.",
                )
            )
        else:
            words[name] = column.astype(object).where(column.notna(), "missing").to_numpy()
    every = {**numbers, **words}
    constant = tuple(name for name, values in every.items() if _is_constant(values))
    return Features(
        rows, numbers, words, constant, frozenset(every.keys() - measured_names), findings
    )


def _agree(values: np.ndarray, known: np.ndarray) -> bool:
    """Whether a column of the table only repeats what was measured, where it says anything."""
    said = ~np.isnan(values)
    return np.array_equal(values[said], known[said])


def _is_constant(values: np.ndarray) -> bool:
    """Whether all values (n,) are the same, or all missing."""
    return len(set(values.tolist())) <= 1 or bool(np.all(values != values))


def find_artefacts(
    table: ScanTable, features: Features, *, permutations: int, seed: int
) -> list[Artefact]:
    """Test every feature that varies against the classes, by patient; the strongest first."""
    scans = table.rows(features.rows)
    targets = scans.targets
    one_by_one = scans.patients_assumed_distinct()

    def test(groups: np.ndarray) -> tuple[list[Association], np.ndarray]:
        found = associations(
            {n: v for n, v in features.numbers.items() if n not in features.constant},
            {n: v for n, v in features.words.items() if n not in features.constant},
            targets,
            groups,
            permutations=permutations,
            rng=np.random.default_rng(seed),
        )
        return found, holm(np.array([a.p_value for a in found]))

    found, p_values = test(one_by_one.groups)
    grouped = p_values if one_by_one is scans else test(scans.groups)[1]
    artefacts = [
        _artefact(a, float(p), float(g), table.classes, a.feature in features.from_table)
        for a, p, g in zip(found, p_values, grouped, strict=True)
    ]
    return sorted(artefacts, key=lambda a: (a.level != "warning", a.p_value, -_strength(a)))


def artefact_findings(artefacts: Sequence[Artefact], told: Sequence[str] = ()) -> list[Finding]:
    """Turn the associations that matter into findings, but for features `told` of already."""
    return [
        Finding(a.level, a.sentence)
        for a in artefacts
        if a.p_value < SIGNIFICANT and _strong(a.association) and a.association.feature not in told
    ]


def _artefact(
    a: Association, p: float, grouped: float, classes: Sequence[str], from_table: bool
) -> Artefact:
    """Judge one association and say it in a sentence."""
    remarkable = p < SIGNIFICANT and _strong(a)
    by_acquisition = not from_table or ACQUISITION.search(a.feature) is not None
    level: Level = "warning" if remarkable and by_acquisition else "info"
    name = f"Column {a.feature!r}" if from_table else a.feature[0].upper() + a.feature[1:]
    effect = "AUROC" if a.numeric else "Cramér's V"
    numbers = f"{effect} {a.effect_size:.2f}, {_p(p)} by patient"
    if p < SIGNIFICANT <= grouped:
        numbers += f", {_p(grouped)} if scans without a patient id are of one patient a class"
    if not remarkable:
        much = "differs between the classes, but little"
        if p >= SIGNIFICANT:
            much = "does not tell the classes apart"
        return Artefact(a, p, grouped, level, f"{name} {much} ({numbers}).")
    label = classes[a.stands_out]
    comparison = _comparison(a, label, len(classes))
    verb = "gives" if level == "warning" and a.feature not in OF_THE_PICTURE else "goes with"
    away = f"{verb} {label} away" if verb == "gives" else f"{verb} {label}"
    doubt = ""
    if a.feature in OF_THE_PICTURE:
        doubt = " It may come from the disease or from how the scans were made."
    elif level == "info":
        doubt = " That is expected if it describes the disease, a shortcut if it does not."
    return Artefact(a, p, grouped, level, f"{name} {away}: {comparison} ({numbers}).{doubt}")


def _comparison(a: Association, label: str, classes: int) -> str:
    """Compare the class that stands out with the rest, in the feature's unit."""
    others = "the other classes" if classes > 2 else "the other class"
    mean = a.mean[a.stands_out]
    if a.telling is not None:
        return (
            f"{mean:.0%} of the scans of a {label} patient are {a.telling!r}, "
            f"against {a.rest:.0%} in {others}"
        )
    form, unit = UNITS.get(a.feature, ("{:.3g}", ""))
    return f"on average {form.format(mean)} against {form.format(a.rest)}{unit} in {others}"


def _strong(a: Association) -> bool:
    """Whether an effect is large enough to matter."""
    return a.effect_size >= (AUROC_FROM if a.numeric else CRAMERS_V_FROM)


def _strength(artefact: Artefact) -> float:
    """Return the effect on a common scale from 0 to 1."""
    effect = artefact.association.effect_size
    return 2 * effect - 1 if artefact.association.numeric else effect


def _p(p: float) -> str:
    """Write a p-value."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
