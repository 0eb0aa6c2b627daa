"""Rules of AttnLRP against the propositions of its paper, written out as loops and formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import GELUTanh, GluMlp, QuickGELU, RmsNorm
from torch import Tensor, nn
from torch.nn import functional as F

from octoscope.attribution.lrp.rules import Rules


def relevances(
    run: Callable[..., Tensor], inputs: list[Tensor], relevance: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Return R of every input, given R of the output, and the output."""
    leaves = [one.clone().requires_grad_() for one in inputs]
    with Rules():
        out = run(*leaves)
    gradients = torch.autograd.grad(out, leaves, relevance / out.detach())
    return [leaf.detach() * g for leaf, g in zip(leaves, gradients, strict=True)], out.detach()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_softmax_is_proposition_3_1() -> None:
    x, relevance = drawn(3, 5), drawn(3, 5, seed=1)
    (found,), s = relevances(lambda t: t.softmax(-1), [x], relevance)
    for b in range(3):
        for i in range(5):
            expected = x[b, i] * (relevance[b, i] - s[b, i] * relevance[b].sum())
            assert abs(found[b, i] - expected) <= 1e-5


@pytest.mark.parametrize("product", [torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__])
def test_matmul_is_proposition_3_3(product: Callable[..., Tensor]) -> None:
    a, v, relevance = drawn(1, 4, 3), drawn(1, 3, 2, seed=1), drawn(1, 4, 2, seed=2)
    (of_a, of_v), o = relevances(product, [a, v], relevance)
    for j in range(4):
        for i in range(3):
            terms = [
                a[0, j, i] * v[0, i, p] * relevance[0, j, p] / (2 * o[0, j, p]) for p in range(2)
            ]
            assert abs(of_a[0, j, i] - sum(terms)) <= 1e-5
    for i in range(3):
        for p in range(2):
            terms = [
                a[0, j, i] * v[0, i, p] * relevance[0, j, p] / (2 * o[0, j, p]) for j in range(4)
            ]
            assert abs(of_v[0, i, p] - sum(terms)) <= 1e-5
    assert of_a.sum() == pytest.approx(float(relevance.sum()) / 2)  # and thus conserved
    assert of_v.sum() == pytest.approx(float(relevance.sum()) / 2)


def test_a_constant_factor_takes_no_relevance() -> None:
    a, v, relevance = drawn(4, 3), drawn(3, 2, seed=1), drawn(4, 2, seed=2)
    (found,), _ = relevances(lambda t: a @ t, [v], relevance)
    assert found.sum() == pytest.approx(float(relevance.sum()))
    (found,), _ = relevances(lambda t: t * a, [drawn(4, 3, seed=5)], a)
    torch.testing.assert_close(found, a, atol=1e-5, rtol=0)


