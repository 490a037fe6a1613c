"""The gate behind every conversion: the same real inputs through PyTorch and through what it became."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_library
import torch

from course.errors import CourseError, DtypeError, MissingFileError, ParityError, ParseError, ShapeError

_LIKELY = (
    "Usual reasons: another preprocessing than in training (RGB or BGR, 0-1 or 0-255, mean and std), "
    "a model that was changed after the export, random layers, or float16 (give limits that fit it)."
)


@dataclass(frozen=True)
class Parity:
    """How close two versions of a model are, over all samples and outputs.

    max_abs: largest absolute difference of any value.
    cosine: smallest cosine similarity of any sample of any output.
    top1: part of the samples whose largest class is the same, over outputs [N, classes]; None if there are
        none.
    """

    max_abs: float
    cosine: float
    top1: float | None
    samples: int

    def __str__(self) -> str:
        top1 = "" if self.top1 is None else f", top-1 agreement {100 * self.top1:.1f} %"
        return f"{self.samples} samples: largest difference {self.max_abs:.2g}, cosine at least {self.cosine:.6f}{top1}"


def check_parity(
    model: torch.nn.Module,
    onnx: Any,
    feeds: Mapping[str, Any] | Iterable[Mapping[str, Any]],
    *,
    max_abs: float = 1e-3,
    min_cosine: float = 0.9999,
    min_top1: float = 0.99,
) -> Parity:
    """Run PyTorch and the converted model on the same real inputs, and refuse to go on if they disagree.

    Args:
        model: in eval mode; called with one tensor per input, in the order of the converted model's inputs.
            Best on the CPU: on a GPU, PyTorch's convolutions use TF32, which is off by some 1e-3.
        onnx: a path, bytes or ModelProto (run by ONNX Runtime on the CPU), or anything with run(dict) ->
            dict, such as a course Engine.
        feeds: input name -> array or tensor, axis 0 is the samples; or several such dicts.
        max_abs, min_cosine, min_top1: the limits. The defaults fit float32 on both sides; an fp16 engine
            needs wider ones, for example max_abs=0.05, min_cosine=0.999.

    Raises:
        ParityError: the answers differ by more than a limit, or hold a NaN; says the numbers and likely
            reasons.
        ShapeError, DtypeError, MissingFileError, ParseError: the inputs or the file do not fit.
    """
    if model.training or any(module.training for module in model.modules()):
        raise ParityError(
            f"{type(model).__name__} is in training mode.",
            "Dropout and batch normalisation act differently there: nothing can be compared.",
            "Call model.eval() first, and export again if the export was made in this mode.",
        )
    feeds = [feeds] if isinstance(feeds, Mapping) else list(feeds)
    if not feeds:
        raise CourseError("check_parity got no inputs.", "The list of feeds is empty.", "Give at least one real input.")
    if bad := [type(feed).__name__ for feed in feeds if not isinstance(feed, Mapping)]:
        raise CourseError(
            "check_parity got inputs without names.",
            f"Instead of a dict, it got {bad[0]}.",
            'Give a dict of name -> array, {"image": x}, or a list of them.',
        )
    runner = onnx if hasattr(onnx, "run") else OnnxRunner(onnx)
    name = str(onnx) if isinstance(onnx, (str, Path)) else "The converted model"
    results = []
    for feed in feeds:
        ordered = _in_order(feed, runner)
        answers = _converted(name, runner, feed)
        try:
            wanted = run_torch(model, ordered)
        except Exception as error:  # whatever forward() raises for values, shapes and dtypes that do not fit
            raise CourseError(
                f"{type(model).__name__} fails on these inputs in PyTorch.",
                f"{type(error).__name__}: {telling_line(error)}",
                "Give the inputs that the model was made for.",
            ) from error
        results.append(_compare(name, wanted, answers))
    top1 = [r.top1 for r in results if r.top1 is not None]
    weights = [r.samples for r in results if r.top1 is not None]
    parity = Parity(
        max(r.max_abs for r in results),
        min(r.cosine for r in results),
        float(np.average(top1, weights=weights)) if top1 else None,
        sum(r.samples for r in results),
    )
    broken = [
        text
        for text, bad in [
            (f"largest difference {parity.max_abs:.3g}, allowed {max_abs:g}", parity.max_abs > max_abs),
            (f"cosine {parity.cosine:.6f}, at least {min_cosine:g} is needed", parity.cosine < min_cosine),
            (
                f"top-1 agreement {parity.top1 or 0:.3f}, at least {min_top1:g} is needed",
                parity.top1 is not None and parity.top1 < min_top1,
            ),
        ]
        if bad
    ]
    if broken:
        if not np.array_equal(*(run_torch(model, _in_order(feeds[0], runner))[0] for _ in range(2))):
            broken.append("PyTorch itself gives two answers for one input")
        raise ParityError(
            f"{name} does not give PyTorch's answers.",
            f"On {parity.samples} samples: {'; '.join(broken)}.",
            f"Do not go on with this file. {_LIKELY}",
        )
    return parity


def _converted(name: str, runner: Any, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The converted model's answers as arrays, whatever `runner` is."""
    try:
        answers = runner.run(dict(feed))
        return {output: to_numpy(value) for output, value in answers.items()}
    except CourseError:
        raise
    except Exception as error:
        raise ParityError(
            f"{name} cannot be run on these inputs.",
            f"{type(error).__name__}: {telling_line(error)}",
            "Give it something whose run(dict of name -> array) returns a dict of output name -> array.",
        ) from error


