"""Every artifact and the points that it must get on a CPU, out of 16 that a CPU can show (4 per check)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.onnx import files, graphs, models

PATH = "artifacts/resnet50.onnx"


@dataclass(frozen=True)
class Case:
    """`make(folder)` leaves a submission there. `points`: (dynamic-batch, answers, fp16, speed); None:
    between none and all of them. `says`: words that the learner must read."""

    name: str
    make: Callable[[Path], None]
    points: tuple[float | None, float | None, float | None, float | None]
    says: str


def _file(make: Callable[[Path], None], says: str) -> Case:
    return Case(make.__name__, make, (0, 0, 0, 0), says)


def _onnx(make: Callable[[], bytes], says: str, points=(0, 0, 0, 0)) -> Case:
    def write(folder: Path) -> None:
        (folder / PATH).write_bytes(make())

    return Case(make.__name__, write, points, says)


FILES = (
    _file(files.blank, "is missing"),
    _file(files.empty, "is empty"),
    _file(files.symlink_to_reference, "is a link"),
    _file(files.symlinked_folder, "artifacts is a link"),
    _file(files.hardlink_to_reference, "2 names"),
    _file(files.link_to_endless_device, "is a link"),
    _file(files.device, "is a"),
    _file(files.pipe, "is a pipe"),
    _file(files.unix_socket, "cannot be opened"),
    _file(files.folder_instead, "is a folder"),
    _file(files.file_instead_of_folder, "no folder"),
    _file(files.engine_only, "builds engines itself"),
    _file(files.engine_named_onnx, "builds engines itself"),
    _file(files.torch_file, "zip archive"),
    _file(files.bare_pickle, "pickle"),
    _file(files.zip_bomb, "gzip"),
    _file(files.sparse_giant, "At most 128 MB"),
)
GRAPHS = (
    _onnx(graphs.garbage, "not an ONNX model"),
    _onnx(graphs.truncated, "not an ONNX model"),
    _onnx(graphs.answers_at_random, "answers at random"),
    _onnx(graphs.one_output_many_times, "1001 times"),
    _onnx(graphs.size_below_zero, "has the size -7"),
    _onnx(graphs.external_weights, "in another file"),
    _onnx(graphs.external_in_attribute, "in another file"),
    _onnx(graphs.external_in_subgraph, "in another file"),
    _onnx(graphs.external_in_sparse, "in another file"),
    _onnx(graphs.foreign_operator, "com.evil"),
    _onnx(graphs.local_functions, "functions of its own"),
    _onnx(graphs.endless_loop, "is Loop"),
    _onnx(graphs.branch_on_input, "is If"),
    _onnx(graphs.claimed_giant, "shape"),
    _onnx(graphs.negative_dims, "shape"),
    _onnx(graphs.short_data, "do not fill its shape"),
    _onnx(graphs.many_nodes, "more than 5,000 nodes"),
    _onnx(graphs.parser_bomb, ""),
    _onnx(graphs.future_opset, "opsets"),
    _onnx(graphs.training_part, "training part"),
    _onnx(graphs.no_nodes, "holds no network"),
)
MODELS = (
    _onnx(models.fast_and_wrong, "those of another network"),
    _onnx(models.other_network, "those of another network"),
    _onnx(models.smaller_network, "those of another network"),
    _onnx(models.cut_network, "those of another network"),
    _onnx(models.all_nan, "NaN"),
    _onnx(models.two_outputs, "one output"),
    _onnx(graphs.memory_bomb, "too much memory"),
    _onnx(models.right_up_to_16, "Batch", (0, 4, 4, 0)),
    _onnx(models.batch_detector, "An answer of a timed run is wrong", (4, 4, 4, 0)),
    _onnx(models.honest_slow, "not as much faster", (4, 4, 4, 0)),
    _onnx(models.honest_static, "fixed number 1", (0, 4, 4, 0)),
    _onnx(models.honest_coarse, "", (4, None, None, 4)),
    _onnx(models.honest_softmax, "not those of the shipped", (0, 0, 0, 0)),
    _onnx(models.reference, "", (4, 4, 4, 4)),
)
