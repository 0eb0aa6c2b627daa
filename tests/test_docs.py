"""What the documentation says is true: commands parse, links lead somewhere, code runs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import timm
import torch
import yaml

import octoscope
from octoscope import verbs
from octoscope.attribution.registry import METHODS
from octoscope.cli import VERBS, main
from octoscope.data.augment import Augment
from octoscope.scans.framing import Framing
from octoscope.scans.phantom import write_study
from octoscope.study.config import TrustSettings
from octoscope.study.trust_parts import TASKS
from octoscope.training.recipe import Recipe
from octoscope.trust import verdict
from octoscope.trust.faithfulness.baselines import Named
from octoscope.trust.probes.probe import Scans, Subject
from octoscope.trust.probes.run import PROBES, probe_model
from octoscope.trust.registry import METRICS
from timm_families import FAMILIES

REPOSITORY = Path(__file__).parents[1]
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8")
    for path in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
}
STUDY_FILES = sorted([*REPOSITORY.glob("recipes/*.yaml"), *REPOSITORY.glob("docs/figures/*.yaml")])
PLACEHOLDERS = {"FILE": "recipes/demo.yaml"}
"""What stands in a command for a file that must exist when it is parsed."""

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: str, *kinds: str) -> list[str]:
    """Return the contents of a page's fenced blocks of these kinds."""
    return [content for kind, content in FENCE.findall(PAGES[page]) if kind.strip() in kinds]


def prose(page: str) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub("", PAGES[page])


def lines_to_type(page: str) -> Iterator[str]:
    """Yield every line of a shell block and every code span in the text."""
    for block in blocks(page, "", "bash"):
        yield from (line.strip() for line in block.splitlines())
    yield from SPAN.findall(prose(page))


def commands() -> list[tuple[str, str]]:
    """Return (page, command) of every octoscope command, each once."""
    found = {
        line: page
        for page in PAGES
        for line in lines_to_type(page)
        if line.startswith("octoscope ")
    }
    return [(page, line) for line, page in found.items()]


def rows_of_tables(page: str) -> list[list[str]]:
    """Return the cells of every row of every table of a page."""
    lines = [line for line in prose(page).splitlines() if line.startswith("|")]
    cells = (re.split(r"(?<!\\)\|", line.strip("|")) for line in lines)
    return [[cell.strip() for cell in row] for row in cells]


# --- commands -----------------------------------------------------------------------------------


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let the command line parse and check, and keep the values instead of working on them."""
    seen: list[dict[str, Any]] = []
    real = verbs.function_of

    def function_of(verb: str) -> Callable[..., None]:
        @wraps(real(verb))
        def keep(**values: Any) -> None:
            seen.append(values)

        return keep

    monkeypatch.setattr(verbs, "function_of", function_of)
    monkeypatch.chdir(REPOSITORY)
    return seen


def test_there_are_commands() -> None:
    assert len(commands()) > 20
    assert {line.split()[1] for _, line in commands()} >= set(VERBS)


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda text: text[:60])
def test_command_parses(
    page: str, line: str, parsed: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True)[1:]]
    if words[0] == "VERB":
        return
    if len(words) == 1:  # a verb that is spoken of
        assert words[0] in VERBS, f"{page}: {line}"
        return
    try:
        code = main(words)
    except SystemExit as end:  # --help, --print_config
        code = end.code
    assert code == 0, f"{page}: {line}: {capsys.readouterr().err}"


@pytest.mark.parametrize("file", STUDY_FILES, ids=lambda path: path.name)
def test_study_file_parses(file: Path, parsed: list[dict[str, Any]]) -> None:
    assert main(["study", str(file)]) == 0
    (values,) = parsed
    assert {recipe.model for recipe in values["config"].models} == {
        recipe["model"] for recipe in yaml.safe_load(file.read_text())["models"]
    }


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")])
def test_yaml_in_a_page_is_a_study_file(
    page: str, parsed: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in blocks(page, "yaml"):
        file = tmp_path / "study.yaml"
        file.write_text(block, encoding="utf-8")
        assert main(["study", str(file)]) == 0, f"{page}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES)
def test_scripts_and_make_targets_exist(page: str) -> None:
    targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for line in lines_to_type(page):
        words = line.split()
        if words[:1] == ["python"] and words[1:] and words[1].endswith(".py"):
            assert (REPOSITORY / words[1]).is_file(), f"{page}: {line}"
        if words[:1] == ["make"] and words[1:]:
            assert words[1] in targets, f"{page}: {line}"


# --- links --------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_images_lead_somewhere(page: str) -> None:
    source = REPOSITORY / page
    for link in LINK.findall(SPAN.sub("", prose(page))):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = source.parent / file if file else source
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page}: {link}"


@pytest.mark.parametrize("page", PAGES)
def test_no_place_on_a_machine_is_named(page: str) -> None:
    assert not re.search(r"/(home|work|tmp|Users|root)/", PAGES[page])


# --- tables that repeat what the code says ------------------------------------------------------


METHOD_PAGES = [page for page in PAGES if page.startswith("docs/methods-")]


def rows_of_methods(page: str) -> list[list[str]]:
    """Return the rows of a page's tables that begin with the key of a method."""
    rows = [row for row in rows_of_tables(page) if len(row) == 6]
    return [[row[0].strip("`"), *row[1:]] for row in rows if row[0].strip("`") in METHODS]


