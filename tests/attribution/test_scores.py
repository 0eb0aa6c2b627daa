"""Explaining scores, names and parts of an output, against a network that gives them as logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import octoscope
from attribution.quick import quick
from octoscope import targets
from octoscope.attribution.consensus import consensus_of
from octoscope.attribution.explain import explain
from octoscope.attribution.maps import Maps
from octoscope.attribution.registry import METHODS
from octoscope.attribution.store import MapStore
from octoscope.errors import OctoscopeError

NAMES = ["NORMAL", "CNV", "DME", "DRUSEN"]
IMAGES = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))
EMBEDDING = torch.tensor([0.3, -1.0, 2.0, 0.1])
SCORES: dict[str, Any] = {
    "difference": targets.difference("DME", "CNV"),
    "probability": targets.probability(2),
    "not": targets.not_class("NORMAL"),
    "similarity": targets.similar_to(EMBEDDING),
    "function": lambda logits: logits[:, 2].sigmoid() * logits[:, 1] - logits.mean(1),
}
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "difference": lambda y: y[:, 2] - y[:, 1],
    "probability": lambda y: y.softmax(1)[:, 2],
    "not": lambda y: y[:, 1:].logsumexp(1) - y[:, 0],
    "similarity": lambda y: torch.cosine_similarity(y, EMBEDDING[None]),
    "function": SCORES["function"],
}


class Scored(nn.Module):
    """The oracle: a network whose logits are the scores."""

    def __init__(self, network: nn.Module, scores: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.network, self.scores = network, scores

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return torch.stack([score(logits) for score in self.scores], dim=1)


class Given(nn.Module):
    """A network whose output is put into something else."""

    def __init__(self, network: nn.Module, put: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.network, self.put = network, put

    def forward(self, images: Tensor) -> Any:
        return self.put(self.network(images))


@cache
def net(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name == "vit":
        options = {"img_size": 64, "num_heads": 2, "embed_dim": 32, "depth": 2}
        return timm.create_model(
            "vit_tiny_patch16_224", in_chans=1, num_classes=4, **options
        ).eval()
    return timm.create_model("test_resnet", in_chans=1, num_classes=4).eval()


LAYERS = {"cnn": "layer4", "vit": "blocks.1.norm1"}
OF_SCORES = [
    name
    for name, row in METHODS.items()
    if row.explains == "score" and row.class_specific and name not in ("consensus", "rise")
]
"""Methods whose formulas hold for any score; RISE takes a softmax of logits, so it stands apart."""


@cache
def found(name: str, oracle: bool) -> Maps:
    """Every method for every score, of a network and of its oracle."""
    model = net(name)
    kept = [key for key in OF_SCORES if key in defined(name)]
    layer = model.get_submodule(LAYERS[name])
    if oracle:
        scored = Scored(model, list(PLAIN.values()))
        return explain(scored, IMAGES[:2], kept, "all", layer=layer, options=quick(kept))
    wanted = list(SCORES.values())
    return explain(
        model, IMAGES[:2], kept, classes=wanted, class_names=NAMES, layer=layer, options=quick(kept)
    )


@cache
def defined(name: str) -> frozenset[str]:
    """Methods that the oracle has too: a network inside another hides its attention, so not all."""
    scored = Scored(net(name), list(PLAIN.values()))
    maps = explain(
        scored, IMAGES[:1], ["all", "-scorecam"], "all", options=quick(["all", "-scorecam"])
    )
    return frozenset({*maps, "scorecam"})


@pytest.mark.parametrize("method", OF_SCORES)
@pytest.mark.parametrize("name", ["cnn", "vit"])
def test_scores_are_explained_as_logits_are(name: str, method: str) -> None:
    if method not in defined(name):
        pytest.skip("not defined for the oracle")
    if (name, method) == ("vit", "scorecam"):
        pytest.skip("the channels of a layer norm sum to 0: with nearly equal weights, to rounding")
    maps, oracle = found(name, False), found(name, True)
    torch.testing.assert_close(maps.logits, oracle.logits)
    ours, theirs = maps.native[method], oracle.native[method]
    assert ours.shape == theirs.shape and ours.shape[1] == len(SCORES)
    scale = theirs.flatten(2).abs().amax(2)[..., None, None].clamp(min=1e-20)
    assert ((ours - theirs) / scale).abs().max() < 1e-4
    assert maps.scores == (
        "DME − CNV",
        "probability of DME",
        "not NORMAL",
        "similarity",
        "function",
    )


@pytest.mark.parametrize(
    "method", ["chefer", "legrad", "gradient_rollout", "attention_gradcam", "attnlrp"]
)
def test_attention_methods_explain_differences(method: str) -> None:
    """Gradients and relevance are linear in the logits: a difference is that of two classes."""
    model = net("vit")
    maps = explain(model, IMAGES, [method], classes=[targets.difference(2, 1)], signed=True)
    assert maps[method].isfinite().all() and maps[method].abs().max() > 0
    if method == "attnlrp":
        both = explain(model, IMAGES, [method], classes=[2, 1])[method]
        torch.testing.assert_close(
            maps[method][:, 0], both[:, 0] - both[:, 1], atol=1e-6, rtol=1e-4
        )


def test_methods_of_the_head_hold_for_scores_in_closed_form() -> None:
    """Of a difference Ablation-CAM's drops and ReciproCAM's logits are those of both classes."""
    model = net("cnn")
    maps = explain(model, IMAGES, ["reciprocam"], SCORES["difference"], class_names=NAMES)
    both = explain(model, IMAGES, ["reciprocam"], classes=[2, 1]).native["reciprocam"]
    torch.testing.assert_close(
        maps.native["reciprocam"], both[:, 0] - both[:, 1], atol=1e-5, rtol=1e-4
    )


def test_rise_weighs_masks_by_the_score_itself() -> None:
    options = {"rise": {"most": 16, "least": 16}}
    model = net("cnn")
    probability = explain(model, IMAGES, "rise", targets.probability(2), options=options)
    softmax = {"rise": options["rise"] | {"score": "softmax"}}
    of_class = explain(model, IMAGES, "rise", 2, options=softmax)
    torch.testing.assert_close(probability["rise"], of_class["rise"])
    logit = explain(model, IMAGES, "rise", targets.logit(2), options=options)
    shifted = explain(model, IMAGES, "rise", lambda y: y[:, 2] + 0.0, options=options)
    torch.testing.assert_close(logit["rise"], shifted["rise"])
    assert not torch.allclose(logit["rise"], of_class["rise"])


@pytest.mark.parametrize(
    ("method", "score", "reason"),
    [
        ("finercam", SCORES["difference"], "rules are about one class"),
        ("fullgrad", SCORES["probability"], "sums of logits alone"),
        ("fullgrad", SCORES["function"], "sums of logits alone"),
    ],
)
def test_what_is_not_defined_for_a_score_says_why(method: str, score: Any, reason: str) -> None:
    with pytest.raises(OctoscopeError, match=reason):
        explain(net("cnn"), IMAGES, method, score, class_names=NAMES)
    behind = explain(net("cnn"), IMAGES, ["cam", "-scorecam"], score, class_names=NAMES)
    assert reason in behind.refused[method]


def test_fullgrad_of_a_difference_is_complete() -> None:
    maps = explain(net("cnn"), IMAGES, "fullgrad", SCORES["difference"], class_names=NAMES)
    assert maps.details["fullgrad"]["unexplained"].abs().max() < 1e-5


def test_names_are_classes() -> None:
    model = net("cnn")
    by_name = explain(model, IMAGES, targets=["DME", "CNV", "DME"], class_names=NAMES)
    by_index = explain(model, IMAGES, targets=[2, 1, 2])
    assert by_name["gradcam"].equal(by_index["gradcam"])
    assert by_name.target_names() == [["DME"], ["CNV"], ["DME"]]
    several = explain(model, IMAGES, classes=["DRUSEN", 0], class_names=NAMES)
    assert several.target_names()[0] == ["DRUSEN", "NORMAL"]
    model.classes = NAMES  # type: ignore[assignment]
    try:
        assert explain(model, IMAGES, targets="DME")["gradcam"].equal(
            explain(model, IMAGES, targets=2)["gradcam"]
        )
    finally:
        del model.classes


def test_what_a_model_calls_its_classes_need_not_be_right() -> None:
    """An attribute that happens to be called so changes nothing, unless a name is looked up."""
    model = Given(net("cnn"), lambda y: y)
    model.classes = ["a", "b"]  # type: ignore[assignment]
    assert explain(model, IMAGES, "saliency", 3).class_names == ()
    with pytest.raises(OctoscopeError, match="2 names of classes and 4 logits"):
        explain(model, IMAGES, "saliency", "b")


def test_one_score_per_image() -> None:
    model = net("cnn")
    wanted = [SCORES["difference"], SCORES["probability"], SCORES["difference"]]
    each = explain(model, IMAGES, "hirescam", wanted, class_names=NAMES, batch_size=2)
    for k, score in enumerate(wanted):
        alone = explain(model, IMAGES, "hirescam", score, class_names=NAMES)
        torch.testing.assert_close(each["hirescam"][k], alone["hirescam"][k])


def test_test_time_augmentation_averages_scores_too() -> None:
    maps = explain(net("cnn"), IMAGES, "hirescam", SCORES["probability"], tta=True)
    assert maps["hirescam"].shape == (3, 64, 64) and maps.scores == ("probability of class 2",)


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"classes": [0, targets.logit(1)]}, r"mixes scores with the class 0"),
        ({"targets": lambda y: y}, r"gives \(1, 4\) where it must give one"),
        ({"targets": lambda y: y.sum()}, r"gives \(\) where"),
        ({"targets": lambda y: 1.0}, r"gives float where"),
        ({"targets": lambda y: y.argmax(1)}, "has no gradient"),
        ({"targets": lambda y: y[:, 0].detach()}, "has no gradient.*occlusion"),
        ({"targets": targets.difference(0, 9)}, "class 9 does not exist"),
        ({"targets": "DMA", "class_names": NAMES}, r'"DMA" is no class.*"DME"'),
        ({"targets": "DME", "class_names": NAMES[:3]}, "3 names of classes and 4 logits"),
        ({"class_names": ["a", "a"]}, "no list of different names"),
        ({"class_names": ["a", "b"]}, "has 2 names and the model gives 4 logits"),
        ({"output": "logits"}, r"is no part of what the model gives; it gives a tensor \(1, 4\)"),
    ],
)
def test_faults_are_one_sentence(wanted: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OctoscopeError, match=sentence) as caught:
        explain(net("cnn"), IMAGES, **wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("put", "output"),
    [
        (lambda y: {"out": y, "aux": -y}, "out"),
        (lambda y: (-y, y), 1),
        (lambda y: [{"deep": y}], lambda out: out[0]["deep"]),
        (lambda y: y[..., None, None], lambda out: out.flatten(1)),
    ],
)
def test_an_output_is_read_by_every_kind_of_method(put: Any, output: Any) -> None:
    """Of a layer, of the head, of the pixels and of changed images: as the network itself."""
    names = ["gradcam", "reciprocam", "ablationcam", "saliency", "guided_backprop", "occlusion"]
    names += ["fullgrad", "rise"]
    model = net("cnn")
    same: dict[str, Any] = {"targets": 1, "options": quick(names), "signed": True}
    layer = model.get_submodule("layer4")
    maps = explain(Given(model, put), IMAGES, names, output=output, layer=layer, **same)
    plain = explain(model, IMAGES, names, **same)
    torch.testing.assert_close(maps.logits, plain.logits)
    for name in names:
        scale = plain.native[name].abs().max()
        assert ((maps.native[name] - plain.native[name]) / scale).abs().max() < 1e-4, name


def test_a_model_of_many_outputs_without_a_choice_is_told_what_there_is() -> None:
    model = Given(net("cnn"), lambda y: {"out": y, "aux": (y, y)})
    with pytest.raises(OctoscopeError, match=r'a dict with "out": \(\d, 4\).*output='):
        explain(model, IMAGES)
    with pytest.raises(OctoscopeError, match=r"say which tensor the target is of"):
        explain(model, IMAGES, targets=targets.logit(0))


def test_a_segmentation_is_explained_by_a_function_of_it() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    maps = explain(
        network, IMAGES, ["hirescam", "saliency"], lambda y: y[:, 1, :32].mean((1, 2)), layer="1"
    )
    assert maps["hirescam"].shape == (3, 64, 64)
    assert maps["saliency"][:, 40:].abs().max() == 0 < maps["saliency"][:, :32].abs().max()


def test_maps_of_scores_are_not_measured_as_if_of_classes() -> None:
    """Their targets are no class indices, so what measures maps of classes refuses them."""
    model = net("cnn")
    maps = explain(model, IMAGES, "hirescam", classes=[targets.logit(1), targets.logit(0)])
    assert maps.targets == "scores" and maps.score_of is not None
    assert maps.score_of.tolist() == [[0, 1]] * 3
    one = explain(model, IMAGES, "hirescam", targets.logit(1))
    assert one.target_names() == [["class 1"]] * 3
    for measure in (octoscope.sanity, octoscope.stability):
        for wanted in (one.targets, targets.logit(1)):
            with pytest.raises(OctoscopeError, match=r"one class per image|means nothing"):
                measure(model, IMAGES, ["hirescam"], wanted)
    with pytest.raises(OctoscopeError, match="not one class per image"):
        octoscope.faithfulness(model, IMAGES, one, one.targets)
    with pytest.raises(OctoscopeError, match="explain different classes"):
        consensus_of([one, explain(model, IMAGES, "hirescam", targets.logit(2))], "hirescam")


def test_the_model_is_left_as_it_was() -> None:
    model = Given(net("cnn"), lambda y: {"out": y})
    hooks = [len(part._forward_hooks) for part in model.modules()]
    explain(model, IMAGES, targets=targets.logit(0), output="out")
    with pytest.raises(OctoscopeError):
        explain(model, IMAGES, targets=lambda y: y, output="out")
    assert [len(part._forward_hooks) for part in model.modules()] == hooks
    assert set(model(IMAGES)) == {"out"}


def test_a_store_of_classes_refuses_scores(tmp_path: Any) -> None:
    maps = explain(net("cnn"), IMAGES, targets=targets.logit(0))
    store = MapStore.create(tmp_path / "maps.zarr", rows=3, about={})
    with pytest.raises(OctoscopeError, match="keeps maps of classes"):
        store.add(range(3), maps)
