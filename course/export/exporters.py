"""PyTorch's two ONNX exporters behind one call: kept quiet, and their errors translated."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import logging
import os
import re
import sys
import sysconfig
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import torch

from course.errors import CourseError, UnsupportedError
from course.export.parity import last_line

log = logging.getLogger("course.export")
log.addHandler(logging.NullHandler())  # else Python prints warnings of a logger without a handler to stderr

_NOISY = ("torch", "onnx")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_UNKNOWN_OPERATOR = (
    re.compile(r"operator '([\w:.]+)' to ONNX opset version"),
    re.compile(r"Unsupported: ONNX export of operator ([\w:.]+)"),
    re.compile(r"No ONNX function found for <OpOverload\(op='([\w:.]+)'"),
)
_CODE_LINE = re.compile(r'File "([^"]+)", line (\d+), in \w+\n\s*(\S.*)')
_TRACED_LINE = re.compile(r"^(.+)\((\d+)\): ", re.MULTILINE)
# Not every folder of libraries is called site-packages: PyTorch's own place is one, too.
_LIBRARIES = tuple(
    os.path.join(folder, "") for folder in (sysconfig.get_path("stdlib"), Path(torch.__file__).parents[1])
)


@dataclass(frozen=True)
class Job:
    """What an exporter gets.

    dynamic: input name -> {axis: dimension name}; outputs: output name -> {axis: dimension name or size}.
    findings: filled by the exporter that ran last: what it warned of, values taken out of tensors above all.
    """

    model: torch.nn.Module
    args: tuple[torch.Tensor, ...]
    input_names: list[str]
    output_names: list[str]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: Mapping[str, Mapping[int, str | int]]
    opset: int
    findings: list[str] = field(default_factory=list)


def run_exporter(exporter: str, job: Job) -> onnx.ModelProto:
    """Export with "dynamo" or "torchscript".

    Raises:
        UnsupportedError: an operator that ONNX does not have, or a branch on the data.
        CourseError: anything else that the exporter could not do.
    """
    job.findings.clear()
    descriptors = (1, 2) if exporter == "torchscript" else (2,)  # only its C++ code prints to stdout
    with tempfile.TemporaryDirectory() as folder, quiet(descriptors) as said:
        path = Path(folder) / "model.onnx"
        try:
            with torch.no_grad():
                (_dynamo if exporter == "dynamo" else _torchscript)(job, path)
            proto = onnx.load(str(path))
        except Exception as error:
            raise _translated(error, job, exporter, said.text()) from error
    if exporter == "torchscript":
        shapes_only = _refuse_data_branches(job, said)
        job.findings.extend(_baked_in(said, shapes_only))
    return proto


def _dynamo(job: Job, path: Path) -> None:
    # AUTO: torch finds out itself how sizes hang together; export.py looks afterwards whether an axis was
    # made fixed. A named Dim would refuse a net that needs, say, multiples of 32.
    auto = torch.export.Dim.AUTO
    shapes = tuple({axis: auto for axis in job.dynamic.get(name, {})} for name in job.input_names)
    for index, parameter in enumerate(inspect.signature(job.model.forward).parameters.values()):
        if parameter.kind is parameter.VAR_POSITIONAL:  # forward(*args): torch.export wants their shapes as one tuple
            shapes = (*shapes[:index], shapes[index:])
    program = torch.export.export(job.model, job.args, dynamic_shapes=shapes, strict=False)
    try:
        _call_torch(program, job, path, dynamo=True, external_data=False)
    except Exception:
        # The error does not say where the operator comes from; the graph does. It goes to the log and to
        # `_translated`.
        for node in program.run_decompositions().graph.nodes:
            # the innermost line that is the learner's: print_readable() would name torch/nn/functional.py
            lines = [line for line in _CODE_LINE.findall(node.meta.get("stack_trace") or "") if _is_theirs(line[0])]
            print(f"{node.format_node()} # " + (f"{lines[-1][0]}:{lines[-1][1]}:0" if lines else ""))
        raise


def _torchscript(job: Job, path: Path) -> None:
    axes = {
        name: {axis: label for axis, label in labels.items() if isinstance(label, str)}
        for name, labels in {**job.dynamic, **job.outputs}.items()
    }
    _call_torch(job.model, job, path, dynamo=False, dynamic_axes=axes)


def _call_torch(model, job: Job, path: Path, **options) -> None:
    options |= {
        "input_names": job.input_names,
        "output_names": job.output_names,
        "opset_version": job.opset,
        "verbose": False,
    }
    known = inspect.signature(torch.onnx.export).parameters
    missing = {"dynamo", "opset_version"} - set(known)
    if missing:
        raise UnsupportedError(
            f"PyTorch {torch.__version__} has another ONNX exporter.",
            f"torch.onnx.export has no {sorted(missing)}.",
            "Install torch 2.6 or newer.",
        )
    torch.onnx.export(model, job.args, str(path), **{key: value for key, value in options.items() if key in known})


def _refuse_data_branches(job: Job, said: Said) -> bool:
    """Tracing follows one side of an `if` for ever and only warns. torch.export knows whether the condition
    hangs on the data (then the file would be wrong) or only on a shape (then it is right for that shape).

    Returns:
        Whether it is known that every branch hangs on shapes only.
    """
    branches = [w for w in said.warnings if "Python boolean" in str(w.message)]
    if not branches:
        return True
    with quiet():
        try:
            torch.export.export(job.model, job.args, strict=False)
        except Exception as error:
            if "DataDependent" not in " ".join(type(e).__name__ for e in _chain(error)):
                log.info("torch.export could not check the branches: %s", last_line(error))
                return False
            raise _data_branch(
                type(job.model).__name__, f"line {branches[0].lineno} of {branches[0].filename}"
            ) from error
    return True


def _baked_in(said: Said, shapes_only: bool) -> list[str]:
    """The tracer's warnings of values that it keeps as constants, each once, with the line that it names."""
    found = []
    for warning in said.warnings:
        text = " ".join(str(warning.message).split())
        if not issubclass(warning.category, torch.jit.TracerWarning) or (shapes_only and "Python boolean" in text):
            continue
        line = f"line {warning.lineno} of {warning.filename}: {text.split('. ')[0].rstrip('.')}"
        if line not in found:
            found.append(line)
    return found