def test_every_method_has_one_row_and_no_other_has() -> None:
    keys = [row[0] for page in METHOD_PAGES for row in rows_of_methods(page)]
    assert sorted(keys) == sorted(METHODS)
    first = {row[0] for page in METHOD_PAGES for row in rows_of_tables(page) if len(row) == 6}
    assert {key.strip("`") for key in first} - {"key", "---"} == set(METHODS)


@pytest.mark.parametrize("page", METHOD_PAGES)
def test_methods_tables_are_the_registry(page: str) -> None:
    for key, title, _, paper, sign, cost in rows_of_methods(page):
        method = METHODS[key]
        rectified = "rectified" if method.rectified else "signed" if method.signed else "unsigned"
        assert (title, paper, sign) == (method.title, method.paper, rectified), key
        assert cost, key
        for field in fields(method.settings) if method.settings else ():
            rows = [row for row in rows_of_tables(page) if f"`{field.name}`" in row[0]]
            named = any(f"`{key}`" in row[1] for row in rows)
            assert named or f"`{field.name}`" in prose(page), f"{key}: {field.name}"


def test_methods_page_says_which_families_it_is_of() -> None:
    table = {
        family.strip('`"'): row[2]
        for row in rows_of_tables("docs/attribution.md")
        if len(row) == 3 and "methods-" in row[2]
        for family in row[0].split(", ")
    }
    assert set(table) == {method.family for method in METHODS.values()}
    for page in METHOD_PAGES:
        for key, *_ in rows_of_methods(page):
            assert Path(page).name in table[METHODS[key].family], key


def test_layers_table_is_what_is_found() -> None:
    families = {family.name: family for family in FAMILIES}
    rows = [row for row in rows_of_tables("docs/attribution.md") if len(row) == 5]
    rows = [row for row in rows if row[1].strip("`") in families]
    assert len(rows) > 15
    layouts = {"nchw": "(B, C, h, w)", "nhwc": "(B, h, w, C)", "tokens": "tokens"}
    for _, name, layer, layout, prefix in rows:
        family = families[name.strip("`")]
        assert layer.strip("`") == re.sub(r"\.\d+(?=\.|$)", ".N", family.layer), name
        assert layout == layouts[family.kind], name
        assert prefix == (str(family.prefix) if family.kind == "tokens" else ""), name


def said(value: object) -> str:
    """Return a default as the tables write it."""
    if isinstance(value, tuple):
        return " to ".join(map(said, value))
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    if isinstance(value, str):
        return f"`{value}`"
    return f"{value:g}" if isinstance(value, int | float) else "`{}`"


@pytest.mark.parametrize(("options", "width"), [(Recipe(), 3), (Augment(), 3)])
def test_every_option_is_in_the_training_page_with_its_default(options: Any, width: int) -> None:
    defaults: dict[str, str] = {}
    for row in rows_of_tables("docs/training.md"):
        if len(row) == width:
            names = [name.strip("`") for name in row[0].split(", ")]
            values = row[1].split(", ") if len(names) > 1 else [row[1]]
            defaults |= dict(zip(names, values, strict=len(names) == len(values)))
    for field in fields(options):
        assert defaults.get(field.name) == said(getattr(options, field.name)), field.name