class OnnxRunner:
    """An ONNX model on ONNX Runtime's CPU. `inputs`: names in order. run(dict) -> dict of numpy arrays."""

    def __init__(self, source: str | Path | bytes | onnx_library.ModelProto):
        import onnxruntime

        if isinstance(source, (str, Path)) and not Path(source).is_file():
            raise MissingFileError(f"{source} is missing.", "There is no such file.", "Export the model first.")
        data = source.SerializeToString() if isinstance(source, onnx_library.ModelProto) else source
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it would print to stderr; we raise its errors instead
        try:
            self.session = onnxruntime.InferenceSession(
                data if isinstance(data, bytes) else str(data), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base class but Exception
            label = str(source) if isinstance(source, (str, Path)) else "The ONNX model"
            raise ParseError(
                f"{label} cannot be run by ONNX Runtime.",
                last_line(error),
                "Export it again, with another exporter or opset.",
            ) from error
        self.inputs = tuple(value.name for value in self.session.get_inputs())
        self._types = {value.name: value.type for value in self.session.get_inputs()}
        self._outputs = [value.name for value in self.session.get_outputs()]

    def run(self, feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        arrays = {name: to_numpy(value) for name, value in feeds.items()}
        if set(arrays) != set(self.inputs):
            raise ShapeError(
                f"The inputs given are {sorted(arrays)}.",
                f"The model takes {sorted(self.inputs)}.",
                "Use the model's input names as the keys.",
            )
        for name, array in arrays.items():
            wanted = {"tensor(float)": "float32", "tensor(double)": "float64"}.get(
                self._types[name], self._types[name][len("tensor(") : -1]
            )
            if array.dtype.name != wanted:
                raise DtypeError(
                    f"Input {name!r} has the wrong dtype.",
                    f"It is {array.dtype}, the model takes {wanted}.",
                    f"Convert it: {name}.astype('{wanted}').",
                )
        try:
            return dict(zip(self._outputs, self.session.run(None, arrays)))
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
            raise ShapeError(
                f"The ONNX model fails on {shapes}.",
                telling_line(error),
                "Give the shape of the export, or make that axis dynamic.",
            ) from error


def run_torch(model: torch.nn.Module, args: Iterable[Any]) -> list[np.ndarray]:
    """Call `model` on its own device, on copies, without gradients; its output tensors in order as arrays."""
    place = next((p for p in [*model.parameters(), *model.buffers()]), torch.zeros(0)).device
    copies = [torch.as_tensor(arg).to(place, copy=True) for arg in args]
    with torch.no_grad():
        return [to_numpy(tensor) for tensor in flatten(model(*copies))]


def flatten(output: Any) -> list[torch.Tensor]:
    """The tensors of a model's output (one, or tuples, lists and dicts of them), in the exporters' order."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, Mapping):
        output = output.values()
    if isinstance(output, Iterable) and not isinstance(output, str):
        return [tensor for part in output for tensor in flatten(part)]
    return []


def to_numpy(value: Any) -> np.ndarray:
    """numpy has no bfloat16: such a tensor comes as float32."""
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def last_line(error: BaseException) -> str:
    """The last line of an error's text that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


_NUMBERS = re.compile(
    r"\bGot: ?\S+ Expected: ?\S+|\b(?:shape|size|dim|axis|index|input)\w*\b.*\d|\d+x\d+", re.IGNORECASE
)


def telling_line(error: BaseException) -> str:
    """The line of an error's text that holds the numbers; the last one where none does.

    ONNX Runtime ends its message with "Please fix either the inputs/outputs or the model."; the line above says
    "index: 0 Got: 1 Expected: 2".
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = [line for line in lines if "Expected:" in line] or [line for line in lines if _NUMBERS.search(line)]
    return " ".join(found[:3]) if found and "Expected:" in found[0] else (found or [last_line(error)])[-1]


def _in_order(feed: Mapping[str, Any], runner: Any) -> list[Any]:
    names = [getattr(spec, "name", spec) for spec in getattr(runner, "inputs", None) or feed]
    if set(names) != set(feed):
        raise ShapeError(
            f"The inputs given are {sorted(feed)}.",
            f"The model takes {sorted(names)}.",
            "Use the model's input names as the keys.",
        )
    return [feed[name] for name in names]


def _compare(name: str, expected: list[np.ndarray], answers: Mapping[str, np.ndarray]) -> Parity:
    if len(expected) != len(answers):
        raise ParityError(
            f"{name} has {len(answers)} outputs.",
            f"PyTorch gives {len(expected)}.",
            "Export the whole model, or compare with the part that was exported.",
        )
    worst, cosine, top1, samples = 0.0, 1.0, [], 1
    for (output, answer), wanted in zip(answers.items(), expected):
        if answer.shape != wanted.shape:
            raise ParityError(
                f"{name}: output {output!r} has shape {list(answer.shape)}.",
                f"PyTorch gives {list(wanted.shape)}.",
                "Export again; if an axis should be dynamic, name it in `dynamic`.",
            )
        if answer.dtype.kind not in "biufc":
            raise ParityError(
                f"{name}: output {output!r} holds {answer.dtype}.", "Only numbers can be compared.", "Leave it out."
            )
        if "c" in (answer.dtype.kind, wanted.dtype.kind):  # as two real numbers each
            answer, wanted = (np.stack([values.real, values.imag], -1) for values in (answer, wanted))
        x, y = answer.astype(np.float64), wanted.astype(np.float64)
        infinite = np.isinf(x) | np.isinf(y)
        if np.isnan(x).any() or np.isnan(y).any() or (x[infinite] != y[infinite]).any():
            bad = [int((~np.isfinite(values)).sum()) for values in (x, y)]
            raise ParityError(
                f"{name}: output {output!r} holds NaN or infinity.",
                f"{bad[0]} such values in the converted model, {bad[1]} in PyTorch.",
                "Check the inputs for NaN and their range first. In float16, values above "
                "65504 are infinite: keep the layers that make them in float32.",
            )
        x[infinite], y[infinite] = 0, 0  # equal ones, such as the -inf of a mask
        worst = max(worst, float(np.abs(x - y).max(initial=0.0)))
        cosine = min(cosine, _lowest_cosine(x, y))
        samples = len(x) if x.ndim else 1
        if x.ndim == 2 and x.shape[1] > 1 and samples:
            top1.append(float((x.argmax(1) == y.argmax(1)).mean()))
    return Parity(worst, cosine, min(top1) if top1 else None, samples)


def _lowest_cosine(x: np.ndarray, y: np.ndarray) -> float:
    """Smallest cosine similarity over axis 0; two vectors of zeros are alike, one against another is not."""
    x, y = (values.reshape(len(values) if values.ndim else 1, -1) for values in (x, y))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    same = (x == y).all(axis=1)
    cosines = np.where(same, 1.0, (x * y).sum(axis=1) / np.where(norms == 0, 1.0, norms))
    return float(np.clip(cosines, -1, 1).min(initial=1.0))
