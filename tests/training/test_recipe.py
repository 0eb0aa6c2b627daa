"""A recipe is checked when it is made and means the same after a trip through JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from octoscope.errors import OctoscopeError
from octoscope.training.recipe import Recipe


def test_json_and_back() -> None:
    recipe = Recipe(
        model="vit_tiny_patch16_224",
        model_options={"depth": 3, "layers": (1, 2)},
        augment={"flip": 0.0, "scale": (0.9, 1.1)},
        patience=4,
    )
    values = json.loads(json.dumps(recipe.to_dict()))
    assert Recipe.from_dict(values).to_dict() == values == recipe.to_dict()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"optimizer": "sdg"}, r'optimizer "sdg" is unknown \(did you mean "sgd"\?\)'),
        ({"schedule": "linear"}, "choose one of cosine, step, constant"),
        ({"balance": "yes"}, "balance"),
        ({"precision": "fp16"}, "precision"),
        ({"channels_last": "maybe"}, "channels_last"),
        ({"monitor": "val_f1"}, "monitor"),
        ({"tracker": "comet"}, "tracker"),
        ({"epochs": 0}, "epochs must be a whole number from 1, not 0"),
        ({"epochs": 2.5}, "epochs must be a whole number"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"lr": 0.0}, "lr must be a number above 0"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": "0.1"}, "lr must be a number"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"momentum": 1.0}, "momentum must be a number from 0 to below 1"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"average": -0.1}, "average"),
        ({"patience": 0}, "patience"),
        ({"freeze_epochs": 31}, "freeze_epochs must be a whole number from 0 to 30"),
        ({"warmup_epochs": -1}, "warmup_epochs must be a number from 0"),
        ({"step_factor": 0}, "step_factor"),
        ({"in_channels": 2}, 'in_channels "2" is unknown; choose one of 1, 3'),
        ({"augment": "a.b"}, "augment must be true or false or a mapping"),
        ({"model_options": {"a": print}}, "is no plain value"),
        ({"model": "a\0"}, "zero byte"),
        ({"epoch": 3}, r'no field "epoch" \(did you mean "epochs"\?\)'),
    ],
)
def test_wrong_values_are_named(values: dict, said: str) -> None:
    with pytest.raises(OctoscopeError, match=said):
        Recipe.from_dict(values)


def test_a_recipe_needs_no_torch() -> None:
    """The command line builds its help from the recipe, so it must be cheap to import."""
    code = "import sys; import octoscope.training.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "resnet81"}, 'did you mean "resnet18"'),
        ({"model": "local-dir:."}, "is not known"),
        ({"model_options": {"checkpoint_path": "x"}}, '"checkpoint_path" is no option'),
        ({"model_options": {"act_layer": {"class_path": "os.system"}}}, "use a number, a text"),
        ({"augment": {"flipp": 1}}, 'did you mean "flip"'),
    ],
)
def test_what_the_libraries_know_is_checked_before_any_work(values: dict, said: str) -> None:
    with pytest.raises(OctoscopeError, match=said):
        Recipe.from_dict(values).require_known()
    Recipe(augment={"flip": 0.0}, model_options={"layers": [1, 1, 1, 1]}).require_known()
