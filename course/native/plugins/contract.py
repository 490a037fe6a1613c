"""What a plugin is asked to be: its names, its attributes, and a reference for its values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from course.errors import CourseError
from course.native.plugins import layouts

Shape = tuple[int, ...]
_FIELD_TYPES = {"float16": 0, "float32": 1, "float64": 2, "int8": 3, "int16": 4, "int32": 5}  # PluginFieldType
_CHAR = 6


@dataclass(frozen=True)
class Contract:
    """The contract of one plugin.

    name, version, namespace: of its creator.
    reference: takes the inputs (float32, or int32) and the attributes by name; returns the output, or a tuple of them. Whole
        numbers in an output stand for INT32, all else for the type of the inputs.
    shapes: one case each: the shapes of the inputs. The first is run most often: give a small, uneven one.
    attributes: name -> value: a number or array of NumPy (its dtype is the field's type), a float (FLOAT32), an int (INT32) or
        a text (CHAR).
    other: attributes of a second plugin, which must not disturb the first; by default floats are 0.75 more.
    types: that must work, the same for all floating-point inputs.
    tolerance: type -> largest error, absolute and relative.
    values: gives an input: (shape, generator of random numbers) -> array.
    """

    name: str
    reference: Callable[..., object]
    shapes: Sequence[Sequence[Shape]]
    version: str = "1"
    namespace: str = ""
    attributes: Mapping[str, object] = field(default_factory=dict)
    other: Mapping[str, object] = field(default_factory=dict)
    types: tuple[str, ...] = ("float32", "float16")
    tolerance: Mapping[str, float] = field(
        default_factory=lambda: {"float32": 2e-5, "float16": 4e-3, "int8": 1.01 * layouts.SCALE, "int32": 0}
    )
    values: Callable[[Shape, np.random.Generator], np.ndarray] = lambda shape, random: random.standard_normal(shape)

    def __post_init__(self) -> None:
        if not self.shapes or len({len(case) for case in self.shapes}) != 1:
            raise CourseError(
                "The contract has no shapes, or cases with different numbers of inputs.",
                f"shapes is {list(self.shapes)}.",
                "Give one tuple of input shapes for each case: shapes=[((3, 5),), ((1,),)].",
            )
        if unknown := set(self.types) - {"float32", "float16"}:
            raise CourseError(
                f"Unknown type {', '.join(sorted(unknown))}.", "types names floating-point types.", 'Use "float32".'
            )

    @property
    def inputs(self) -> int:
        """How many."""
        return len(self.shapes[0])

    def changed(self) -> dict[str, object]:
        """Attributes of the second plugin."""
        return dict(self.other) or {name: _more(value) for name, value in self.attributes.items()}

    def answers(self, inputs: Sequence[np.ndarray], attributes: Mapping[str, object]) -> list[np.ndarray]:
        """The reference's outputs for these inputs."""
        with np.errstate(all="ignore"):
            made = self.reference(*inputs, **attributes)
        return [np.asarray(one) for one in (made if isinstance(made, (tuple, list)) else (made,))]

    def like(self, case: Sequence[Shape], seed: int = 0) -> list[np.ndarray]:
        """Inputs of these shapes, float32."""
        random = np.random.default_rng(seed)
        return [np.asarray(self.values(tuple(shape), random), np.float32) for shape in case]


def encoded(attributes: Mapping[str, object]) -> list[dict]:
    """Attributes as the loader takes them.

    Raises:
        CourseError: a value has a type that no PluginField has.
    """
    return [{"name": name, **_field(name, value)} for name, value in attributes.items()]


def field_type(value: object) -> int:
    """The PluginFieldType of an attribute's value."""
    return int(_field("", value)["type"])


def _field(name: str, value: object) -> dict:
    if isinstance(value, str):
        return {"type": _CHAR, "length": len(value.encode()), "data": value.encode().hex()}
    if isinstance(value, (bool, int)):
        value = np.int32(value)
    elif isinstance(value, float) and not isinstance(value, np.float64):  # which is a float, too
        value = np.float32(value)
    array = np.ascontiguousarray(value)
    if array.dtype.name not in _FIELD_TYPES:
        raise CourseError(
            f"The attribute {name} has type {array.dtype}.",
            "A PluginField holds a float, an int or text.",
            f"Use one of {', '.join(_FIELD_TYPES)}, or a str.",
        )
    return {"type": _FIELD_TYPES[array.dtype.name], "length": array.size, "data": array.tobytes().hex()}


def _more(value: object) -> object:
    """Another value of the same type, if it is a floating-point one."""
    if type(value) is float:
        return value + 0.75
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "f":
        return value + value.dtype.type(0.75)
    return value
