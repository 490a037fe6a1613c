"""Reading and writing weights: safetensors with float16 kernels, or a `.pth` state dict."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from course.errors import DamagedFileError, MissingFileError, ShapeError
from course.files import atomic_write


def save_half(model: nn.Module, path: str | Path, metadata: dict[str, str] | None = None) -> Path:
    """Save `model` with its kernels rounded to float16, about half the size of float32.

    Tensors of two or more dimensions (convolution and linear kernels) become float16. Vectors (biases,
    batch-norm parameters and statistics) stay float32: they are small, and a variance may exceed float16's
    range. Batch-norm's `num_batches_tracked` counters are left out: inference does not use them.
    """
    state = {
        name: (value.half() if value.ndim > 1 else value.float()).cpu().contiguous()
        for name, value in _without_counters(model.state_dict()).items()
    }
    return atomic_write(path, save_safetensors(state, metadata))


def read_state(path: str | Path) -> dict[str, torch.Tensor]:
    """State dict of a `.safetensors` or `.pth` file, on the CPU. A `.pth` is read without running its code.

    Raises:
        MissingFileError: there is no such file.
        DamagedFileError: the file cannot be read, or it holds something other than named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"Weights file {path} is missing.",
            "There is no file of this name.",
            "Check the path, or leave the argument out to use the shipped weights.",
        )
    try:
        if path.suffix == ".safetensors":
            state = load_safetensors(path.read_bytes())
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError) as error:
        raise _unreadable(path, error) from error
    except Exception as error:  # pickle.UnpicklingError, also when weights_only refuses an object
        if type(error).__name__ != "UnpicklingError":
            raise
        raise _unreadable(path, error) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise DamagedFileError(
            f"Weights file {path} holds no state dict.",
            "Named tensors were expected.",
            "Save it with `torch.save(model.state_dict(), path)`.",
        )
    return state


def load_into(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> nn.Module:
    """Copy `state` into `model` as the model's own dtypes (float16 kernels become float32).

    Raises:
        ShapeError: a tensor is missing, unexpected, or of another shape; names the first one.
    """
    own, state = _without_counters(model.state_dict()), _without_counters(state)
    problems = [f"tensor {name} is missing" for name in own if name not in state]
    problems += [f"tensor {name} is not part of this network" for name in state if name not in own]
    problems += [
        f"tensor {name} has shape {tuple(state[name].shape)}, the network needs {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if problems:
        raise ShapeError(
            f"{source} does not fit this network ({len(problems)} differences).",
            f"The first: {problems[0]}.",
            "Use weights that were saved from the same architecture.",
        )
    model.load_state_dict(state, strict=False)
    return model


def _without_counters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def _unreadable(path: Path, error: Exception) -> DamagedFileError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return DamagedFileError(
        f"Weights file {path} cannot be read.",
        reason,
        "Copy or download the file again; a .pth must hold tensors only.",
    )
