"""The second part of an examination: the plugin computes, as itself, as a copy, and read from a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from course.kernels.compiler import Notes
from course.native.plugins import layouts
from course.native.plugins.contract import Contract, Shape, encoded
from course.native.plugins.endings import of_kernel
from course.native.plugins.interview import tensor
from course.native.plugins.report import Finding
from course.native.plugins.session import Answers, Arrays

Combination = tuple[tuple[int, int], ...]
_BLOCKING = {
    "cudaMalloc",
    "cudaFree",
    "cudaMallocHost",
    "cudaDeviceSynchronize",
    "cudaStreamSynchronize",
    "cudaEventSynchronize",
    "cudaMemcpy",
    "cudaMemset",
    "cudaMemcpyToSymbol",
    "cudaMemcpyFromSymbol",
}


@dataclass(frozen=True)
class Run:
    """One enqueue of the program.

    who: of the plugins (a the first, b its copy, c read from its plan, d with other attributes, again: a behind d).
    outputs: places in the data file.
    """

    who: str
    step: int
    case: tuple[Shape, ...]
    wanted: list[np.ndarray]
    outputs: list[dict]
    failing: bool = False


@dataclass
class Program:
    """Steps for one combination of types and formats."""

    contract: Contract
    combination: Combination
    arrays: Arrays = field(default_factory=Arrays)
    steps: list[dict] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def add(self, do: str, **words: object) -> None:
        """A step."""
        self.steps.append({"do": do, **words})

    def tensors(self, shapes: Sequence[Shape], first: int) -> list[dict]:
        """With the combination's types and formats, from position `first`."""
        return [tensor(shape, True, *pair) for shape, pair in zip(shapes, self.combination[first:])]

    def configure(self, who: str, case: Sequence[Shape], *, building: bool, largest: Sequence[Shape]) -> None:
        """As in the build phase (sides are -1, the profile's bounds) or before an enqueue (sides as they are)."""
        bounds = [[tuple(1 for _ in shape) for shape in case], case, largest]
        if any(side == 0 for shape in case for side in shape):
            bounds[0] = list(case)
        outs = [self.shapes_of(one) for one in bounds]
        sides = []
        for first, parts in ((0, bounds), (self.contract.inputs, outs)):
            tensors = self.tensors(parts[1], first)
            if building:
                tensors = [{**one, "dims": [-1] * len(one["dims"])} for one in tensors]
            names = ("min", "opt", "max")
            many = [
                {n: [*part[i], *[0] * (8 - len(part[i]))] for n, part in zip(names, parts)} for i in range(len(tensors))
            ]
            sides.append([{**one, **more} for one, more in zip(tensors, many)])
        self.add("configure", of=who, inputs=sides[0], outputs=sides[1])

    def shapes_of(self, case: Sequence[Shape]) -> list[Shape]:
        """Of the outputs."""
        return [one.shape for one in self.contract.answers(self.contract.like(case), self.contract.attributes)]

    def workspace(self, who: str, case: Sequence[Shape]) -> None:
        """Asked for these shapes."""
        outs = self.shapes_of(case)
        self.add("workspace", of=who, inputs=self.tensors(case, 0), outputs=self.tensors(outs, self.contract.inputs))

    def enqueue(
        self,
        who: str,
        case: Sequence[Shape],
        seed: int,
        attributes: Mapping[str, object],
        *,
        failing: bool = False,
        label: str = "",
    ) -> None:
        """With fresh inputs."""
        kinds = [kind for kind, _ in self.combination]
        given = [layouts.quantised(one, kind) for one, kind in zip(self.contract.like(case, seed), kinds)]
        plain = [layouts.dequantised(one) for one in given]
        plain = [one if one.dtype.kind == "i" else one.astype(np.float32) for one in plain]
        wanted = self.contract.answers(plain, attributes)
        count = self.contract.inputs
        inputs = [
            {**self.arrays.put(layouts.pack(one, layout)), "tensor": described}
            for one, (_, layout), described in zip(given, self.combination, self.tensors(case, 0))
        ]
        outputs = []
        for one, (kind, layout), described in zip(
            wanted, self.combination[count:], self.tensors([one.shape for one in wanted], count)
        ):
            shape = layouts.packed_shape(one.shape, layout)
            size = int(np.prod(shape)) * np.dtype(layouts.NAMES[kind]).itemsize
            outputs.append({**self.arrays.room(size), "tensor": described})
        self.runs.append(Run(label or who, len(self.steps), tuple(case), wanted, outputs, failing))
        self.add("enqueue", of=who, inputs=inputs, outputs=outputs, failing=failing)


