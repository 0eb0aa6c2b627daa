r"""Draw the pictures of a trust card, as they stand in the report of its study.

    make demo
    python docs/figures/trust.py studies/demo --run resnet18-seed0
    python benchmarks/trust_on_phantoms.py
    python docs/figures/trust.py studies/trust-on-phantoms/studies/border-1-0 --name trust-border \
        --findings studies/trust-on-phantoms/probed/border-1-0.json --only probes

Every picture is made by the report's own functions from the run's ``trust.json`` and maps; what was
not measured has none. Written are ``NAME-PICTURE.svg`` and ``NAME-worst.jpg``.
"""

from __future__ import annotations

import argparse
import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError
from octoscope.files import read_json
from octoscope.report.figures.cells import Map, Scan, map_picture, scan_picture
from octoscope.report.figures.sheet import Strip, sheet_png
from octoscope.report.files import StudyFiles
from octoscope.report.trust_agreement import agreement_block
from octoscope.report.trust_curves import curves_figure, randomisation_figure
from octoscope.report.trust_gallery import clusters_block
from octoscope.report.trust_pictures import Album
from octoscope.report.trust_places import probes_block, zones_block
from octoscope.report.trust_read import Trust, trusted

FIGURES: dict[str, Callable[[Trust], str | None]] = {
    "curves": curves_figure,
    "zones": lambda trust: (zones_block(trust) or {}).get("figure"),
    "probes": lambda trust: (probes_block(trust) or {}).get("figure"),
    "randomisation": randomisation_figure,
    "agreement": lambda trust: (agreement_block(trust) or {}).get("spearman"),
    "clusters": lambda trust: next((c["figure"] for c in clusters_block(trust, Album(0))), None),
}
"""Picture → the report's figure of it, as a data URI."""

WORST = 4
"""Scans of a gallery."""


def card_of(study: Path, run: str, findings: Path | None) -> Trust:
    """Return the card of a run, of the first that has one without a name.

    Args:
        study: Its study.
        run: Name of its folder.
        findings: What the benchmark of probes found, in place of a card.

    Raises:
        OctoscopeError: If there is none.
    """
    files = StudyFiles.read(study)
    if findings is not None:
        return Trust(files, files.runs[0], {"probes": read_json(findings)["findings"]})
    cards = [card for seeds in trusted(files) for card in seeds]
    found = [card for card in cards if run in ("", card.run.path.name)]
    if not found:
        names = ", ".join(card.run.path.name for card in cards) or "none"
        raise OctoscopeError(f"{study}: no trust card of {run or 'any run'} (there are: {names})")
    return found[0]


def worst_scans(trust: Trust) -> bytes | None:
    """Return the scans on which the best method does worst, beside its maps, as JPEG."""
    galleries = [one for one in trust.rows("gallery") if one["method"] == trust.best]
    cache, store = trust.study.cache, trust.run.maps
    if not galleries or cache is None or store is None:
        return None
    method = METHODS[galleries[0]["method"]]
    cells = []
    for one in galleries[0]["worst"][:WORST]:
        row = one["row"]
        mask = None if cache.masks is None else np.array(cache.masks[row])
        scan = Scan(np.array(cache.images[row]), mask, dict(cache.table.lesions))
        right = "right" if one["label"] == one["predicted"] else "wrong"
        claim = f"{one['label']}, says {one['predicted']}: {right}"
        seen = Map(method.title, store.read(row, method.name), f"{one['value']:.2f}", method.signed)
        cells += [scan_picture(scan, f"{len(cells) // 2 + 1}", claim), map_picture(scan, seen)]
    title = trust.metric_title(galleries[0]["metric"]).lower()
    strips = [Strip(cells[start : start + 4]) for start in range(0, len(cells), 4)]
    what = f"{trust.run.path.name}: worst scans of {method.title} by {title}"
    png = sheet_png(strips, title=what)
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(jpeg, "JPEG", quality=85, optimize=True)
    return jpeg.getvalue()


def main() -> None:
    """Read the command line and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="study with a trust card")
    parser.add_argument("--run", default="", help="name of the run; by default the first")
    parser.add_argument("--findings", type=Path, help="file of benchmarks/trust_on_phantoms.py")
    parser.add_argument("--only", nargs="+", choices=[*FIGURES, "worst"], help="these pictures")
    parser.add_argument("--name", default="trust", help="what the file names begin with")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    options = parser.parse_args()
    trust = card_of(options.study, options.run, options.findings)
    wanted = options.only or [*FIGURES, "worst"]
    made: dict[str, bytes] = {}
    for picture in wanted:
        if picture == "worst":
            if (jpeg := worst_scans(trust)) is not None:
                made["worst.jpg"] = jpeg
        elif (uri := FIGURES[picture](trust)) is not None:
            made[f"{picture}.svg"] = base64.b64decode(uri.partition(",")[2])
    for ending, content in made.items():
        path = options.out / f"{options.name}-{ending}"
        path.write_bytes(content)
        print(path)


if __name__ == "__main__":
    main()
