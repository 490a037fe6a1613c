"""Inputs, checked against what an engine takes before any runtime sees them: one set of rules and words."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from course.engine.profiles import Profile
from course.engine.types import TensorSpec
from course.errors import DtypeError, ProfileError, ShapeError

PROBES = (0, 1, 2, 8, 32)
"""Values that a model is tried with: an index or a mask may be 0, a size or a factor may not."""


def check(
    inputs: tuple[TensorSpec, ...], profiles: tuple[Profile, ...], feeds: Mapping[str, Any], profile: int
) -> Literal["numpy", "torch"]:
    """Check names, kinds, dtypes, shapes and the optimisation profile; says which kind of array was fed.

    Raises:
        ShapeError: an input is missing, unknown, or has a shape that the model does not take.
        DtypeError: not an array, arrays of two kinds, or another dtype.
        ProfileError: no such profile, or a shape outside it.
    """
    if isinstance(profile, bool) or not isinstance(profile, int) or not 0 <= profile < max(1, len(profiles)):
        raise ProfileError(
            f"There is no optimisation profile {profile!r}.",
            f"The engine has {max(1, len(profiles))}, counted from 0.",
            "Pass one of these as profile=….",
        )
    _check_names(inputs, feeds)
    kinds = {name: _kind(name, array) for name, array in feeds.items()}
    if len(set(kinds.values())) > 1:
        raise DtypeError(
            "The inputs are of two kinds.",
            ", ".join(f"{name!r} is a {kind} array" for name, kind in kinds.items()) + ".",
            "Feed only NumPy arrays or only torch tensors.",
        )
    kind = next(iter(kinds.values()), "numpy")
    for spec in inputs:
        _check_dtype(spec, feeds[spec.name], kind)
        _check_shape(spec, tuple(feeds[spec.name].shape), kind)
    if len(inputs) > 1:
        _check_agreement(inputs, feeds)
    if profiles:
        _check_profile(profiles, profile, {spec.name: tuple(feeds[spec.name].shape) for spec in inputs})
    return kind


def _check_names(inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Any]) -> None:
    if not isinstance(feeds, Mapping):
        raise DtypeError(
            f"The inputs are a {type(feeds).__name__}.",
            "They must be a dict: input name -> array.",
            "Write engine.run({" + ", ".join(f'"{spec.name}": …' for spec in inputs) + "}).",
        )
    names = [spec.name for spec in inputs]
    if feeds.keys() == set(names):
        return
    has = f"The engine's inputs are {', '.join(repr(name) for name in names) or 'none'}."
    for name in feeds:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, 1)
            raise ShapeError(
                f"The engine has no input {name!r}.",
                has,
                f"Did you mean {close[0]!r}?" if close else "Leave it out, or use such a name.",
            )
    for spec in inputs:
        if spec.name not in feeds:
            raise ShapeError(
                f"Input {spec.name!r} is missing.", has, f'Add "{spec.name}": an array {spec.dtype} {list(spec.shape)}.'
            )


def _kind(name: str, array: Any) -> str:
    if isinstance(array, np.ndarray):
        return "numpy"
    torch = sys.modules.get("torch")  # an array can only be a tensor if somebody imported torch
    if torch is not None and isinstance(array, torch.Tensor):
        return "torch"
    raise DtypeError(
        f"Input {name!r} is a {type(array).__name__}.",
        "It must be a NumPy array or a torch tensor.",
        f"Convert it with np.asarray({name}).",
    )


def _check_dtype(spec: TensorSpec, array: Any, kind: str) -> None:
    if array.dtype is spec.dtype:
        return  # NumPy's own dtypes exist once; the words below take longer than a small engine
    got = str(array.dtype).removeprefix("torch.")
    if got != str(spec.dtype):
        if kind == "numpy" and spec.dtype == "bfloat16":
            fix = f"NumPy has no bfloat16: feed torch.from_numpy({spec.name}).to(torch.bfloat16)."
        else:
            fix = f"Convert it with {spec.name}." + (
                f"astype(np.{spec.dtype})." if kind == "numpy" else f"to(torch.{spec.dtype})."
            )
        raise DtypeError(f"Input {spec.name!r} has dtype {got}.", f"The engine takes {spec.dtype}.", fix)


def _check_shape(spec: TensorSpec, shape: tuple[int, ...], kind: str) -> None:
    what = f"Input {spec.name!r} has shape {list(shape)}."
    takes = f"The engine takes {list(spec.shape)}" + (" (-1 is free)." if -1 in spec.shape else ".")
    if len(shape) == len(spec.shape) and _fits(shape, spec.shape):
        return
    if len(shape) == len(spec.shape) - 1 and _fits(shape, spec.shape[1:]):
        raise ShapeError(what, takes, f"The batch dimension is missing: feed {spec.name}[None].")
    if len(shape) == len(spec.shape) == 4 and _fits((shape[0], shape[3], shape[1], shape[2]), spec.shape):
        move = "transpose" if kind == "numpy" else "permute"
        raise ShapeError(
            what, takes, f"The channels are last and should be second: feed {spec.name}.{move}(0, 3, 1, 2)."
        )
    if len(shape) != len(spec.shape):
        raise ShapeError(what, takes, f"Give it {len(spec.shape)} dimensions instead of {len(shape)}.")
    axis = next(i for i, (got, want) in enumerate(zip(shape, spec.shape)) if want not in (-1, got))
    raise ShapeError(
        what,
        takes,
        f"Dimension {axis} is {shape[axis]} and must be {spec.shape[axis]}; "
        "check the preprocessing, or export the model for this size.",
    )


def _check_agreement(inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Any]) -> None:
    """Dimensions of one name have one size. TensorRT 8.6 crashes the process where they have not."""
    first: dict[str, tuple[str, int]] = {}
    for spec in inputs:
        for name, size in zip(spec.dims, feeds[spec.name].shape):
            other, expected = first.setdefault(name, (spec.name, size)) if name else (spec.name, size)
            if size != expected:
                shapes = [f"{n} {list(feeds[n].shape)}" for n in (other, spec.name)]
                raise ShapeError(
                    f"Inputs {other!r} and {spec.name!r} do not belong together.",
                    f"Dimension {name!r} is {expected} in {shapes[0]} and {size} in {shapes[1]}.",
                    f"Feed both with the same {name!r}.",
                )


def _fits(shape: tuple[int, ...], spec: tuple[int, ...]) -> bool:
    return all(want in (-1, got) for got, want in zip(shape, spec))


def _check_profile(profiles: tuple[Profile, ...], chosen: int, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, (low, _, high) in profiles[chosen].shapes.items():
        for axis, (value, least, most) in enumerate(zip(shapes[name], low, high)):
            if not least <= value <= most:
                fitting = [i for i, other in enumerate(profiles) if _inside(other, shapes)]
                raise ProfileError(
                    f"Input {name!r} {list(shapes[name])} is outside optimisation profile {chosen}.",
                    f"Dimension {axis} is {value}; the profile goes from {least} to {most}.",
                    f"Pass profile={fitting[0]}, which holds it."
                    if fitting
                    else "Feed a shape inside it, or build the engine with a profile that holds this one.",
                )


def _inside(profile: Profile, shapes: dict[str, tuple[int, ...]]) -> bool:
    return all(
        least <= value <= most
        for name, (low, _, high) in profile.shapes.items()
        for value, least, most in zip(shapes[name], low, high)
    )
