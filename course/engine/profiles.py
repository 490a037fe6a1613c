"""Optimisation profiles: written, suggested and checked before any runtime sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from course.engine.types import OnnxSource, Shape
from course.errors import ProfileError

_NAMES = ("min", "opt", "max")
_FIX_SHAPES = 'Write it as Profile({"image": ((1, 3, 224, 224), (8, 3, 224, 224), (32, 3, 224, 224))}).'


@dataclass(frozen=True)
class Profile:
    """The shapes that an engine accepts: the smallest, the usual and the largest of each dynamic input.

    TensorRT tunes its kernels for the usual one and refuses shapes outside the range.
    Inputs without a dynamic dimension need no entry.

    Args:
        shapes: input name -> (min, opt, max).

    Raises:
        ProfileError: an entry is not three shapes of whole numbers.
    """

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", _tidy(self.shapes))

    @staticmethod
    def batch(onnx: OnnxSource, min: int, opt: int, max: int) -> Profile:
        """Profile in which only the batch varies: dimension 0 of every input that leaves it open.

        Raises:
            ProfileError: the model has no open batch dimension, or leaves another dimension open too.
        """
        return _batch_profile(onnx, min, opt, max)


def _tidy(shapes: Mapping) -> dict[str, tuple]:
    """The same shapes as tuples of int.

    Raises:
        ProfileError: not a mapping of name -> three shapes.
    """
    if not isinstance(shapes, Mapping):
        raise ProfileError(
            f"Profile({shapes!r}) is not possible.", "It needs a dict: input name -> (min, opt, max).", _FIX_SHAPES
        )
    result = {}
    for name, ranges in shapes.items():
        try:
            ranges = tuple(tuple(_whole(dim) for dim in shape) for shape in ranges)
        except (TypeError, ValueError) as error:
            raise ProfileError(
                f"The profile of input {name!r} is not possible.",
                f"It must be three shapes of whole numbers, and is {ranges!r}.",
                _FIX_SHAPES,
            ) from error
        if len(ranges) != 3:
            raise ProfileError(
                f"The profile of input {name!r} is not possible.",
                f"It needs three shapes (min, opt, max) and has {len(ranges)}.",
                _FIX_SHAPES,
            )
        result[name] = ranges
    return result


def _batch_profile(onnx: OnnxSource, low: int, usual: int, high: int) -> Profile:
    """See `Profile.batch`."""
    from course.engine import graph  # it needs onnx, which a program that only loads an engine does not

    model = graph.read(onnx)
    inputs = graph.inputs(model.proto)
    dynamic = {name: dims for name, dims in inputs.items() if -1 in dims}
    if not any(dims[0] == -1 for dims in dynamic.values()):
        shapes = ", ".join(f"{name} {list(dims)}" for name, dims in inputs.items())
        raise ProfileError(
            f"{model.name} has no open batch dimension.",
            f"Its inputs are {shapes}.",
            "Export it with a dynamic dimension 0, or build it without a profile.",
        )
    for name, dims in dynamic.items():
        if -1 in dims[1:]:
            raise ProfileError(
                f"Input {name!r} of {model.name} leaves more open than the batch: {list(dims)}.",
                "Profile.batch sets dimension 0 only.",
                f"Write all shapes yourself, for example {suggest(dynamic)}.",
            )
    return Profile({name: tuple((batch, *dims[1:]) for batch in (low, usual, high)) for name, dims in dynamic.items()})


def check(name: str, inputs: Mapping[str, tuple[int, ...]], profiles: tuple) -> None:
    """Check profiles against the model's inputs (name -> shape with -1 for a dynamic dimension).

    Raises:
        ProfileError: names the profile, the input, the dimension and the value.
    """
    dynamic = {key: dims for key, dims in inputs.items() if -1 in dims}
    if dynamic and not profiles:
        which = ", ".join(f"{key!r} {list(dims)}" for key, dims in dynamic.items())
        raise ProfileError(
            f"{name} needs an optimisation profile.",
            f"These inputs have dynamic dimensions (-1): {which}.",
            f"Build with BuildConfig(profiles=({suggest(dynamic)},)), with the sizes that you will use.",
        )
    for index, profile in enumerate(profiles):
        what = f"Optimisation profile {index} does not fit {name}."
        for key in dynamic:
            if key not in profile.shapes:
                raise ProfileError(
                    what,
                    f"Input {key!r} {list(dynamic[key])} is dynamic and has no entry.",
                    f"Add it, for example {suggest({key: dynamic[key]})}.",
                )
        for key, ranges in profile.shapes.items():
            if key not in inputs:
                raise ProfileError(
                    what,
                    f"The model has no input {key!r}; it has {', '.join(inputs) or 'none'}.",
                    "Use the model's own input names.",
                )
            _check_ranges(what, key, inputs[key], ranges)


def _check_ranges(what: str, key: str, dims: tuple[int, ...], ranges: tuple) -> None:
    for word, shape in zip(_NAMES, ranges):
        if len(shape) != len(dims):
            raise ProfileError(
                what,
                f"The {word} shape of input {key!r} has {len(shape)} dimensions "
                f"{list(shape)}, the model's has {len(dims)} {list(dims)}.",
                f"Write one number for each of the {len(dims)} dimensions.",
            )
        for axis, (value, fixed) in enumerate(zip(shape, dims)):
            if fixed != -1 and value != fixed:
                raise ProfileError(
                    what,
                    f"Dimension {axis} of input {key!r} is {value} in the {word} shape, "
                    f"but the model fixes it to {fixed}.",
                    f"Write {fixed} there, or export the model with dimension {axis} dynamic.",
                )
            if value < 1:
                raise ProfileError(
                    what,
                    f"Dimension {axis} of input {key!r} is {value} in the {word} shape.",
                    "Write a number of at least 1.",
                )
    for axis, (low, usual, high) in enumerate(zip(*ranges)):
        if not low <= usual <= high:
            raise ProfileError(
                what,
                f"Dimension {axis} of input {key!r} has min {low}, opt {usual}, max {high}.",
                "Choose numbers with min <= opt <= max.",
            )


def suggest(dynamic: Mapping[str, tuple[int, ...]]) -> str:
    """A Profile to copy: batch 1, 8, 32 and, where other dimensions are open, sizes around 224."""
    entries = (f'"{key}": ({", ".join(map(str, shapes))})' for key, shapes in usual_shapes(dynamic).items())
    return "Profile({" + ", ".join(entries) + "})"


def usual_shapes(dynamic: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Input name -> the shapes of `suggest`: smallest, usual, largest."""

    def shape(dims, batch, size):
        return tuple(dim if dim != -1 else batch if axis == 0 else size for axis, dim in enumerate(dims))

    return {key: (shape(dims, 1, 128), shape(dims, 8, 224), shape(dims, 32, 256)) for key, dims in dynamic.items()}


def _whole(dim) -> int:
    if isinstance(dim, bool) or int(dim) != dim:
        raise ValueError(dim)
    return int(dim)