@pytest.mark.parametrize("product", [torch.mul, Tensor.mul, Tensor.__mul__])
def test_a_gate_shares_half_and_half(product: Callable[..., Tensor]) -> None:
    x, gate, relevance = drawn(6), drawn(6, seed=1), drawn(6, seed=2)
    (of_x, of_gate), _ = relevances(product, [x, gate], relevance)
    torch.testing.assert_close(of_x, relevance / 2, atol=1e-5, rtol=0)
    torch.testing.assert_close(of_gate, relevance / 2, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "activation", [nn.GELU(), GELUTanh(), nn.SiLU(), QuickGELU(), nn.ReLU()], ids=str
)
def test_functions_of_one_number_keep_relevance(activation: nn.Module) -> None:
    x = drawn(50)
    x[0] = 0
    leaf = x.clone().requires_grad_()
    with Rules():
        out = activation(leaf)
    torch.testing.assert_close(out.detach(), activation(x), atol=1e-12, rtol=1e-12)
    relevance = torch.where(activation(x) == 0, 0, drawn(50, seed=1))  # nothing came from nothing
    upper = torch.where(relevance == 0, 1.0, relevance / out.detach())
    (gradient,) = torch.autograd.grad(out, leaf, upper)
    assert gradient.isfinite().all()
    torch.testing.assert_close(x * gradient, relevance, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mask", ["none", "added", "boolean", "causal"])
def test_fused_attention_is_its_parts(mask: str) -> None:
    """Softmax and two products by formula: V has half of its gradient, Q and K a quarter."""
    q, k, v = drawn(2, 2, 5, 4), drawn(2, 2, 5, 4, seed=1), drawn(2, 2, 5, 4, seed=2)
    options: dict[str, Any] = {
        "none": {},
        "added": {"attn_mask": drawn(2, 5, 5, seed=3)},
        "boolean": {"attn_mask": torch.ones(5, 5, dtype=torch.bool).tril()},
        "causal": {"is_causal": True},
    }[mask]
    relevance = drawn(2, 2, 5, 4, seed=4)
    found, out = relevances(
        lambda *parts: F.scaled_dot_product_attention(*parts, **options), [q, k, v], relevance
    )
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v, **options))
    products = q @ k.mT / 2
    logits = products + options.get("attn_mask", 0) if mask == "added" else products
    if mask in ("boolean", "causal"):
        logits = logits.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    a = logits.softmax(-1)
    of_a = torch.einsum("bhji,bhip,bhjp->bhji", a, v, relevance / (2 * out))
    of_v = torch.einsum("bhji,bhip,bhjp->bhip", a, v, relevance / (2 * out))
    of_logits = logits * (of_a - a * of_a.sum(-1, keepdim=True))
    share = (of_logits / logits).nan_to_num() / 2  # per product, as an added mask is a bias
    of_q = torch.einsum("bhid,bhjd,bhij->bhid", q / 2, k, share)
    of_k = torch.einsum("bhid,bhjd,bhij->bhjd", q / 2, k, share)
    for one, expected in zip(found, (of_q, of_k, of_v), strict=True):
        torch.testing.assert_close(one, expected, atol=1e-5, rtol=1e-5)
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    plain = torch.autograd.grad(
        F.scaled_dot_product_attention(*leaves, **options), leaves, relevance / out
    )
    for one, leaf, gradient, factor in zip(found, leaves, plain, (4, 4, 2), strict=True):
        torch.testing.assert_close(one, leaf.detach() * gradient / factor, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(affine: bool) -> None:
    """Centring by the ε-rule, the identity for the deviation, and the bias keeps its part."""
    norm = nn.LayerNorm(6, elementwise_affine=affine).double()
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    norm.requires_grad_(False)
    x, relevance = drawn(3, 6), drawn(3, 6, seed=1)
    (found,), out = relevances(norm, [x], relevance)
    torch.testing.assert_close(out, norm(x), atol=1e-10, rtol=1e-10)
    bias = norm.bias if affine else torch.zeros(6)
    of_scaled = relevance * (out - bias) / out
    centred = x - x.mean(1, keepdim=True)
    expected = torch.zeros_like(x)
    for j in range(6):
        for i in range(6):
            expected[:, i] += x[:, i] * ((i == j) - 1 / 6) * of_scaled[:, j] / centred[:, j]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.sum() == pytest.approx(float((relevance - relevance * bias / out).sum()))


@pytest.mark.parametrize("norm", [nn.RMSNorm(6), RmsNorm(6)], ids=lambda n: type(n).__name__)
def test_rms_norm_keeps_relevance(norm: nn.Module) -> None:
    norm = norm.double().requires_grad_(False)
    x, relevance = drawn(3, 6), drawn(3, 6, seed=1)
    (found,), out = relevances(norm, [x], relevance)
    torch.testing.assert_close(out, norm(x), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(found, relevance, atol=1e-5, rtol=0)


def test_without_biases_relevance_is_conserved() -> None:
    """A perceptron with norm and gates: R sums to the logit, which plain input × gradient misses.

    What biases there are keep b_i R_i / z_i, and nothing else is lost.
    """
    torch.manual_seed(0)
    gated = GluMlp(8, 12, act_layer=nn.SiLU, bias=False, gate_last=False)
    tail = nn.Linear(8, 1, bias=False)
    network = nn.Sequential(nn.Linear(8, 8, bias=False), nn.GELU(), nn.LayerNorm(8, bias=False))
    network = network.extend([gated, tail]).double().requires_grad_(False)
    x = drawn(4, 8)
    (found,), out = relevances(network, [x], network(x))
    torch.testing.assert_close(found.sum(1), out[:, 0], atol=1e-10, rtol=1e-8)
    leaf = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(network(leaf).sum(), leaf)
    assert ((x * plain).sum(1) - out[:, 0]).abs().max() > 1e-3

    biased = nn.Linear(8, 3).double().requires_grad_(False)
    (found,), z = relevances(biased, [x], relevance := drawn(4, 3, seed=1))
    kept = (biased.bias * relevance / z).sum(1)
    torch.testing.assert_close(found.sum(1) + kept, relevance.sum(1))


def test_the_context_ends_with_an_exception() -> None:
    before = torch._C._len_torch_function_stack()
    with pytest.raises(RuntimeError), Rules():
        torch.zeros(2) @ torch.zeros(3)
    assert torch._C._len_torch_function_stack() == before
    x = drawn(5).requires_grad_()
    (gradient,) = torch.autograd.grad(F.gelu(x).sum(), x)
    (again,) = torch.autograd.grad(torch._C._nn.gelu(x).sum(), x)
    assert gradient.equal(again)
