"""Command lines become the arguments of a function; files lie under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml

from octoscope.errors import OctoscopeError
from octoscope.options.limits import Within
from octoscope.options.show import config_text, help_text
from octoscope.options.verb import Verb, entries_of, verb_of
from octoscope.options.words import merge, read_words, require_all


@dataclass(frozen=True)
class Frame:
    """How it is framed.

    Attributes:
        height: Rows.
        mode: How it is
            scaled.
    """

    height: Annotated[int, Within(1, 100)] = 8
    mode: Literal["pad", "band"] = "pad"


@dataclass(frozen=True)
class Model:
    """A model.

    Attributes:
        model: Its name.
        lr: Rate.
        options: Of it.
    """

    model: str = "m"
    lr: float = 0.1
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Whole:
    """A study.

    Attributes:
        name: Its name.
        frame: Its frame.
        models: Its models.
        seeds: Its seeds.
    """

    name: str = "w"
    frame: Frame = field(default_factory=Frame)
    models: tuple[Model, ...] = ()
    seeds: tuple[int, ...] = (0,)


def look(
    run: Path,
    files: list[Path] | None = None,
    methods: str | None = None,
    limit: int | None = None,
    share: float = 0.5,
    twin: bool = False,
    split: Literal["val", "test"] | None = None,
    frame: Frame = Frame(),
    on_overlap: Literal["error", "move"] = "error",
) -> None:
    """Look at it.

    Args:
        run: Where.
        files: What.
        methods: How.
        limit: Most.
        share: Part.
        twin: Whether.
        split: Which.
        frame: As what.
        on_overlap: If so.
    """


def whole(study: Whole) -> None:
    """Do it all.

    Args:
        study: All.
    """


LOOK, WHOLE = verb_of(look, "look at it"), verb_of(whole, "do it all")


def arguments(*words: str, verb: Verb = LOOK) -> dict[str, Any]:
    values = merge(read_words(words, verb), verb)
    require_all(values, verb)
    return verb.arguments(values, "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("R", {"run": Path("R")}),
        ("R a b", {"run": Path("R"), "files": [Path("a"), Path("b")]}),
        ("--methods x R a", {"run": Path("R"), "files": [Path("a")], "methods": "x"}),
        ("R --methods=x a", {"run": Path("R"), "files": [Path("a")], "methods": "x"}),
        ("R --methods=x=y -- -a", {"run": Path("R"), "files": [Path("-a")], "methods": "x=y"}),
        ("R --methods -x,y", {"run": Path("R"), "methods": "-x,y"}),
        ("R --methods 12", {"run": Path("R"), "methods": "12"}),
        ("R --methods null --limit null", {"run": Path("R"), "methods": None, "limit": None}),
        ("R --limit 3 --limit 4", {"run": Path("R"), "limit": 4}),
        ("R --share 1", {"run": Path("R"), "share": 1.0}),
        ("R --share 1e-3", {"run": Path("R"), "share": 0.001}),
        ("--twin R", {"run": Path("R"), "twin": True}),
        ("--twin true R", {"run": Path("R"), "twin": True}),
        ("--twin=no R", {"run": Path("R"), "twin": False}),
        ("R --no-twin a", {"run": Path("R"), "files": [Path("a")], "twin": False}),
        ("R --split test --share 0", {"run": Path("R"), "split": "test", "share": 0.0}),
        ("R --on_overlap=move", {"run": Path("R"), "on_overlap": "move"}),
        ("R --frame.height 9", {"run": Path("R"), "frame": Frame(9)}),
        ("R --frame.height 9 --frame.mode band", {"run": Path("R"), "frame": Frame(9, "band")}),
        ("R --frame {height:9,mode:band}", {"run": Path("R")}),
    ],
)  # fmt: skip
def test_lines(line: str, expected: dict[str, Any]) -> None:
    words = ["{height: 9, mode: band}" if w == "{height:9,mode:band}" else w for w in line.split()]
    if words != line.split():
        expected = expected | {"frame": Frame(9, "band")}
    assert arguments(*words) == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "RUN is missing (Where); see `octoscope look --help`"),
        ("R --limt 3", "look has no option --limt (did you mean \"--limit\"?); see"),
        ("R --frame.heigth 3", "--frame.heigth (did you mean \"--frame.height\"?)"),
        ("R --share.x 3", "has no option --share.x"),
        ("R -x", "has no option -x"),
        ("R --no-share", "has no option --no-share"),
        ("R --limit", "--limit needs a value: a whole number or null"),
        ("R --limit --twin", "--limit needs a value"),
        ("R --limit ten", "--limit must be a whole number or null, not 'ten'"),
        ("R --limit 1.5", "--limit must be a whole number, not 1.5"),
        ("R --limit 99999999999999999999", "--limit must be a whole number or null, not '9999"),
        ("R --share nan", "--share must be a number, not nan"),
        ("R --share inf", "--share must be a number, not inf"),
        ("R --twin=maybe", "--twin must be true or false, not 'maybe'"),
        ("R --split tets", '--split "tets" is unknown (did you mean "test"?)'),
        ("R --on-overlap mvoe", '--on-overlap "mvoe" is unknown (did you mean "move"?)'),
        ("R --frame.height 0", "--frame.height must be a whole number from 1 to 100, not 0"),
        ("R --frame 3", "--frame must be a mapping of height, mode; not 3"),
        ("R --frame a.b.C", "--frame must be a mapping of height, mode; not 'a.b.C'"),
        ("R --frame [", "--frame: not YAML"),
        ("R --frame " + "[" * 1000, "--frame: nested more than 20 deep"),
    ],
)  # fmt: skip
def test_wrong_lines_are_one_sentence(line: str, said: str) -> None:
    with pytest.raises(OctoscopeError) as caught:
        arguments(*line.split())
    assert said in str(caught.value)


def test_one_place_too_many() -> None:
    def one(run: Path) -> None:
        """Take one."""

    with pytest.raises(OctoscopeError, match='"b" is one word too many: one takes RUN'):
        arguments("a", "b", verb=verb_of(one, ""))


def test_entries_of_a_list_are_set_in_each_of_it() -> None:
    def models(*words: str) -> tuple[Model, ...]:
        return arguments(*words, verb=WHOLE)["study"].models

    assert models("--models.lr", "0.2") == (Model(lr=0.2),)
    assert models("--models.lr", "0.2", "--models", "[{model: a}, {model: b, lr: 1}]") == (
        Model("a", 0.2), Model("b", 0.2),
    )  # fmt: skip
    assert models("--models.options.depth", "3") == (Model(options={"depth": 3}),)
    assert models("--models.options", "{a: b}", "--models.options.c", "[1]") == (
        Model(options={"a": "b", "c": [1]}),
    )


@pytest.mark.parametrize("text", ["[0, 2]", "0,2", "0, 2"])
def test_lists_are_written_as_in_yaml_or_with_commas(text: str) -> None:
    assert arguments("--seeds", text, verb=WHOLE)["study"].seeds == (0, 2)


def test_the_line_prevails_over_files_and_later_files_over_earlier(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("name: a\nframe: {height: 5, mode: band}\nmodels: [{model: x, lr: 1}]\n")
    second.write_text("name: b\nframe: {height: 6}\n")
    words = ["--frame.height", "7", "--config", str(first), "--config", str(second)]
    made = arguments(*words, "--models.lr=2", verb=WHOLE)["study"]
    assert made == Whole("b", Frame(7, "band"), (Model("x", 2.0),))


def test_places_are_keys_of_a_file_too(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("run: R\nfiles: [a, b]\nlimit: 2\n")
    expected = {"run": Path("R"), "files": [Path("a"), Path("b")], "limit": 2}
    assert arguments("--config", str(config)) == expected
    assert arguments("Q", "--config", str(config))["run"] == Path("Q")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("- 1", "holds [1]; it must be a mapping of options"),
        ("hello", "holds 'hello'"),
        ("limt: 3", 'has no field "limt" (did you mean "limit"?)'),
        ("frame: {height: 0}", "frame.height must be a whole number from 1 to 100, not 0"),
        ("limit: 1.5", "limit must be a whole number, not 1.5"),
    ],
)
def test_what_is_wrong_in_a_file_names_it(tmp_path: Path, content: str, said: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(content)
    with pytest.raises(OctoscopeError) as caught:
        arguments("R", "--config", str(config))
    assert str(caught.value).startswith(str(config)) and said in str(caught.value)


@pytest.mark.parametrize("verb", [LOOK, WHOLE])
def test_what_is_printed_can_be_given_back(verb: Verb, tmp_path: Path) -> None:
    words = ["R", "--twin", "--frame.height", "9"] if verb is LOOK else ["--models.lr", "0.2"]
    printed = config_text(verb, arguments(*words, verb=verb))
    assert set(yaml.safe_load(printed)) == set(verb.hints)
    config = tmp_path / "c.yaml"
    config.write_text(printed)
    again = arguments("--config", str(config), verb=verb)
    assert config_text(verb, again) == printed
    assert arguments(*words, verb=verb).items() <= again.items()


def test_help_says_every_option_its_kind_and_default() -> None:
    text = " ".join(help_text(LOOK).split())
    for part in (
        "usage: octoscope look RUN [FILES …] [options]", "Look at it.", "RUN Where.",
        "--limit LIMIT Most. (a whole number, by default none)", "--twin [true|false]",
        "--split {val,test}", "--share SHARE Part. (a number, by default 0.5)",
        "--frame.height HEIGHT Rows. (a whole number from 1 to 100, by default 8)",
        "--frame.mode {pad,band} How it is scaled. (by default pad)", "--config FILE",
    ):  # fmt: skip
        assert part in text, part
    assert "--models.KEY sets a key of each: model, lr, options." in " ".join(
        help_text(WHOLE).split()
    )


def test_docstrings_are_read_entry_by_entry() -> None:
    assert entries_of(Frame) == {"height": "Rows.", "mode": "How it is scaled."}
    assert entries_of(type("Bare", (), {})) == {}