def program(contract: Contract, combination: Combination, whole: bool) -> Program:
    """A plugin's life with one combination. whole: with copies, a plan, a second plugin, and a launch that fails."""
    made, cases, own = Program(contract, combination), [tuple(case) for case in contract.shapes], contract.attributes
    cases = [
        case for case in cases if all(layout == 0 or len(shape) >= 3 for shape in case for _, layout in combination)
    ]
    large = [tuple(2 * side for side in shape) for shape in cases[0]]
    made.add("creators", name=contract.name, version=contract.version)

    def start(who: str, case: Sequence[Shape], largest: Sequence[Shape]) -> None:
        made.configure(who, case, building=True, largest=largest)
        made.workspace(who, largest)
        made.add("initialize", of=who)

    def run(who: str, case: Sequence[Shape], largest: Sequence[Shape], seed: int, **more: object) -> None:
        made.configure(who, case, building=False, largest=largest)
        made.enqueue(who, case, seed, more.pop("attributes", own), **more)

    def end(*names: str) -> None:
        for who in names:
            made.add("terminate", of=who)
            made.add("destroy", of=who)

    made.add("create", **{"as": "w"}, attributes=encoded(own))  # what is made once for all plugins is no leak
    start("w", cases[0], cases[0])
    run("w", cases[0], cases[0], 1)
    end("w")
    made.add("note")
    made.add("create", **{"as": "a"}, attributes=encoded(own))
    if whole:
        made.configure("a", cases[0], building=True, largest=large)
        made.add("serialize", of="a")
        made.add("deserialize", of="a", **{"as": "c"})
        made.add("clone", of="a", **{"as": "b"})
    start("a", cases[0], large)
    for seed, case in enumerate(cases, 2):
        largest = [tuple(2 * side for side in shape) for shape in case]
        made.workspace("a", largest)
        run("a", case, largest, seed)
    run("a", cases[0], large, 20)
    if whole:
        start("b", cases[0], large)
        run("b", cases[0], large, 21)
        made.add("initialize", of="c")
        made.workspace("c", large)
        run("c", cases[0], large, 22)
        other = contract.changed()
        made.add("create", **{"as": "d"}, attributes=encoded(other))
        start("d", cases[0], large)
        run("d", cases[0], large, 23, attributes=other)
        made.enqueue("a", cases[0], 24, own, label="again")
        made.enqueue("a", cases[0], 25, own, failing=True, label="failing")
        end("b", "c", "d")
    end("a")
    made.add("kept")
    return made


def judge(made: Program, answers: Answers, notes: Notes, required: bool) -> Iterator[Finding]:
    """Findings of one combination. required: the contract asks for it; else the plugin took it by itself."""
    at = layouts.words(made.combination)
    wrong: dict[str, str] = {}
    kernels: list[Finding] = []
    for run in made.runs:
        answer = answers.steps.get(run.step)
        if answer is None:
            continue
        if run.failing:
            if answer["status"] == 0 and any(call["name"] == "launch" for call in answer["calls"]):
                yield Finding("error-hidden", "enqueue", "a launch failed, and enqueue returned 0")
            continue
        yield from _calls(answer)
        found = [of_kernel(one, notes, _sizes(made)) for one in answer["findings"] if one["kind"] != "unwritten-output"]
        if answer["status"] != 0 and answer["came_back"] and not found:
            message = f"it returned {answer['status']} for {at}, shapes {run.case}"
            yield Finding("enqueue-status" if required else "format-too-wide", "enqueue", message)
            continue
        kernels += found
        if said := found[0].message if found else _wrong(made, run, answers):
            wrong.setdefault(run.who, said)
        if found:
            break  # the GPU has an error now, which all later launches return
    for number, step in enumerate(made.steps):
        if step["do"] == "initialize" and answers.steps.get(number):
            yield Finding("initialize-status", "initialize", f"it returned {answers.steps[number]}")
    values = [*_values(made, wrong, at, required)]
    stale = any(finding.kind == "stale-shape" for finding in values)
    yield from values
    if required:
        yield from (finding for finding in kernels if not (stale and finding.kind == "kernel"))