def _translated(error: Exception, job: Job, exporter: str, said: str) -> CourseError:
    if isinstance(error, CourseError):
        return error
    name, text = type(job.model).__name__, _ANSI.sub("", "\n".join(str(e) for e in _chain(error)))
    where = _where_traced(error) or _where(error, text)
    for pattern in _UNKNOWN_OPERATOR:
        if found := pattern.search(text):
            where = where or _where_in_graph(found[1], said)
            way, inputs = "Write this part with other operators, or leave it out and compute it after the engine.", ""
            if "adaptive" in found[1]:
                shapes = ", ".join(f"{key} {list(arg.shape)}" for key, arg in zip(job.input_names, job.args))
                inputs = f" The inputs: {shapes}."
                way = (
                    "Pool with a kernel and a stride of your own, or fix height and width (leave these axes out of "
                    "`dynamic`); only pooling to 1x1 needs neither."
                )
            return UnsupportedError(
                f"{name} uses {found[1]}, which the {exporter} exporter cannot write as ONNX {job.opset}.",
                f"ONNX has no such operator, or PyTorch has no translation for it{where}.{inputs}",
                way,
            )
    if any("DataDependent" in type(e).__name__ for e in _chain(error)):
        return _data_branch(name, where.removeprefix(", at "))
    if isinstance(error, ModuleNotFoundError):
        return CourseError(
            f"The {exporter} exporter is not complete.", str(error), f"Run `pip install {error.name or 'onnxscript'}`."
        )
    other = "torchscript" if exporter == "dynamo" else "dynamo"
    return CourseError(
        f"{name} could not be exported by the {exporter} exporter.",
        f"{_ANSI.sub('', _first_line(_chain(error)[-1]))}{where}.",
        f'Try exporter="{other}". The log "course.export" (level DEBUG) has all that it said.',
    )


def _data_branch(name: str, where: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name} takes a Python branch that depends on the data.",
        f"{where or 'A condition in forward()'}: an ONNX graph has no Python `if`; the "
        "exporter would keep the side that the example took.",
        "Use torch.where(condition, a, b), or move the decision out of the model.",
    )


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what caused it, the root last."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _where(error: Exception, text: str) -> str:
    """The learner's own line that failed: what the message names, else the deepest frame of theirs."""
    named = [(file, line, code) for file, line, code in _CODE_LINE.findall(text) if _is_theirs(file)]
    stack = [frame for e in _chain(error) for frame in traceback.extract_tb(e.__traceback__)]
    frames = [(frame.filename, frame.lineno, frame.line) for frame in stack if _is_theirs(frame.filename)]
    if not named and not frames:
        return ""
    file, line, code = (named or frames)[-1]
    return f", at line {line} of {file}: {(code or '').rstrip(':')}"


