"""PyTorch to ONNX, with proof: what is written was run at several sizes and gave PyTorch's answers.

`export` writes the file, `check_parity` (course.export.parity) compares it with PyTorch on real inputs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch

from course.engine.opsets import TARGET_OPSET
from course.errors import CourseError, DtypeError, UnsupportedError
from course.export import once as earlier
from course.export.exported import Exported
from course.export.exporters import Job, log, quiet, run_exporter
from course.export.parity import Parity, check_parity, last_line
from course.export.verify import Trial, built_in, make_trials, output_axes, verify
from course.files import atomic_write, sha256

__all__ = ["TARGET_OPSET", "Exported", "Parity", "check_parity", "export"]

NEWEST_IR = 10
"""IR version that onnx 1.17 and ONNX Runtime 1.20 read. Newer onnx packages would write a higher one."""
LARGEST_BYTES = (1 << 31) - 1  # protobuf's limit for one message
_TOO_LARGE = (
    "One ONNX file holds at most 2.1 GB; larger models keep their weights as external data in a second file, which "
    "this course does not write.",
    "Call torch.onnx.export(..., external_data=True) yourself, or split the model.",
)


def export(
    model: torch.nn.Module,
    args: tuple[torch.Tensor, ...],
    path: str | Path,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    exporter: str = "auto",
    target: str | None = None,
    opset: int | None = None,
    simplify: bool = True,
    once: bool = False,
) -> Exported:
    """Write `model` as an ONNX file with its weights inside, and prove that the file works.

    The file is run by ONNX Runtime on altered values of `args`, with every dynamic axis at other sizes (axis
    0 at 1, 2 and 3), and must give PyTorch's shapes and values: of every output, integers, NaN and infinities
    included, each in its own scale. That finds a batch size, a length or a value that was built in. What the
    exporter itself warned of stands in `notes`.

    Args:
        model: float32, in eval mode.
        args: example inputs, one per name.
        dynamic: input (or output) name -> {axis: dimension name}. Outputs' axes are found without it.
        exporter: "dynamo", "torchscript", or "auto": first the one that fits the target, then the other.
        target: "8.6", "10", "11" (TensorRT), "onnxruntime"; None: the TensorRT installed here, else ONNX
            Runtime.
        opset: None for the one that fits the target.
        once: if the same network was exported with the same arguments on this machine before, write that file
            (`course.export.once` says when a network is the same).

    Raises:
        CourseError: the model is in training mode or answers at random, a name or axis does not fit or is missing
            in the file, a size or value is built in, the exporter failed, or the file cannot be written. Nothing is left at `path` that was not there
            before.
        DtypeError: the model or an input is not float32 (precision is chosen when the engine is built).
        UnsupportedError: an operator without ONNX form, a branch on the data, an opset that the target cannot
            read.
    """
    started = time.perf_counter()
    name = type(model).__name__
    dynamic = {key: dict(axes) for key, axes in (dynamic or {}).items()}
    exporters, opset = _plan(exporter, target, opset)
    _check_call(model, args, input_names, output_names, dynamic)
    settings = (list(input_names), list(output_names), dynamic, exporters, opset, simplify)
    kept = earlier.place(model, args, settings) if once else None
    if kept and (found := earlier.known(kept, Path(path))):
        return found
    trials = make_trials(model, args, input_names, dynamic)
    if len(trials[0].answers) != len(output_names):
        raise CourseError(
            f"{name} has {len(trials[0].answers)} outputs.",
            f"output_names lists {len(output_names)}.",
            "Give one name per output tensor.",
        )
    inputs = {key: dynamic.get(key, {}) for key in input_names}
    outputs = output_axes(output_names, trials, dynamic)
    job = Job(
        model, _large_enough(args, input_names, inputs), list(input_names), list(output_names), inputs, outputs, opset
    )
    errors, notes = {}, []
    for choice in exporters:
        try:
            proto, before = _finish(run_exporter(choice, job), job, trials, simplify, notes)
            notes.extend(f"The {choice} exporter warned: {finding}." for finding in job.findings)
            break
        except CourseError as error:
            notes.append(f"The {choice} exporter failed: {error.what} {error.cause}")
            errors[choice] = error
    else:
        raise _all_failed(errors, job)
    for note in notes:
        log.info("%s", note)
    atomic_write(path, proto.SerializeToString())
    done = Exported(
        Path(path),
        _opset(proto),
        choice,
        before,
        len(proto.graph.node),
        sha256(path),
        time.perf_counter() - started,
        tuple(notes),
    )
    if kept:
        earlier.keep(kept, done)
    return done


def _all_failed(errors: Mapping[str, CourseError], job: Job) -> CourseError:
    """One error for all exporters that were tried: the most definite, with what the others said."""
    choice, best = next(
        ((choice, error) for choice, error in errors.items() if isinstance(error, UnsupportedError)),
        next(iter(errors.items())),
    )
    cause, next_step = best.cause, best.next_step
    for other, error in errors.items():
        if other != choice and (error.what, error.cause) != (best.what, best.cause):
            cause += f" The {other} exporter failed, too: {error.what} {error.cause}"
    if len(errors) > 1 and "exporter" in next_step and "has what the exporter said" not in next_step:
        next_step = (  # the step named the exporter that has failed, too
            "Both exporters were tried. Write the part named above with other operators, or leave it out and compute "
            'it after the engine. The log "course.export" (level DEBUG) has all that they said.'
        )
    if turning := [key for key, tensor in job.model.named_buffers() if tensor.is_complex()]:
        next_step = (
            f"{turning[0]!r} is complex, which ONNX does not have. Keep its cosine and sine as two float32 buffers and "
            "multiply by hand: (a cos - b sin, a sin + b cos)."
        )
    raised = type(best)(best.what, cause, next_step)
    raised.__cause__ = best
    return raised


def _plan(exporter: str, target: str | None, opset: int | None) -> tuple[list[str], int]:
    """Exporters to try in this order, and the opset."""
    target = target or _installed_target()
    if target not in TARGET_OPSET or exporter not in ("auto", "dynamo", "torchscript"):
        raise CourseError(
            f"There is no target {target!r} with exporter {exporter!r}.",
            "One of them is not known.",
            f"Targets: {', '.join(TARGET_OPSET)}. Exporters: auto, dynamo, torchscript.",
        )
    written, newest = TARGET_OPSET[target]
    opset = opset or written
    if opset > newest:
        runtime = "ONNX Runtime 1.20" if target == "onnxruntime" else f"TensorRT {target}"
        raise UnsupportedError(
            f"Opset {opset} is too new for {runtime}.",
            f"It reads opset {newest} and older.",
            f"Leave opset out (then it is {written}), or choose another target.",
        )
    both = ["torchscript", "dynamo"] if opset < 18 else ["dynamo", "torchscript"]
    return (both if exporter == "auto" else [exporter]), opset


def _installed_target() -> str:
    try:
        import tensorrt

        major = int(tensorrt.__version__.split(".")[0])
    except Exception:  # not installed, or installed and broken: both mean that it will not run here
        return "onnxruntime"
    return "8.6" if major <= 8 else "10" if major <= 10 else "11"


def _check_call(model, args, input_names, output_names, dynamic) -> None:
    name = type(model).__name__
    training = [path or name for path, module in model.named_modules() if module.training]
    if training:
        raise CourseError(
            f"{name} is in training mode.",
            f"{len(training)} modules are, the first is {training[0]}: dropout and batch "
            "normalisation would be exported in their training form.",
            "Call model.eval() first.",
        )
    if len(args) != len(input_names) or not all(isinstance(arg, torch.Tensor) for arg in args):
        raise CourseError(
            f"{name} got {len(args)} example inputs for {len(input_names)} names.",
            f"They are {[type(arg).__name__ for arg in args]}.",
            "Give a tuple with one tensor per name: args=(x,).",
        )
    if len({*input_names, *output_names}) != len(input_names) + len(output_names):
        raise CourseError(
            "Two inputs or outputs have the same name.",
            f"{list(input_names)}, {list(output_names)}.",
            "Give each its own name.",
        )
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for key, tensor in zip(input_names, args):
        if tensor.is_complex():
            raise DtypeError(
                f"{key!r} is {str(tensor.dtype).removeprefix('torch.')}.",
                "ONNX Runtime and TensorRT take no complex inputs.",
                "Give its real and imaginary part as float32, torch.view_as_real(x), and join them in forward().",
            )
    for key, tensor in [*weights.items(), *zip(input_names, args)]:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise DtypeError(
                f"{key!r} is {str(tensor.dtype).removeprefix('torch.')}.",
                "Models are exported in float32; the precision is chosen later, by a flag of the build (TensorRT 8.6, 10) or by "
                "converting the file (11).",
                "Call model.float() and give float32 inputs.",
            )
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if size > LARGEST_BYTES:
        raise UnsupportedError(f"{name} has {size / 1e9:.1f} GB of weights.", *_TOO_LARGE)
    ranks = {**{key: arg.ndim for key, arg in zip(input_names, args)}, **dict.fromkeys(output_names, 99)}
    for key, axes in dynamic.items():
        if key not in ranks:
            raise CourseError(f"dynamic names {key!r}.", f"Inputs and outputs are {list(ranks)}.", "Use one of these.")
        for axis, label in axes.items():
            if not 0 <= axis < ranks[key] or not str(label).isidentifier():
                raise CourseError(
                    f"dynamic has the axis {axis} named {label!r} for {key!r}.",
                    f"It has {ranks[key]} axes, counted from 0; names have letters, digits, _.",
                    'Write it like {"input": {0: "batch"}}.',
                )


def _large_enough(args, input_names, dynamic) -> tuple[torch.Tensor, ...]:
    """Give dynamic axes at least 2: torch.export takes 1 as fixed, since broadcasting depends on it."""
    enlarged = []
    for arg, key in zip(args, input_names):
        for axis in dynamic[key]:
            arg = torch.cat([arg, arg], axis) if arg.shape[axis] == 1 else arg
        enlarged.append(arg.clone())  # forward() may work in place
    return tuple(enlarged)


def _finish(
    proto: onnx.ModelProto, job: Job, trials: list[Trial], simplify: bool, notes: list[str]
) -> tuple[onnx.ModelProto, int]:
    """Name dimensions, simplify, check and run. Returns the model and its nodes before simplification."""
    if _opset(proto) > job.opset:
        raise UnsupportedError(
            f"The exporter wrote opset {_opset(proto)} instead of {job.opset}.",
            "PyTorch could not convert this model down.",
            'Use exporter="torchscript" for this target.',
        )
    proto.ir_version = min(proto.ir_version, NEWEST_IR)
    for value, _arg in zip(proto.graph.input, job.args):
        for axis, label in job.dynamic[value.name].items():
            if value.type.tensor_type.shape.dim[axis].HasField("dim_value"):
                raise built_in(proto, job, f"axis {axis} ({label!r}) of {value.name!r} became a fixed size")
    _name_axes(proto.graph.input, job.dynamic)
    _name_axes(proto.graph.output, job.outputs)
    del proto.graph.value_info[:]  # the exporter's own names of dimensions; shape inference makes it again
    before = len(proto.graph.node)
    final = _simplified(proto, notes) if simplify else proto
    if final.ByteSize() > LARGEST_BYTES:
        raise UnsupportedError(
            f"The ONNX file would have {final.ByteSize() / 1e9:.1f} GB.",
            *_TOO_LARGE,
        )
    try:
        onnx.checker.check_model(final, full_check=True)
    except Exception as error:
        raise CourseError(
            "The exported file is not valid ONNX.", last_line(error), "Try the other exporter, or simplify=False."
        ) from error
    verify(final, proto, job, trials)
    return final, before


def _name_axes(values, names: Mapping[str, Mapping[int, str | int]]) -> None:
    for value in values:
        for axis, size in names.get(value.name, {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            if isinstance(size, str):
                dim.dim_param = size
            else:
                dim.dim_value = size


def _simplified(proto: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    """onnxslim's version if it kept inputs, outputs and dynamic axes, else the model as it was, and a note."""
    original = onnx.ModelProto.FromString(proto.SerializeToString())
    try:
        with quiet():
            import onnxslim

            slim = onnxslim.slim(proto)
    except Exception as error:  # whatever a library raises: the unsimplified graph is right as well
        notes.append(f"onnxslim failed and the graph was not simplified: {last_line(error)}")
        return original
    if _interface(slim) != _interface(original):
        notes.append("onnxslim changed inputs or outputs; the graph was not simplified.")
        return original
    slim.ir_version = original.ir_version
    return slim


def _interface(proto: onnx.ModelProto) -> list[tuple]:
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*proto.graph.input, *proto.graph.output)
    ]


def _opset(proto: onnx.ModelProto) -> int:
    return next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