def test_framing_block_has_every_field() -> None:
    framings = [yaml.safe_load(block).get("framing") for block in blocks("docs/data.md", "yaml")]
    assert {field.name for field in fields(Framing)} in [set(framing or ()) for framing in framings]


# --- trust --------------------------------------------------------------------------------------

TRUST = "docs/trust.md"


def rows_of_trust(keys: Iterable[str], width: int) -> list[list[str]]:
    """Return the rows of the trust page's tables of a width that begin with one of some keys."""
    rows = [[row[0].strip("`"), *row[1:]] for row in rows_of_tables(TRUST) if len(row) == width]
    return [row for row in rows if row[0] in set(keys)]


def test_metrics_tables_are_the_registry() -> None:
    better = {True: "higher", False: "lower", None: "–"}
    assert rows_of_trust(METRICS, 5) == [
        [
            name,
            f"**{metric.title}**" if metric.headline else metric.title,
            better[metric.higher_is_better],
            metric.range,
            metric.source,
        ]
        for name, metric in METRICS.items()
    ]


def test_probes_table_is_the_registry() -> None:
    assert rows_of_trust(PROBES, 4) == [
        [key, probe.title, probe.sentence, probe.source] for key, probe in PROBES.items()
    ]


def test_findings_table_is_what_probes_find(folder: Path) -> None:
    table = octoscope.load_table(folder / "phantoms")
    images = np.stack([octoscope.read_scan(path).array for path in table.paths])
    subject = Subject(
        predict=lambda some: np.zeros((len(some), len(table.classes)), np.float32),
        classes=table.classes,
        scans=Scans(images, table.targets, table.groups, table.frame),
    )
    found = probe_model(subject)
    assert len(found) > len(PROBES)
    assert rows_of_trust([finding.probe for finding in found], 5) == [
        [one.probe, one.title, one.unit, f"{one.harmless:g}", f"{one.limit:g}"] for one in found
    ]


def test_trust_page_has_every_option_part_level_and_baseline() -> None:
    defaults = {row[0]: row[1] for row in rows_of_trust(dir(TrustSettings), 3)}
    settings = TrustSettings()
    assert defaults == {
        field.name: said(getattr(settings, field.name))
        for field in fields(settings)
        if field.name != "run"
    }
    numbered = [row for row in rows_of_tables(TRUST) if len(row) == 4 and row[0].isdigit()]
    assert [row[1].strip("`") for row in numbered] == list(TASKS)
    levels = [verdict.DISTRUST, verdict.CAUTION, verdict.NO_OBJECTION]
    assert [row[0] for row in rows_of_trust(levels, 2)] == levels
    assert {row[0] for row in rows_of_trust(get_args(Named), 2)} == set(get_args(Named))


# --- code ---------------------------------------------------------------------------------------

RUN = "python run"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the phantoms that the pages speak of."""
    out = tmp_path_factory.mktemp("docs")
    write_study(out / "phantoms", patients=24, scans_per_patient=1, height=64, width=96, workers=1)
    return out


def prepared(folder: Path) -> dict[str, Any]:
    """Return what the pages take as given: octoscope, a model, images, a table with logits."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", in_chans=1, num_classes=4)
    validation = octoscope.load_table(folder / "phantoms").split("val")
    draw = np.random.default_rng(0).normal(size=(2, len(validation), 4))
    return {
        "octoscope": octoscope,
        "torch": torch,
        "model": model,
        "images": torch.rand(4, 1, 64, 96),
        "labels": [0, 1, 2, 3],
        "validation": validation,
        "classes": validation.classes,
        "logits": draw[0],
        "other_logits": draw[1],
    }


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, RUN)])
def test_code_runs(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OCTOSCOPE_QUIET", "1")
    namespace = prepared(folder)
    for number, block in enumerate(blocks(page, RUN)):
        exec(compile(block, f"{page}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", PAGES)
def test_code_that_does_not_run_here_is_python(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block, page, "exec")
