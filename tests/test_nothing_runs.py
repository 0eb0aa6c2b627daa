"""No field of any file and no option of any verb makes anything run, import or open what it names.

All verbs and all fields of their dataclasses are found by looking at them, so that new ones are
tried as well.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml

from octoscope import verbs
from octoscope.cli import VERBS, main
from octoscope.errors import OctoscopeError
from octoscope.options.hints import hints_of, members_of
from octoscope.options.verb import Verb, verb_of
from octoscope.study.config import PhantomSettings
from watch import offences, watched

WORD = "octocanary"
PATHS = {"weights", "against", "masks"}
"""Fields that are documented as paths, beside those of type Path."""


def every_verb() -> list[Verb]:
    return [verb_of(verbs.function_of(name), does, ()) for name, does in VERBS.items()]


def fields_below(key: str, hint: Any) -> Iterator[tuple[str, Any]]:
    """Yield ``models``, ``models.lr`` and so on, to the last field."""
    yield key, hint
    for member in members_of(hint):
        if get_origin(member) in (tuple, list):
            member = get_args(member)[0]
        if is_dataclass(member):
            for name, inner in hints_of(member).items():
                yield from fields_below(f"{key}.{name}", inner)


CASES = [
    (verb, key, hint)
    for verb in every_verb()
    for name, hint in verb.hints.items()
    for key, hint in fields_below(name, hint)
]


def test_the_walk_reaches_every_dataclass() -> None:
    keys = {f"{verb.name} {key}" for verb, key, _ in CASES}
    assert {
        "study models.model_options", "study models.augment", "study phantom.severity",
        "study framing.mode", "study trust.baseline", "study explain.methods", "train augment",
        "train framing.height", "phantom severity", "evaluate run", "explain images",
    } <= keys  # fmt: skip


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the module path with a module, a package and files that leave a mark if used."""
    folder = tmp_path_factory.mktemp("trap")
    code = f"import pathlib\npathlib.Path({str(folder / 'mark')!r}).touch()\nclass Thing: pass\n"
    (folder / f"{WORD}.py").write_text(code)
    (folder / f"{WORD}_config.json").write_text("{}")
    (folder / f"{WORD}.pt").write_bytes(b"cos\nsystem\n(S'touch mark'\ntR.")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def hostile(trap: Path) -> list[Any]:
    touch = ["touch", str(trap / "mark")]
    return [
        {"class_path": "subprocess.Popen", "init_args": {"args": touch}},
        {"class_path": f"{WORD}.Thing"},
        {"act_layer": {"class_path": f"{WORD}.Thing"}, "norm_layer": f"{WORD}.Thing"},
        {"checkpoint_path": str(trap / f"{WORD}.pt"), "pretrained_cfg": {"file": str(trap)}},
        f"{WORD}.Thing",
        WORD,
        "os.system",
        f"hf-hub:{WORD}/model",
        f"local-dir:{trap / WORD}",
        f"file://{trap}/{WORD}.pt",
        str(trap / f"{WORD}.pt"),
        [f"{WORD}.Thing", {"class_path": f"{WORD}.Thing"}],
    ]


def tagged(trap: Path) -> list[str]:
    return [
        f"!!python/object/apply:os.system ['touch {trap / 'mark'}']",
        f"!!python/object/apply:subprocess.Popen [['touch', {trap / 'mark'}]]",
        f"!!python/name:{WORD}.Thing",
        f"!!python/module:{WORD}",
        f"!{WORD}.Thing {{}}",
    ]


def nested(key: str, value: Any) -> Any:
    """Return ``models.lr`` as ``{models: [{lr: value}]}``."""
    first, _, rest = key.partition(".")
    if not rest:
        return {first: value}
    inner = nested(rest, value)
    return {first: [inner] if first == "models" else inner}


def commands(verb: Verb, key: str, trap: Path) -> Iterator[list[str]]:
    """Yield every way to give a hostile value to a field: as an option, a place, or in a file."""
    elsewhere = [str(trap / "nowhere")] * len(verb.places)
    if verb.name == "study":
        elsewhere = ["--data", str(trap / "nowhere")] if key != "data" else []
    recipe = trap / "recipe.yaml"
    places = [option.name for option in verb.places]
    for value in hostile(trap):
        text = value if isinstance(value, str) else json.dumps(value)
        if key in places:
            yield [verb.name, *(text if name == key else str(trap / "nowhere") for name in places)]
        else:
            yield [verb.name, *elsewhere, f"--{key}={text}"]
        recipe.write_text(yaml.safe_dump(nested(key, value)))
        yield [verb.name, "--config", str(recipe), *elsewhere]
    for text in tagged(trap):
        recipe.write_text(yaml.safe_dump(nested(key, "HERE")).replace("HERE", text))
        yield [verb.name, "--config", str(recipe), *elsewhere]
        if key not in places:
            yield [verb.name, *elsewhere, f"--{key}={text}"]


@pytest.mark.parametrize("name", VERBS)
def test_no_field_runs_imports_or_opens_what_it_names(
    name: str, trap: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise OctoscopeError("phantoms would be written now")

    monkeypatch.setattr(PhantomSettings, "write", stop)
    monkeypatch.chdir(trap)
    cases = [case for case in CASES if case[0].name == name]
    elsewhere = [str(trap / "nowhere")] * len(cases[0][0].places)
    main([name, *(elsewhere or ["--data", "nowhere"])])  # its own imports are over now
    tried = 0
    for verb, key, hint in cases:
        is_path = key.rpartition(".")[2] in PATHS or any(
            Path in (member, *get_args(member)) for member in members_of(hint)
        )
        for words in commands(verb, key, trap):
            capsys.readouterr()
            with watched() as seen:
                code = main(words)
            said = capsys.readouterr().err
            assert code == 2 and said.startswith("octoscope: ") and said.count("\n") == 1, words
            assert "Traceback" not in said, words
            assert offences(seen, WORD, opens=is_path) == [], words
            tried += 1
    assert tried >= len(hostile(trap)) + len(tagged(trap))
    assert not (trap / "mark").exists()
    assert WORD not in sys.modules


def test_the_hook_sees_what_it_should(trap: Path) -> None:
    """The oracle itself: an import, an opened file and a process are noticed."""
    with watched() as seen:
        (trap / f"{WORD}.pt").open("rb").close()
        with pytest.raises(ModuleNotFoundError):
            exec(f"import {WORD}_absent")
    events = {event for event, _ in offences(seen, WORD)}
    assert events >= {"open", "import"}
    assert offences([("os.system", "('true',)")], WORD)
