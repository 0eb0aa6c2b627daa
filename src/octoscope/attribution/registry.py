"""The registry of methods: what `explain` plans by, and what lists, docs and menus are drawn from.

A method is a pure function whose parameters are its `needs`. `explain` collects the needs of all
methods asked for, computes each source once per batch, and calls each function with what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from octoscope.attribution import consensus, nulls
from octoscope.attribution.attention import rows as attention
from octoscope.attribution.attention import sources as attention_sources
from octoscope.attribution.cam import rows as cam
from octoscope.attribution.cam import sources as cam_sources
from octoscope.attribution.head import rows as head
from octoscope.attribution.head import sources as head_sources
from octoscope.attribution.inputs import rows as inputs
from octoscope.attribution.inputs import sources as inputs_sources
from octoscope.attribution.lrp import rows as lrp
from octoscope.attribution.lrp import sources as lrp_sources
from octoscope.attribution.method import Explained, Method
from octoscope.attribution.names import Spellings
from octoscope.attribution.perturbation import rows as perturbation
from octoscope.attribution.perturbation import sources as perturbation_sources
from octoscope.attribution.source import Source
from octoscope.errors import OctoscopeError, did_you_mean
from octoscope.models.borrow import eager

METHODS: dict[str, Method] = {
    row.name: row
    for family in (cam, head, attention, lrp, perturbation, inputs, consensus, nulls)
    for row in family.ROWS
}
"""Every method by its key, in the order that lists show."""

COMMON = (
    Source("images", lambda batch: batch.images, "the images"),
    Source("logits", lambda batch: batch.evidence.logits, "the logits"),
    Source("classes", lambda batch: batch.classes, "the class", per_class=True),
)
"""What every pass gives."""

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        *COMMON,
        *cam_sources.SOURCES,
        *head_sources.SOURCES,
        *attention_sources.SOURCES,
        *lrp_sources.SOURCES,
        *perturbation_sources.SOURCES,
        *inputs_sources.SOURCES,
    )
}
"""Everything that methods are functions of, by the name of the parameter."""

SPELLINGS = Spellings((row.name, row.title) for row in METHODS.values())
"""Every way of writing a method: key, title, and the names of papers and other libraries."""

FAMILIES = tuple(dict.fromkeys(method.family for method in METHODS.values()))
"""Names that stand for all methods of a family."""


def methods_named(names: str | Iterable[str]) -> tuple[Method, ...]:
    """Look up methods.

    Args:
        names: A key in any spelling (``"GradCAM"``), a family (``"cam"``), several of both, or
            ``"all"``; with ``-`` before a key or family, what is left out (``["all",
            "-scorecam"]``).

    Returns:
        The rows in the order asked for, each once.

    Raises:
        OctoscopeError: If a key is unknown, with the nearest one, or none is given.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if not isinstance(name, str):
            raise OctoscopeError(f"{name!r} is no name of a method; known are {', '.join(METHODS)}")
    found: dict[str, Method] = {}
    for name in wanted:
        if not name.startswith("-"):
            found |= _behind(name)
    for name in wanted:
        if name.startswith("-"):
            found = {key: row for key, row in found.items() if key not in _behind(name[1:])}
    if not found and wanted:
        raise OctoscopeError(
            f"{', '.join(wanted)} leaves no method; name what to leave it out of, as in "
            "all,-scorecam"
        )
    if not found:
        raise OctoscopeError(f"no method is asked for; known are {', '.join(METHODS)}")
    return tuple(found.values())


def _behind(name: str) -> dict[str, Method]:
    """Return the methods that a key, a family or ``"all"`` stands for."""
    if name == "all":
        return METHODS
    if name in FAMILIES:
        return {key: row for key, row in METHODS.items() if row.family == name}
    if (key := SPELLINGS.key_of(name)) is not None:
        return {key: METHODS[key]}
    known = [*METHODS, *FAMILIES, "all"]
    raise OctoscopeError(
        f'method "{name}" is not known{did_you_mean(name, known)}; '
        f"known are {', '.join(METHODS)}, the families {', '.join(FAMILIES)}, and all"
    )


def named_in(names: str | Iterable[str]) -> frozenset[str]:
    """Return the methods that are asked for by their own name, not by that of a family alone."""
    wanted = [names] if isinstance(names, str) else names
    of_several = {"all", *FAMILIES} - METHODS.keys()  # consensus is a family of one
    own = (SPELLINGS.key_of(name) for name in wanted if name not in of_several)
    return frozenset(key for key in own if key is not None)