def _where_traced(error: Exception) -> str:
    """The learner's line that made the operator at which torchscript stopped, "" where it does not say.

    Its message does not have it, its printed graph has the innermost line, which may be PyTorch's own. The node
    itself remembers all lines, the innermost first.
    """
    for one in reversed(_chain(error)):
        for frame, _ in reversed(list(traceback.walk_tb(one.__traceback__))):
            node = frame.f_locals.get("node")
            traced = node.sourceRange() if hasattr(node, "sourceRange") else ""
            model = itertools.takewhile(lambda line: not _is_ours(line[0]), _TRACED_LINE.findall(traced))
            if theirs := [line for line in model if _is_theirs(line[0])]:  # the lines after it called export()
                return f", at line {theirs[0][1]} of {theirs[0][0]}"
    return ""


def _where_in_graph(operator: str, said: str) -> str:
    """The line that made an operator, from the graph that was printed when the export failed."""
    name = re.escape(re.split("[.:]", operator)[-1])
    # torchscript: "%9 : Float(...) = aten::eig(%8), scope: Net:: # net.py:9:0"
    # dynamo, see _dynamo: "%eig : ... = call_function[target=torch.ops.aten.eig.default](...) # net.py:9:0"
    for file, line in re.findall(rf"[:.]{name}[.(].*# ([^\n#]+?):(\d+):\d+", said):
        if _is_theirs(file):
            return f", at line {line} of {file}"
    return ""


def _is_theirs(file: str) -> bool:
    library = "site-packages" in file or "dist-packages" in file or file.startswith(("<", *_LIBRARIES))
    return file.startswith("<ipython-input") or not library and not _is_ours(file)


def _is_ours(file: str) -> bool:
    return Path(file).parent == Path(__file__).parent  # but course/models counts as theirs


@dataclass
class Said:
    """What libraries said while `quiet` was on. text: a function that gives all of it so far."""

    warnings: list[warnings.WarningMessage] = field(default_factory=list)
    text: Callable[[], str] = str


class _Diverted:
    """Takes what this thread writes; other threads (a progress bar) still reach the real stream."""

    def __init__(self, real, diverted: io.StringIO):
        self.real, self.diverted, self.thread = real, diverted, threading.get_ident()

    def write(self, text: str) -> int:
        mine = threading.get_ident() == self.thread and self.diverted is not None
        return (self.diverted if mine else self.real).write(text)

    def __getattr__(self, name: str):
        return getattr(self.real, name)


@contextlib.contextmanager
def quiet(descriptors: tuple[int, ...] = (2,)) -> Iterator[Said]:
    """Send what libraries print, warn and log to the logger "course.export" (level DEBUG), nowhere else.

    A notebook that is graded must have an empty stderr, native code's included (nbgrader scores it 0 else).
    descriptors: file descriptors whose native output is taken too, that of other threads included.
    """
    said, python = Said(), io.StringIO()
    streams = [_Diverted(sys.stdout, python), _Diverted(sys.stderr, python)]
    lines = ""
    try:
        with contextlib.ExitStack() as stack:
            native = [stack.enter_context(_native_output(descriptor)) for descriptor in descriptors]
            said.warnings = stack.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
            said.text = lambda: "\n".join(
                [python.getvalue(), *(read() for read in native), *(str(w.message) for w in said.warnings)]
            )
            _divert_handlers(stack, {id(sys.stdout), id(sys.stderr)}, streams[1])
            stack.enter_context(contextlib.redirect_stdout(streams[0]))
            stack.enter_context(contextlib.redirect_stderr(streams[1]))
            try:
                yield said
            finally:
                for stream in streams:  # a library may have kept them: from now on they pass everything on
                    stream.diverted = None
                lines = said.text()
    finally:
        said.text = lambda: lines
        for line in _ANSI.sub("", lines).splitlines():  # only now: the learner's handler may write to stderr
            log.debug("%s", line)


def _divert_handlers(stack: contextlib.ExitStack, streams: set[int], target: _Diverted) -> None:
    """Log handlers keep the stream that they were made with: redirecting sys.stderr does not reach them."""
    for name, logger in list(logging.root.manager.loggerDict.items()):
        for handler in getattr(logger, "handlers", []) if name.startswith(_NOISY) else []:
            if isinstance(handler, logging.StreamHandler) and id(handler.stream) in streams:
                with contextlib.suppress(AttributeError):  # one that looks sys.stderr up each time
                    stack.callback(handler.setStream, handler.setStream(target))


@contextlib.contextmanager
def _native_output(descriptor: int) -> Iterator[Callable[[], str]]:
    """Divert a file descriptor, where C++ code writes; yields a function that gives the text so far."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        saved = os.dup(descriptor)
        os.dup2(file.fileno(), descriptor)
        try:
            yield lambda: os.pread(file.fileno(), 1 << 22, 0).decode(errors="replace")
        finally:
            os.dup2(saved, descriptor)
            os.close(saved)