def _values(made: Program, wrong: Mapping[str, str], at: str, required: bool) -> Iterator[Finding]:
    """Who is wrong tells why."""
    if not wrong:
        return
    details = {"combination": made.combination, "wrong": dict(wrong)}

    def finding(kind: str, who: str, message: str, method: str = "enqueue") -> Finding:
        return Finding(kind, method, f"{message}{wrong[who]}", "", 0, details)

    if not required:
        who = next(iter(wrong))
        message = f"it takes {at}, and enqueue cannot do that: "
        yield finding("format-too-wide", who, message, "supportsFormatCombination")
    elif "w" in wrong:
        yield finding("wrong-output", "w", f"{at}: ")
    elif "a" in wrong:
        yield finding("stale-shape", "a", f"{at}: right while all shapes are the largest ones, else ")
    else:
        if "d" in wrong:
            yield finding("shared-state", "d", f"{at}: a second plugin with other attributes: ")
        elif "again" in wrong:
            yield finding("shared-state", "again", f"{at}: after a second plugin with other attributes was made: ")
        if "b" in wrong:
            yield finding("clone-loses", "b", f"{at}: the copy computes something else: ", "clone")
        if "c" in wrong:
            yield finding("deserialize-loses", "c", f"{at}: read from its plan: ", "deserializePlugin")


def _calls(answer: Mapping) -> Iterator[Finding]:
    """On the stream, and without waiting."""
    for call in answer["calls"]:
        where = call["file"].rpartition("/")[2], call["line"]
        if call["name"] in _BLOCKING:
            yield Finding("enqueue-blocks", "enqueue", f"it calls {call['name']}", *where)
        elif call["name"] != "cudaEventRecord" and call["stream"] != answer["stream"]:
            which = "the default stream" if not call["stream"] else "another stream"
            what = f"kernel {call['kernel']}" if call["kernel"] else call["name"]
            yield Finding(
                "stream-ignored", "enqueue", f"{what} goes to {which}, not to the one that enqueue got", *where
            )


def _sizes(made: Program) -> dict[str, int]:
    count = made.contract.inputs
    return {
        f"{'input' if i < count else 'output'} {i if i < count else i - count}": np.dtype(layouts.NAMES[kind]).itemsize
        for i, (kind, _) in enumerate(made.combination)
    }


def _wrong(made: Program, run: Run, answers: Answers) -> str:
    """The first wrong element in words; "" if all are right."""
    count = made.contract.inputs
    for index, (place, wanted) in enumerate(zip(run.outputs, run.wanted)):
        kind, layout = made.combination[count + index]
        dtype = np.dtype(layouts.NAMES[kind])
        got = answers.output(place, dtype, layouts.packed_shape(wanted.shape, layout))
        got = layouts.unpack(got, layout, wanted.shape)
        raw = got.view(np.uint8).reshape(*wanted.shape, dtype.itemsize) if got.flags.c_contiguous and got.ndim else None
        limit = max(made.contract.tolerance[layouts.NAMES[k]] for k, _ in made.combination)
        right = layouts.dequantised(layouts.quantised(wanted, kind))
        with np.errstate(all="ignore"):
            numbers, expected = layouts.dequantised(got).astype(np.float64), right.astype(np.float64)
            good = np.isclose(numbers, expected, rtol=limit, atol=limit, equal_nan=True)
        if good.all():
            continue
        bad = np.argwhere(~good)
        where = tuple(int(i) for i in bad[0])
        unwritten = raw is not None and bool((raw[tuple(where)] == 0xFF).all())
        shown = "nothing was written" if unwritten else f"{numbers[where]:.6g}"
        return (
            f"output {index}{list(where)} of shapes {', '.join(map(str, run.case))}: {shown}, and it is "
            f"{expected[where]:.6g} ({len(bad)} of {good.size} elements are wrong)"
        )
    return ""