def methods_for(
    model: nn.Module, names: str | Iterable[str], axes: int, explained: Explained = "class"
) -> tuple[tuple[Method, ...], dict[str, str]]:
    """Look up methods and tell which are defined for a model.

    A method asked for by its own name must be defined; those that stand behind ``"all"`` or a
    family are left out if they are not.

    Args:
        model: The model to explain.
        names: As for `methods_named`.
        axes: Number of spatial axes of the images.
        explained: What the maps are to be of.

    Returns:
        The methods that are defined, and the name of each left out → the reason.

    Raises:
        OctoscopeError: If a name is unknown, a method asked for by name is not defined, or none is.
    """
    wanted = [names] if isinstance(names, str) else list(names)
    named = named_in(wanted)
    defined, refused = sorted_out(model, methods_named(wanted), axes, explained)
    for name, reason in refused.items():
        if name in named:
            raise OctoscopeError(f"{METHODS[name].title} is not defined here: {reason}")
    if not defined:
        raise OctoscopeError(f"none of the methods is defined here: {next(iter(refused.values()))}")
    return defined, refused


def sorted_out(
    model: nn.Module, methods: Iterable[Method], axes: int, explained: Explained = "class"
) -> tuple[tuple[Method, ...], dict[str, str]]:
    """Tell which of some methods are defined for a model, and why the others are not.

    Args:
        model: The model to explain.
        methods: Rows of the registry.
        axes: Number of spatial axes of the images.
        explained: What the maps are to be of.

    Returns:
        The methods that are defined, and the name of each that is not → the reason.
    """
    asked, module = tuple(methods), eager(model)
    refused = {
        method.name: reason
        for method in asked
        if (reason := _reason(method, module, axes, explained)) is not None
    }
    left = [method for method in asked if method.name not in refused]
    if (reason := consensus.too_few(left)) is not None:
        refused |= {method.name: reason for method in left if "maps" in method.needs}
    return tuple(method for method in asked if method.name not in refused), refused


def _reason(method: Method, module: nn.Module, axes: int, explained: Explained) -> str | None:
    """Say why a method is not defined, None if it is."""
    if explained != "class" and method.explains == "class":
        return "its rules are about one class; give a class, or use another method for this target"
    if explained == "score" and method.explains == "linear":
        return (
            "its map adds up to sums of logits alone, such as a class or octoscope.targets."
            "difference; use integrated_gradients or gradcam for this target"
        )
    if axes not in method.dims:
        return f"it is not defined for {axes} spatial axes; leave it out"
    try:
        method.requires(module)
    except OctoscopeError as error:
        return str(error)
    return None


def settings_of(
    methods: Iterable[Method],
    given: Mapping[str, Mapping[str, Any]] | None,
    *,
    scored: bool = False,
) -> dict[str, Any]:
    """Return the settings of every method, defaults where none are given.

    Args:
        methods: Methods asked for.
        given: Method name → field → value.
        scored: Whether scores are explained. A setting ``score``, which says what is made of the
            logits of classes, is then the score as it is.

    Returns:
        Method name → instance of its settings, for all that have any in the registry, because a
        method may rest on another's source.

    Raises:
        OctoscopeError: If a method or field is unknown, or a value is refused.
    """
    asked = {method.name for method in methods}
    wanted = {
        SPELLINGS.key_of(str(name)) or str(name): value for name, value in (given or {}).items()
    }
    if len(wanted) != len(given or {}):
        raise OctoscopeError(f"options: a method is named twice among {', '.join(given or {})}")
    for name in wanted:
        if name not in METHODS or METHODS[name].settings is None:
            having = [key for key, row in METHODS.items() if row.settings is not None]
            raise OctoscopeError(
                f'options: "{name}" is no method with settings{did_you_mean(name, having)}; '
                f"those with some are {', '.join(having)}"
            )
        if name not in asked:
            raise OctoscopeError(f"options: {name} is set, but not among the methods asked for")
    found = {}
    for name, method in METHODS.items():
        if method.settings is None:
            continue
        values = wanted.get(name, {})
        if not isinstance(values, Mapping):
            raise OctoscopeError(
                f"options: {name}={values!r} is no dict of settings; give it such as "
                f'{{"{name}": {{"{fields(method.settings)[0].name}": …}}}}'
            )
        known = [field.name for field in fields(method.settings)]
        if scored and "score" in known:
            if "score" in values:
                raise OctoscopeError(
                    f"options: {name} has score={values['score']!r}, which is made of the logits "
                    "of classes; the target given is the score already, so leave it out"
                )
            values = {**values, "score": "logit"}
        for key in values:
            if key not in known:
                raise OctoscopeError(
                    f'options: {name} has no setting "{key}"{did_you_mean(key, known)}; '
                    f"it has {', '.join(known)}"
                )
        try:
            found[name] = method.settings(**values)
        except TypeError as error:  # a check compared what cannot be compared
            raise OctoscopeError(
                f"options: {name} has a setting of the wrong kind among {dict(values)}: {error}"
            ) from error
    return found
