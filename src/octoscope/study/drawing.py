"""The figures that `octoscope explain` draws of scan files: what is asked for, and the drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from octoscope.attribution.registry import METHODS
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.files import atomic_path
from octoscope.naming import file_name
from octoscope.progress import tell
from octoscope.report.figures.comparison import Row, Seen, comparison_png
from octoscope.report.figures.heads import Heads, heads_png
from octoscope.report.figures.panel import panel_png
from octoscope.report.figures.patches import patches_png
from octoscope.study.explained import Explained, Model, named
from octoscope.study.lesion_masks import LesionMasks
from octoscope.study.occluded import occlusion_of

HEADS = "dino_heads"
FIGURES = ("panel", "methods", "models", "occlusion", "heads", "patches")
"""Kinds of figures, in the order they are drawn."""

ON_A_PAGE = 8
"""Scans on one page of the figures whose rows are scans."""
MOST_HEADS = 48
"""Attention heads on one page."""

OWN_SCALE = "Each map is coloured by its own scale: compare places, not strength."


@dataclass(frozen=True)
class Wish:
    """What is to be drawn of scan files.

    Attributes:
        methods: Names of methods or families, or ``"all"``.
        figures: Kinds of figures, of `FIGURES`; or ``"all"``, which leaves out those not defined
            for any of the models.
        target: Class to explain; None for what each model predicts.
        out: Folder of the figures.
        masks: Folder of lesion masks; None to look in the study and beside the scans.
        across: Methods of the ``models`` figure, each with a figure of its own; by default
            `methods`.
    """

    methods: str | Sequence[str]
    figures: str | Sequence[str]
    target: str | None
    out: Path
    masks: Path | None = None
    across: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in FIGURES:
                known = [*FIGURES, "all"]
                raise OctoscopeError(
                    f'"{kind}" is not a figure{did_you_mean(kind, known)}; known are '
                    f"{', '.join(known)}"
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of figures asked for, each once."""
        return FIGURES if self.all_kinds else tuple(dict.fromkeys(self._asked))

    @property
    def all_kinds(self) -> bool:
        """Whether every kind is asked for that is defined."""
        return "all" in self._asked

    @property
    def _asked(self) -> tuple[str, ...]:
        """The words of `figures`; one alone is a word, not its letters."""
        return (self.figures,) if isinstance(self.figures, str) else tuple(self.figures)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the methods whose maps are needed."""
        kinds = set(self.kinds)
        keys = named(self.methods)[0] if kinds & {"panel", "methods"} else ()
        return tuple(dict.fromkeys([*keys, *(self.crossed if "models" in kinds else ())]))

    @property
    def crossed(self) -> tuple[str, ...]:
        """Keys of the methods of the ``models`` figure."""
        return named(self.methods if self.across is None else self.across)[0]


@dataclass(eq=False)
class Drawing:
    """The figures of one call while they are made.

    Attributes:
        wish: What to draw.
        models: The models.
        kinds: Kind of figure → models it is defined for.
        telling: Whether failures are told at once; the error at the end names them in any case.
        failures: What failed, one sentence each.
    """

    wish: Wish
    models: Sequence[Model]
    kinds: dict[str, list[Model]]
    telling: bool = True
    failures: list[str] = field(default_factory=list)
    _written: Counter[str] = field(default_factory=Counter)
    _crossed: dict[str, list[Row]] = field(default_factory=dict)
    _heads: dict[str, list[Heads]] = field(default_factory=dict)

    def scan(self, path: Path, masks: LesionMasks) -> Iterator[Path]:
        """Draw what one scan needs, and whole pages as they fill up."""
        seen: list[Explained] = []
        for model in self.models:
            try:
                seen.append(Explained.read(path, model, masks))
            except OctoscopeError as error:
                self._failed(str(error))
                return
        for note in dict.fromkeys(one.note for one in seen if one.note):
            tell(note)
        if self.wish.masks is not None and seen[0].scan.mask is None and not seen[0].note:
            tell(f"{path.name}: no mask of this name below {self.wish.masks}")
        for kind, able in self.kinds.items():
            makers: dict[str, Callable[[Sequence[Explained]], Iterator[Path]]] = {
                "panel": self._panels,
                "methods": self._methods,
                "models": self._models,
                "occlusion": self._occlusions,
                "heads": self._heads_of,
                "patches": self._patches,
            }
            try:
                yield from makers[kind]([one for one in seen if one.model in able])
            except OctoscopeError as error:
                self._failed(f"{path}: {error}")

    def pages(self) -> Iterator[Path]:
        """Draw the pages that are not full."""
        for method in list(self._crossed):
            yield self._page_of_models(method)
        for name in list(self._heads):
            yield self._page_of_heads(name)

    def _failed(self, sentence: str) -> None:
        if sentence not in self.failures:
            self.failures.append(sentence)
            if self.telling:
                tell(f"failed: {sentence}")

    def _write(self, name: str, drawn: bytes) -> Path:
        """Write a figure; scans of one name in several folders are numbered."""
        name = name.replace("/", "-")
        self._written[name] += 1
        number = self._written[name]
        path = self.wish.out / file_name(f"{name}{f'-{number}' if number > 1 else ''}", ".png")
        try:
            with atomic_path(path) as temporary:
                temporary.write_bytes(drawn)
        except OSError as error:  # what `atomic_path` has no sentence for
            raise OctoscopeError(f"{path}: cannot be written ({error.strerror})") from error
        return path

    def _panels(self, seen: Sequence[Explained]) -> Iterator[Path]:
        asked = named(self.wish.methods)[0]
        for one in seen:
            found = [one.map(key) for key in asked if key in one.model.methods]
            drawn = panel_png(
                one.scan,
                [seen_map for seen_map in found if not isinstance(seen_map, str)],
                one.probabilities,
                explained=one.explained,
                title=f"{one.name} · {one.model.name}: {one.verdict}",
            )
            yield self._write(f"{Path(one.name).stem}-{one.model.name}", drawn)

    def _methods(self, seen: Sequence[Explained]) -> Iterator[Path]:
        asked = named(self.wish.methods)[0]
        shown = [key for key in asked if any(key in one.model.methods for one in seen)]
        rows = [
            Row(
                f"{one.model.name}: {one.verdict}",
                one.scan,
                [Seen(one.scan, one.map(key), METHODS[key].title) for key in shown],
            )
            for one in seen
        ]
        title = f"{seen[0].name}: methods side by side"
        drawn = comparison_png(rows, title=title, note=OWN_SCALE)
        yield self._write(f"{Path(seen[0].name).stem}-methods", drawn)

    def _models(self, seen: Sequence[Explained]) -> Iterator[Path]:
        for method in self.wish.crossed:
            if all(method in one.model.refused for one in seen):
                continue
            cells = [
                Seen(one.scan, one.map(method, title=one.model.name), one.model.name)
                for one in seen
            ]
            rows = self._crossed.setdefault(method, [])
            rows.append(Row(seen[0].name, seen[0].scan, cells))
            if len(rows) == ON_A_PAGE:
                yield self._page_of_models(method)

    def _page_of_models(self, method: str) -> Path:
        rows = self._crossed.pop(method)
        about = METHODS[method]
        models = f"{len(self.models)} model{'s' if len(self.models) > 1 else ''}"
        title = f"{about.title} of {models}"
        drawn = comparison_png(rows, title=title, note=f"{about.sentence} {OWN_SCALE}")
        return self._write(f"models-{method}", drawn)

    def _occlusions(self, seen: Sequence[Explained]) -> Iterator[Path]:
        for one in seen:
            stem = Path(one.name).stem
            yield self._write(f"{stem}-{one.model.name}-occlusion", occlusion_of(one))

    def _heads_of(self, seen: Sequence[Explained]) -> Iterator[Path]:
        for one in seen:
            maps = one.explain([HEADS]).native[HEADS][0].float().cpu().numpy()
            page = self._heads.setdefault(one.model.name, [])
            page.append(Heads(one.name, one.scan, maps, one.verdict))
            if len(page) * len(maps) >= MOST_HEADS:
                yield self._page_of_heads(one.model.name)

    def _page_of_heads(self, name: str) -> Path:
        drawn = heads_png(
            self._heads.pop(name), title=f"{name}: attention heads", note=METHODS[HEADS].sentence
        )
        return self._write(f"heads-{name}", drawn)

    def _patches(self, seen: Sequence[Explained]) -> Iterator[Path]:
        for one in seen:
            title = f"{one.name} · {one.model.name}"
            drawn = patches_png(
                one.scan.image, one.model.token_patch, title=title, extra=one.model.other_tokens
            )
            yield self._write(f"{Path(one.name).stem}-{one.model.name}-patches", drawn)
