"""What an exported file must stand: PyTorch's own answers at several sizes and on altered values.

Tracing turns what it cannot follow into constants, without a word. Only running the file shows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from course.errors import CourseError, UnsupportedError
from course.export import probes
from course.export.compare import difference
from course.export.exporters import Job
from course.export.parity import OnnxRunner, run_torch, telling_line, to_numpy

NUDGE = 1e-5
"""Relative: more than the rounding errors by which ONNX Runtime's logits differ from PyTorch's, less than any fault."""
REDRAWN = 4
"""How often other values are drawn, where PyTorch's own answer hangs on a rounding error."""


@dataclass(frozen=True)
class Trial:
    """PyTorch's answers at one choice of the dynamic sizes. varied: on values that were made up."""

    sizes: dict[str, int]
    feeds: dict[str, np.ndarray]
    answers: list[np.ndarray]
    varied: bool = False


def make_trials(
    model: torch.nn.Module,
    args: tuple[torch.Tensor, ...],
    input_names: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
) -> list[Trial]:
    """Run PyTorch with axis 0 at 1, 2 and 3, once with the other dynamic axes larger, and on other values.

    Raises:
        CourseError: the sizes of the example do not agree, PyTorch fails at one of them, or answers at random.
    """
    batch, others = {}, {}
    for arg, key in zip(args, input_names):
        for axis, label in dynamic.get(key, {}).items():
            known = batch if axis == 0 else others
            if known.setdefault(label, arg.shape[axis]) != arg.shape[axis]:
                raise CourseError(
                    f"The dimension {label!r} has two sizes in the example.",
                    f"{known[label]}, and {arg.shape[axis]} in {key!r}.",
                    "Make the example inputs agree.",
                )
    # A net with strides needs multiples of, say, 32: keep the powers of two that the example has, up to 64.
    larger = {label: size + (i + 1) * min(size & -size, 64) for i, (label, size) in enumerate(others.items())}
    choices = [{**batch, **others}]
    if batch:
        choices = [{**dict.fromkeys(batch, size), **others} for size in (1, 2, 3)]
    if others:
        choices.append({**dict.fromkeys(batch, 2), **larger})
    generator = np.random.default_rng(0)
    trials = []
    for sizes in choices:
        feeds = {}
        for arg, key in zip(args, input_names):
            value = to_numpy(arg)
            for axis, label in dynamic.get(key, {}).items():
                value = np.take(value, np.arange(sizes[label]), axis, mode="wrap")
            feeds[key] = probes.scaled(value, generator)
        try:
            trials.append(Trial(sizes, feeds, run_torch(model, feeds.values())))
        except Exception as error:  # whatever the learner's forward() raises
            raise CourseError(
                f"{type(model).__name__} fails in PyTorch already{_at(sizes)}.",
                f"{type(error).__name__}: {telling_line(error)}",
                "Make forward() work at these sizes, or leave the axis fixed.",
            ) from error
    _refuse_random(model, trials[-1])
    return trials + _varied(model, trials[min(1, len(trials) - 1)], generator)


def _refuse_random(model: torch.nn.Module, trial: Trial) -> None:
    again = run_torch(model, trial.feeds.values())
    for index, (first, second) in enumerate(zip(trial.answers, again)):
        if first.shape != second.shape or difference(second, first):
            raise CourseError(
                f"{type(model).__name__} answers at random.",
                f"PyTorch itself gives two answers for one input (output {index}), in eval mode.",
                "Look for F.dropout without training=self.training, for torch.rand and for random layers in forward(); "
                "give random numbers as an input.",
            )


def _varied(model: torch.nn.Module, base: Trial, generator: np.random.Generator) -> list[Trial]:
    """Trials at the sizes of `base` on other values. Values that PyTorch refuses are none that the model may meet."""
    trials = []
    for feeds in probes.variations(base.feeds, generator):
        try:
            answers = run_torch(model, feeds.values())
        except Exception:  # such as an index outside a table
            continue
        if len(answers) == len(base.answers) and all(
            np.isfinite(new).all() or not np.isfinite(old).all() for new, old in zip(answers, base.answers)
        ):
            trials.append(Trial(base.sizes, feeds, answers, varied=True))
    return trials


