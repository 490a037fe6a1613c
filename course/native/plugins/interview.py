"""The first part of an examination: what the creator and the plugin say, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from course.native.plugins import layouts
from course.native.plugins.contract import Contract, encoded, field_type
from course.native.plugins.report import Finding
from course.native.plugins.session import Answers

MOST = 100  # combinations of formats, as kFORMAT_COMBINATION_LIMIT
_SPACE = "course.examination"  # a namespace that no plugin has by itself


@dataclass(frozen=True)
class Spoken:
    """What later parts need to know: combinations (type, format) of all tensors that the plugin takes."""

    accepted: tuple[tuple[tuple[int, int], ...], ...] = ()


def steps(contract: Contract, outputs: int) -> list[dict]:
    """The program."""
    attributes = encoded(contract.attributes)
    case = max(contract.shapes, key=lambda shapes: min(map(len, shapes)))
    answers = contract.answers(contract.like(case), contract.attributes)
    shapes = [*map(tuple, case), *(one.shape for one in answers)]
    tensors = [tensor(shape) for shape in shapes]
    asked = [layouts.asked(len(shape)) for shape in shapes]
    program = [
        {"do": "creators", "name": contract.name, "version": contract.version},
        {"do": "fields"},
        {"do": "create", "as": "warm", "attributes": attributes},  # what is made once for all plugins is no leak
        {"do": "clone", "of": "warm", "as": "warm2"},
        {"do": "destroy", "of": "warm"},
        {"do": "destroy", "of": "warm2"},
        {"do": "note"},
        {"do": "create", "as": "a", "attributes": attributes},
        {"do": "identity", "of": "a"},
        {"do": "set_namespace", "of": "a", "namespace": _SPACE},
        {"do": "identity", "of": "a"},
        {"do": "clone", "of": "a", "as": "b"},
        {"do": "identity", "of": "b"},
        *(
            {"do": "output_type", "of": "a", "types": [layouts.TYPES[name]] * contract.inputs, "outputs": outputs}
            for name in contract.types
        ),
        *(
            {"do": "shape", "of": "a", "inputs": [tensor(shape, known) for shape in one], "outputs": outputs}
            for one in contract.shapes
            for known in (False, True)
        ),
        {"do": "formats", "of": "a", "inputs": contract.inputs, "tensors": tensors, "asked": asked, "most": MOST},
        {"do": "serialize", "of": "a"},
        {"do": "serialize", "of": "b"},
        {"do": "deserialize", "of": "a", "as": "c"},
        {"do": "serialize", "of": "c"},
        {"do": "identity", "of": "c"},
        {"do": "create", "as": "d", "attributes": attributes[::-1]},
        {"do": "serialize", "of": "d"},
        *({"do": "destroy", "of": name} for name in "badc"),
        {"do": "kept"},
        {"do": "create", "as": "e", "attributes": []},
        {"do": "destroy", "of": "e"},
    ]
    return program


def tensor(shape: Sequence[int], known: bool = True, kind: int = 0, layout: int = 0) -> dict:
    """As the loader takes it. known=False: all sides are -1."""
    dims = [int(side) if known else -1 for side in shape]
    return {
        "type": kind,
        "format": layout,
        "scale": layouts.SCALE if kind == layouts.TYPES["int8"] else 1.0,
        "dims": dims,
    }


class Judge:
    """Findings from the answers to `steps`."""

    def __init__(self, contract: Contract, program: Sequence[dict], answers: Answers):
        self.contract, self.program, self.answers = contract, program, answers
        case = max(contract.shapes, key=lambda shapes: min(map(len, shapes)))
        self.kinds = [one.dtype.kind for one in contract.answers(contract.like(case), contract.attributes)]

    def all(self, do: str, of: str | None = None) -> list:
        """Answers to the steps of this kind."""
        return [
            self.answers.steps[number]
            for number, step in enumerate(self.program)
            if step["do"] == do and (of is None or step.get("of") == of) and number in self.answers.steps
        ]

    def creator(self) -> Iterator[Finding]:
        """Found by name, version and namespace; its fields."""
        contract, listed = self.contract, (self.all("creators") or [None])[0]
        if listed is None:
            return
        chosen = listed["chosen"]
        if chosen is None:
            newer = any(one["generation"] == 3 for one in listed["creators"])
            what = "only creators of the generation V3 are registered" if newer else "no creator is registered"
            yield Finding("not-registered", "", f"{what}, so TensorRT does not find the plugin")
            return
        if chosen["name"] != contract.name:
            yield Finding(
                "wrong-name", "getPluginName", f"it says {chosen['name']!r}, and {contract.name!r} is looked for"
            )
        if chosen["version"] != contract.version:
            message = f"it says {chosen['version']!r}, and {contract.version!r} is looked for"
            yield Finding("wrong-version", "getPluginVersion", message)
        space = chosen["namespace"] or chosen["library_namespace"]
        if chosen["namespace"] is None or space != contract.namespace:
            message = f"it says {chosen['namespace']!r}, and {contract.namespace!r} is looked for"
            yield Finding("wrong-namespace", "getPluginNamespace", message)
        for first, second in self.all("fields"):
            yield from self._fields(first, second)

    def _fields(self, first: dict, second: dict) -> Iterator[Finding]:
        if first["null"] or first != second:
            message = "it returns nullptr" if first["null"] else "two calls do not say the same"
            yield Finding("fields-die", "getFieldNames", message)
            return
        types = {one["name"]: one["type"] for one in first["fields"]}
        for name, value in self.contract.attributes.items():
            if name not in types:
                known = ", ".join(map(str, types)) or "no field"
                yield Finding("field-missing", "getFieldNames", f"the attribute {name} is missing; it lists {known}")
            elif types[name] != field_type(value):
                message = f"the attribute {name} has type {types[name]} there, and is passed as {field_type(value)}"
                yield Finding("field-missing", "getFieldNames", f"{message} (PluginFieldType)")

    def identity(self) -> Iterator[Finding]:
        """Names, and that a namespace stays."""
        contract = self.contract
        for step, method in (("create", "createPlugin"), ("clone", "clone"), ("deserialize", "deserializePlugin")):
            made = {one["as"]: self.answers.steps.get(at) for at, one in enumerate(self.program) if one["do"] == step}
            made.pop("e", None)  # without attributes it may refuse
            if False in made.values():
                yield Finding("no-plugin", method, "it returns nullptr")
        own = self.all("identity", "a")
        for one in own[:1]:
            if not one["dynamic"]:
                yield Finding("not-dynamic", "createPlugin", "the plugin is no IPluginV2DynamicExt")
            for key, wanted, method in (
                ("type", contract.name, "getPluginType"),
                ("version", contract.version, "getPluginVersion"),
            ):
                if one[key] != wanted:
                    yield Finding("identity", method, f"it says {one[key]!r}, and the creator is found by {wanted!r}")
            if one["outputs"] != len(self.kinds):
                message = f"it says {one['outputs']}, and the operator has {len(self.kinds)}"
                yield Finding("output-count", "getNbOutputs", message)
        kept = len(own) > 1 and own[1]["namespace"] == _SPACE
        if len(own) > 1 and not kept:
            message = f"it says {own[1]['namespace']!r} after setPluginNamespace({_SPACE!r})"
            yield Finding("namespace-lost", "getPluginNamespace", message)
        for one in self.all("identity", "b"):
            if kept and one["namespace"] != _SPACE:
                message = f"the copy's namespace is {one['namespace']!r}, the original's {_SPACE!r}"
                yield Finding("clone-namespace", "clone", message)

    def plan(self) -> Iterator[Finding]:
        """serialize, and what comes out of it again."""
        plans = {name: (self.all("serialize", name) or [None])[0] for name in "abcd"}
        own = plans["a"]
        if own is None:
            return
        if not own["plans"]:
            yield Finding("serialize-short", "getSerializationSize", f"it asks for {own['size']} bytes")
            return
        first, second = (bytes.fromhex(plan) for plan in own["plans"])
        if missing := [at for at, (a, b) in enumerate(zip(first, second)) if a != b]:
            message = (
                f"of {own['size']} bytes that getSerializationSize asks for, {len(missing)} are not written, the first "
            )
            yield Finding("serialize-short", "serialize", f"{message}at byte {missing[0]}")
        for name, kind, method, what in (
            ("b", "clone-loses", "clone", "the copy writes another plan than the original"),
            ("c", "deserialize-loses", "deserializePlugin", "the plugin read from a plan writes another plan"),
            ("d", "fields-by-position", "createPlugin", "the plugin depends on the order of its fields"),
        ):
            if not missing and plans[name] and plans[name]["plans"] != own["plans"]:
                yield Finding(kind, method, f"{what}: {plans[name]['plans'][:1]} and {own['plans'][:1]} (hexadecimal)")

    def shapes(self) -> Iterator[Finding]:
        """getOutputDimensions, worked out for each case."""
        cases = [(case, known) for case in self.contract.shapes for known in (False, True)]
        for (case, known), outputs in zip(cases, self.all("shape", "a")):
            wanted = self.contract.answers(self.contract.like(case), self.contract.attributes)
            for index, (one, answer) in enumerate(zip(outputs, wanted)):
                if finding := _shape(index, one, answer.shape, case, known):
                    yield finding

    def formats(self) -> Iterator[Finding]:
        """Combinations, and the types of the outputs."""
        for one in self.all("formats", "a"):
            inputs = self.contract.inputs
            for position in one["ahead"]:
                message = f"the answer for position {position} changes with what lies behind it in inOut"
                yield Finding("format-looks-ahead", "supportsFormatCombination", message)
            accepted = {tuple(map(tuple, combination)) for combination in one["accepted"]}
            for name, types in zip(
                self.contract.types, self.all("output_type", "a") or [[]] * len(self.contract.types)
            ):
                wanted = self.required(name)
                if wanted not in accepted and not one["ahead"]:
                    message = f"it does not take {layouts.words(wanted)}, which the contract asks for"
                    yield Finding("format-missing", "supportsFormatCombination", message)
                for index, (got, (expected, _)) in enumerate(zip(types, wanted[inputs:])):
                    if got != expected:
                        message = f"output {index} for inputs of {name}: it says type {got} (DataType), not {expected}"
                        yield Finding("output-type", "getOutputDataType", message)

    def required(self, name: str) -> tuple[tuple[int, int], ...]:
        """The combination for a type that must work."""
        types = [layouts.TYPES[name]] * self.contract.inputs
        types += [layouts.TYPES["int32" if kind in "iub" else name] for kind in self.kinds]
        return tuple((kind, 0) for kind in types)

    def spoken(self) -> Spoken:
        """What was accepted."""
        accepted = [one["accepted"] for one in self.all("formats", "a")]
        return Spoken(tuple(tuple(map(tuple, one)) for one in accepted[0]) if accepted else ())


def _shape(index: int, one: dict, wanted: Sequence[int], case: Sequence[Sequence[int]], known: bool) -> Finding | None:
    method, name = "getOutputDimensions", f"output {index} of inputs {', '.join(map(str, map(tuple, case)))}"
    if one["rank"] != len(wanted):
        return Finding("output-rank", method, f"{name}: {one['rank']} dimensions, and it has {len(wanted)}")
    if any(side is None or side == ["foreign"] for side in one["dims"]):
        message = f"{name}: a side is no expression of this exprBuilder (not set, or kept from another call)"
        return Finding("output-rank", method, message)
    if one["asked"]:
        return Finding("unknown-side", method, f"{name}: the value of a side that is not known is asked for")
    try:
        got = [_value(side, case) for side in one["dims"]]
    except ZeroDivisionError:
        return Finding("output-shape", method, f"{name}: a division by 0")
    if got != list(wanted):
        how = "" if known else " (worked out from the expressions)"
        return Finding("output-shape", method, f"{name}: {tuple(got)}{how}, and it is {tuple(wanted)}")
    return None


def _value(tree: object, case: Sequence[Sequence[int]]) -> int:
    """A side's expression for real shapes. Numbers of operations: DimensionOperation."""
    if isinstance(tree, int):
        return tree
    if tree[0] == "input":
        return int(case[tree[1]][tree[2]])
    a, b = _value(tree[1], case), _value(tree[2], case)
    operations = (
        lambda: a + b,
        lambda: a * b,
        lambda: max(a, b),
        lambda: min(a, b),
        lambda: a - b,
        lambda: int(a == b),
        lambda: int(a < b),
        lambda: a // b,
        lambda: -(-a // b),
    )
    return operations[tree[0]]()