def output_axes(
    output_names: Sequence[str], trials: list[Trial], dynamic: Mapping[str, Mapping[int, str]]
) -> dict[str, dict[int, str | int]]:
    """Output name -> {axis: name or size}. An axis whose size changed between the trials is named after the
    input dimension that it follows."""
    found = {}
    for index, name in enumerate(output_names):
        shapes = [trial.answers[index].shape for trial in trials]
        if len({len(shape) for shape in shapes}) > 1:
            raise UnsupportedError(
                f"Output {name!r} changes its number of axes.",
                f"Shapes: {shapes}.",
                "Give every output a fixed number of axes.",
            )
        axes = {}
        for axis, sizes in enumerate(zip(*shapes)):
            follows = [label for label in trials[0].sizes if sizes == tuple(t.sizes[label] for t in trials)]
            varies = len(set(sizes)) > 1
            axes[axis] = (follows[0] if follows else f"{name}_axis{axis}") if varies else sizes[0]
        found[name] = {**axes, **dynamic.get(name, {})}
    return found


def verify(final: onnx.ModelProto, raw: onnx.ModelProto, job: Job, trials: list[Trial]) -> None:
    """Run the file at every trial's sizes and values. Its names must be the ones asked for, its shapes and values
    PyTorch's (see `compare.difference`)."""
    for kind, values, names in (
        ("input", final.graph.input, job.input_names),
        ("output", final.graph.output, job.output_names),
    ):
        held = [value.name for value in values]
        if held != list(names):
            raise _other_names(job, kind, held, names)
    runner, generator = OnnxRunner(final), np.random.default_rng(1)
    for trial in trials:
        wrong = _wrong(runner, raw, job, trial)
        for _ in range(REDRAWN):
            if not wrong or _stable(job.model, trial, generator):
                break
            feeds = {name: probes.scaled(value, generator) for name, value in trial.feeds.items()}
            try:
                trial = Trial(trial.sizes, feeds, run_torch(job.model, feeds.values()), trial.varied)
            except Exception:  # values that the model may never meet: what was seen stands
                break
            wrong = _wrong(runner, raw, job, trial)
        if wrong:
            raise built_in(raw, job, wrong)


def _wrong(runner: OnnxRunner, raw: onnx.ModelProto, job: Job, trial: Trial) -> str:
    """What differs from PyTorch in one trial, in words; "" if nothing does."""
    try:
        answers = runner.run({name: trial.feeds[name] for name in runner.inputs})
    except CourseError as error:
        node = re.search(r"running (\w+) node\. Name:'([^']*)'", error.cause)
        where = f"node {node[2]!r} ({node[1]}) fails{_at(trial.sizes)}" if node else error.cause
        raise built_in(raw, job, where) from error
    altered = trial.varied or any(value.dtype.kind == "f" for value in trial.feeds.values())
    other = " on other values than the example's" if altered else ""
    for (name, answer), wanted in zip(answers.items(), trial.answers):
        if answer.shape != wanted.shape:
            sizes = f"output {name!r} has shape {list(answer.shape)}, in PyTorch {list(wanted.shape)}"
            return sizes + _at(trial.sizes) + (other if trial.varied else "")
        if found := difference(answer, wanted):
            return f"output {name!r} {found}{_at(trial.sizes)}{other}"
    return ""


def _stable(model: torch.nn.Module, trial: Trial, generator: np.random.Generator) -> bool:
    """Whether PyTorch itself says the same when its inputs change by `NUDGE`. Where two scores are equal but for rounding, a
    sorted output may come in either order: such a trial decides nothing, and another one is drawn."""
    for _ in range(4):
        feeds = {
            name: (value * (1 + NUDGE * generator.uniform(-1, 1, value.shape))).astype(value.dtype)
            if value.dtype.kind == "f"
            else value
            for name, value in trial.feeds.items()
        }
        try:
            answers = run_torch(model, feeds.values())
        except Exception:  # it raises a hair's breadth away: no place to compare at
            return False
        for new, old in zip(answers, trial.answers):
            if new.shape != old.shape or difference(new, old):
                return False
    return True


def _other_names(job: Job, kind: str, held: list[str], names: Sequence[str]) -> CourseError:
    name = type(job.model).__name__
    if lost := [key for key in names if key not in held]:
        reason = (
            "forward() does not use it, or uses only its shape or a value that became a constant"
            if kind == "input"
            else "it is an input passed on, a constant, or the same tensor as another output"
        )
        return CourseError(
            f"The ONNX file of {name} has no {kind} {', '.join(map(repr, lost))}.",
            f"Its {kind}s are {held}: {reason}.",
            f"Leave this {kind} out of forward() and of {kind}_names, or compute with it as a tensor.",
        )
    return CourseError(
        f"The ONNX file of {name} has other {kind}s than asked for.",
        f"They are {held}, in this order; {kind}_names has {list(names)}.",
        "Give one name per tensor, in the order of forward().",
    )


def built_in(raw: onnx.ModelProto, job: Job, what: str) -> CourseError:
    """Tracing turned a size or a value into a constant: name the nodes that hold the example's sizes."""
    sizes = {arg.shape[axis] for arg, name in zip(job.args, job.input_names) for axis in job.dynamic[name]}
    constants = {tensor.name: tensor for tensor in raw.graph.initializer}
    for node in raw.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    suspects = []
    for node in raw.graph.node:
        if node.op_type in ("Reshape", "Expand", "ConstantOfShape", "Tile") and node.input[-1] in constants:
            shape = onnx.numpy_helper.to_array(constants[node.input[-1]]).ravel().tolist()
            if sizes & set(shape):
                notes = {entry.key: entry.value for entry in getattr(node, "metadata_props", ())}
                trace = notes.get("pkg.torch.onnx.stack_trace", "")
                line = re.search(r'File "[^"]+", line \d+, in \w+\n[^\n]*', trace)
                suspects.append(
                    f"{node.op_type} {node.name!r} to {shape}" + (f" ({' '.join(line[0].split())})" if line else "")
                )
    hint = f" Suspects: {'; '.join(suspects[:3])}." if suspects else ""
    if job.findings:
        hint += f" The exporter warned: {'; '.join(job.findings[:3])}."
    if "values wrong" in what and _divides_integers(raw):
        return CourseError(
            f"The ONNX file of {type(job.model).__name__} divides integers otherwise than PyTorch.",
            f"{what[0].upper()}{what[1:]}. ONNX's Div cuts an integer quotient towards zero; PyTorch's // rounds it down.{hint}",
            'Use exporter="dynamo", which corrects the quotient, or divide as float: torch.floor(x / n).to(x.dtype).',
        )
    way = "In forward(), use x.shape[0] or -1 instead of a number, int(x.shape[0]), .item(), .tolist() or a random tensor."
    if any(set(axes) - {0} for axes in job.dynamic.values()):
        way += (
            " Adaptive pooling to more than 1x1 has a fixed kernel in ONNX: use a kernel and a stride of your own, "
            "or fix these sizes (leave height and width out of `dynamic`)."
        )
    return CourseError(
        f"The ONNX file of {type(job.model).__name__} has sizes or values built in.",
        f"{what[0].upper()}{what[1:]}.{hint}",
        f'{way} The log "course.export" (level DEBUG) has what the exporter said.',
    )


def _divides_integers(raw: onnx.ModelProto) -> bool:
    """Whether a quotient of integers is what the exporter took for PyTorch's floor division, without a correction (Mod)."""
    if any(node.op_type == "Mod" for node in raw.graph.node):
        return False
    try:
        graph = onnx.shape_inference.infer_shapes(raw).graph
    except Exception:  # an invalid file is refused elsewhere
        return False
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    integers = (onnx.TensorProto.INT32, onnx.TensorProto.INT64, onnx.TensorProto.INT8, onnx.TensorProto.INT16)
    sizes: set[str] = set()  # tensors that come out of a shape: they are divided rightly, being no less than 0
    for node in graph.node:  # in topological order, as ONNX demands
        if node.op_type in ("Shape", "Size") or sizes & set(node.input):
            sizes |= set(node.output)
    return any(
        node.op_type == "Div" and kinds.get(node.output[0]) in integers and node.output[0] not in sizes
        for node in graph.node
    )


def _at(sizes: Mapping[str, int]) -> str:
    return " at " + ", ".join(f"{label}={size}" for label, size in sizes.items()) if sizes else ""
