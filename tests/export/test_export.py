"""course.export: what is written works at every size, and what cannot work is refused with a reason."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course import export as export_module
from course.errors import (
    CourseError,
    DtypeError,
    MissingFileError,
    ParityError,
    ParseError,
    ShapeError,
    UnsupportedError,
)
from course.export import Parity, check_parity, export
from course.export import exporters as exporters_module
from course.export.exporters import _LIBRARIES as LIBRARIES
from course.export.exporters import quiet
from course.export.parity import OnnxRunner
from course.paths import ROOT

torch.set_num_threads(2)
BOTH = pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 10)
        self.drop = nn.Dropout(0.5)

    def features(self, x):
        return torch.relu(self.norm(self.conv(x)))

    def forward(self, x):
        return self.head(self.drop(self.features(x).mean((2, 3))))


class Detector(nn.Module):
    """Two scales, an upsampling, a grid made from the shape, two outputs: what a YOLO has."""

    def __init__(self):
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 3, 2, 1)
        self.heads = nn.ModuleList([nn.Conv2d(16, 9, 1), nn.Conv2d(8, 9, 1)])

    def forward(self, x):
        fine = F.silu(self.stem(x))
        coarse = F.silu(self.down(fine))
        fine = torch.cat([fine, F.interpolate(coarse, scale_factor=2.0, mode="nearest")], 1)
        boxes = []
        for feature, head in zip((fine, coarse), self.heads):
            y = head(feature)
            grid_y, grid_x = torch.meshgrid(torch.arange(y.shape[2]), torch.arange(y.shape[3]), indexing="ij")
            grid = torch.stack([grid_x, grid_y]).reshape(1, 2, -1).float()
            y = y.flatten(2)
            boxes.append(torch.cat([y[:, :2].sigmoid() + grid, y[:, 2:4].exp(), y[:, 4:].sigmoid()], 1))
        all_boxes = torch.cat(boxes, 2).transpose(1, 2)
        return all_boxes[..., :4], all_boxes[..., 4:]


def build(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return kind().eval()


def image(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def dims(path, outputs: bool = False) -> list[list]:
    graph = onnx.load(str(path)).graph
    return [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (graph.output if outputs else graph.input)
    ]


def write(model, x, path, **options):
    options = {
        "input_names": ["x"],
        "output_names": ["y"],
        "dynamic": {"x": {0: "batch"}},
        "target": "onnxruntime",
        **options,
    }
    return export(model, (x,), path, **options)


# ------------------------------------------------------------------ what works


@BOTH
def test_a_classifier_keeps_its_dynamic_batch_and_its_answers(tmp_path, exporter):
    model, path = build(Classifier), tmp_path / "new" / "net.onnx"
    done = write(model, image(2, 3, 16, 16), path, exporter=exporter)
    assert (done.path, done.exporter, done.notes) == (path, exporter, ())
    assert dims(path) == [["batch", 3, 16, 16]] and dims(path, outputs=True) == [["batch", 10]]
    proto = onnx.load(str(path), load_external_data=False)
    assert proto.ir_version <= 10 and proto.opset_import[0].version == done.opset == 18
    assert len(proto.graph.node) == done.nodes_after <= done.nodes_before
    assert done.sha256 == export_module.sha256(path) and done.seconds > 0
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer)
    assert [file.name for file in path.parent.iterdir()] == ["net.onnx"]
    parity = check_parity(model, path, {"x": image(5, 3, 16, 16, seed=7)})
    assert parity.samples == 5 and parity.top1 == 1.0 and parity.max_abs < 1e-5


@BOTH
def test_a_detector_with_two_outputs_and_dynamic_height_and_width(tmp_path, exporter):
    model, path = build(Detector), tmp_path / "yolo.onnx"
    done = write(
        model,
        image(1, 3, 32, 48),
        path,
        exporter=exporter,
        output_names=["boxes", "scores"],
        dynamic={"x": {0: "batch", 2: "height", 3: "width"}, "scores": {1: "anchors"}},
    )
    assert dims(path) == [["batch", 3, "height", "width"]]
    assert dims(path, outputs=True) == [["batch", "boxes_axis1", 4], ["batch", "anchors", 5]]
    assert done.nodes_after < done.nodes_before or exporter == "dynamo"
    feeds = [{"x": image(n, 3, h, w)} for n, h, w in [(1, 32, 48), (3, 64, 32), (2, 96, 80)]]
    parity = check_parity(model, path, feeds)
    assert parity.samples == 6 and parity.top1 is None and parity.cosine > 0.99999


def test_resnet18_for_tensorrt_8_6_is_opset_17_and_for_10_comes_from_dynamo(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model, path = torchvision.models.resnet18(num_classes=10).eval(), tmp_path / "resnet.onnx"
    for target, opset, exporter in (("8.6", 17, "torchscript"), ("10", 18, "dynamo")):
        done = write(model, image(1, 3, 64, 64), path, target=target)
        assert (done.opset, done.exporter, done.notes) == (opset, exporter, ())
        assert check_parity(model, path, {"x": image(4, 3, 64, 64)}).top1 == 1.0
    assert done.nodes_after == 49  # 20 Conv with batch normalisation folded in, 17 Relu, 8 Add, 4 others


@BOTH
def test_several_inputs_integers_and_a_fixed_size(tmp_path, exporter):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, tokens, scale):
            return {"sum": (self.table(tokens) * scale[:, :, None]).sum(1)}

    model, path = build(Two), tmp_path / "two.onnx"
    args = torch.arange(6).reshape(2, 3), image(2, 3)
    names = {"input_names": ["tokens", "scale"], "output_names": ["sum"], "exporter": exporter, "target": "10"}
    export(model, args, path, dynamic={"tokens": {0: "batch"}, "scale": {0: "batch"}}, **names)
    assert dims(path) == [["batch", 3], ["batch", 3]] and dims(path, outputs=True) == [["batch", 4]]
    check_parity(model, path, {"scale": image(5, 3), "tokens": torch.arange(15).reshape(5, 3) % 10})
    export(model, args, path, **names)
    assert dims(path) == [[2, 3], [2, 3]] and dims(path, outputs=True) == [[2, 4]]


@BOTH
def test_a_model_that_works_in_place_on_its_input_is_checked_on_the_same_input(tmp_path, exporter):
    class InPlace(Classifier):
        def forward(self, x):
            return super().forward(x.relu_())

    model, x, path = build(InPlace), image(2, 3, 8, 8), tmp_path / "net.onnx"
    before = x.clone()
    write(model, x, path, exporter=exporter)
    check_parity(model, path, {"x": x})
    assert torch.equal(x, before)


def test_a_branch_on_a_shape_is_no_branch_on_the_data(tmp_path):
    class Padded(Classifier):
        def forward(self, x):
            return super().forward(F.pad(x, (0, 1)) if x.shape[3] % 2 else x)

    write(build(Padded), image(2, 3, 8, 7), tmp_path / "net.onnx", exporter="torchscript")


def test_without_simplification_the_graph_stays_as_exported(tmp_path):
    done = write(
        build(Detector),
        image(2, 3, 32, 32),
        tmp_path / "net.onnx",
        exporter="torchscript",
        simplify=False,
        output_names=["boxes", "scores"],
    )
    assert done.nodes_before == done.nodes_after and "after simplification" not in str(done)


def test_when_simplification_breaks_something_the_graph_is_kept_and_a_note_says_so(tmp_path, monkeypatch):
    onnxslim = pytest.importorskip("onnxslim")

    def lose_the_axis(proto):
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        return proto

    for broken, text in ((lose_the_axis, "changed inputs"), (lambda proto: 1 / 0, "division by zero")):
        monkeypatch.setattr(onnxslim, "slim", broken)
        done = write(build(Classifier), image(2, 3, 8, 8), tmp_path / "net.onnx", exporter="torchscript")
        assert text in done.notes[0] and done.nodes_before == done.nodes_after
        assert dims(done.path) == [["batch", 3, 8, 8]]


def test_the_target_is_what_is_installed(monkeypatch):
    class FakeTensorRT:  # only its version is read
        __version__ = "8.6.0"

    for version, target in (("8.6.0", "8.6"), ("8.5.3", "8.6"), ("10.16.1.11", "10"), ("11.4.0", "11")):
        FakeTensorRT.__version__ = version
        monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT)
        assert export_module._installed_target() == target
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # its import fails
    assert export_module._installed_target() == "onnxruntime"


# ------------------------------------------------------------------ silence

QUIET = """
from tests.export.test_export import *
write(build(Classifier), image(2, 3, 8, 8), {path!r})
for kind, exporter in [(Branch, "auto"), (Unknown, "dynamo"), (Unknown, "torchscript")]:
    try:
        write(build(kind), image(2, 3, 8, 8), {path!r}, exporter=exporter)
    except CourseError:
        pass
"""


def test_nothing_reaches_stdout_or_stderr_in_success_and_failure(tmp_path):
    code = QUIET.format(path=str(tmp_path / "x.onnx"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("", "")


def test_what_the_exporters_say_is_in_the_log_and_streams_are_given_back(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG, logger="course.export")

    def handler_streams():
        return [h.stream for h in logging.getLogger("torch").handlers if isinstance(h, logging.StreamHandler)]

    before = sys.stdout, sys.stderr, list(warnings.filters), handler_streams()
    write(build(Classifier), image(2, 3, 8, 8), tmp_path / "x.onnx", exporter="torchscript")
    assert any("legacy TorchScript" in text or "deprecated" in text.lower() for text in caplog.messages)
    assert (sys.stdout, sys.stderr, list(warnings.filters), handler_streams()) == before
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_in_a_notebook_log_handlers_are_silenced_too_but_not_other_threads(monkeypatch):
    # A Jupyter kernel's sys.stderr is an object of its own, which file descriptor 2 does not know.
    notebook = io.StringIO()
    monkeypatch.setattr(sys, "stderr", notebook)
    logger, handler = logging.getLogger("torch.made_for_this_test"), logging.StreamHandler()
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with quiet() as said:
            logger.warning("from the library")
            print("from this thread", file=sys.stderr)
            other = threading.Thread(target=lambda: print("progress 50 %", file=sys.stderr))
            other.start()
            other.join()
        assert notebook.getvalue() == "progress 50 %\n"
        assert said.text().split("\n")[:2] == ["from the library", "from this thread"]
        logger.warning("afterwards")
        assert notebook.getvalue().endswith("afterwards\n") and sys.stderr is notebook
    finally:
        logger.removeHandler(handler)


# ------------------------------------------------------------------ what is refused


class BuiltIn(Classifier):
    def forward(self, x):
        y = self.features(x)
        return y.reshape(int(x.shape[0]), 8, -1)


class BuiltInPlace(Classifier):
    def forward(self, x):
        y = self.features(x)
        y.resize_(int(x.shape[0]) * 8, x.shape[2] * x.shape[3])
        y.mul_(2)
        return y.view(int(x.shape[0]), 8, -1)


class Branch(Classifier):
    def forward(self, x):
        y = self.features(x)
        if y.sum() > 0:
            return y
        return -y


class BuiltInValue(Classifier):
    def forward(self, x):
        return self.features(x / x.abs().max().item())


class Unknown(Classifier):
    def forward(self, x):
        return torch.linalg.eigvals(self.features(x)[:, 0]).real


class UnknownInside(Classifier):
    """The operator is called by PyTorch's own Python code, which is called here."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(3)

    def forward(self, x):
        y = self.features(x)
        return self.pool(y).flatten(1)


class FixedSize(Classifier):
    def forward(self, x):
        return self.features(x).reshape(2, 512)


def refused(kind, tmp_path, error=CourseError, **options) -> str:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"the file of before")
    with pytest.raises(error) as caught:
        write(build(kind), image(2, 3, 8, 8), path, **options)
    assert path.read_bytes() == b"the file of before" and len(list(tmp_path.iterdir())) == 1
    assert "Next step: " in str(caught.value)
    return str(caught.value)


def line_of(text: str) -> str:
    lines = open(__file__).read().splitlines()
    return f"line {next(i for i, line in enumerate(lines, 1) if text in line and 'line_of' not in line)}"


@BOTH
def test_a_built_in_batch_size_is_refused_and_the_node_named(tmp_path, exporter):
    text = refused(BuiltIn, tmp_path, exporter=exporter)
    assert "Reshape" in text and "[2, 8, -1]" in text and "x.shape[0] or -1" in text
    if exporter == "dynamo":
        assert line_of("return y.reshape(int(x.shape[0]), 8, -1)") in text


def test_an_exporter_that_fixed_a_dynamic_axis_is_found_out(tmp_path, monkeypatch):
    real = export_module.run_exporter

    def fixing(choice, job):
        proto = real(choice, job)
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        return proto

    monkeypatch.setattr(export_module, "run_exporter", fixing)
    assert "Axis 0 ('batch') of 'x' became a fixed size" in refused(Classifier, tmp_path, exporter="torchscript")


@BOTH
def test_a_batch_size_built_in_by_an_in_place_call_is_refused(tmp_path, exporter):
    assert "Next step" in refused(BuiltInPlace, tmp_path, exporter=exporter)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript", "auto"])
def test_a_branch_on_the_data_is_refused(tmp_path, exporter):
    text = refused(Branch, tmp_path, UnsupportedError, exporter=exporter)
    assert "branch that depends on the data" in text and "torch.where" in text
    assert line_of("if y.sum() > 0:") in text


def test_a_value_taken_out_of_a_tensor_is_refused(tmp_path):
    text = refused(BuiltInValue, tmp_path, exporter="torchscript")
    assert "on other values than the example's" in text and ".item()" in text


@BOTH
def test_an_operator_without_onnx_form_is_refused_by_name(tmp_path, exporter):
    text = refused(Unknown, tmp_path, UnsupportedError, exporter=exporter)
    assert "linalg_eig" in text and line_of("return torch.linalg.eigvals") in text


@BOTH
def test_an_unknown_operator_inside_pytorchs_own_code_is_named_with_the_learners_line(tmp_path, exporter):
    text = refused(UnknownInside, tmp_path, UnsupportedError, exporter=exporter)
    assert "adaptive_max_pool2d" in text and line_of("return self.pool(y).flatten(1)") in text
    assert f" of {__file__}." in text


def test_libraries_are_known_by_their_place_not_only_by_the_name_site_packages(monkeypatch):
    monkeypatch.setattr(exporters_module, "_LIBRARIES", ("/env/site/",))
    theirs = exporters_module._is_theirs
    assert not theirs("/env/site/torch/onnx/utils.py") and not theirs("/x/site-packages/torch/nn/functional.py")
    assert theirs("/env/site-of-mine/net.py") and theirs("/home/me/net.py")
    assert any(torch.__file__.startswith(folder) for folder in LIBRARIES)


def test_a_model_that_fails_in_pytorch_at_another_batch_size_is_refused(tmp_path):
    text = refused(FixedSize, tmp_path)
    assert "fails in PyTorch already at batch=1" in text and "shape" in text


def test_a_model_in_training_mode_is_refused(tmp_path):
    model = build(Classifier)
    model.drop.train()
    with pytest.raises(CourseError, match="training mode.*\n.*1 modules are, the first is drop"):
        write(model, image(2, 3, 8, 8), tmp_path / "x.onnx")


def test_a_model_that_answers_at_random_is_refused(tmp_path):
    class Noise(Classifier):
        def forward(self, x):
            return self.features(x) + torch.randn(8, 8)

    refused(Noise, tmp_path, exporter="torchscript")


@pytest.mark.parametrize(
    "change, error, message",
    [
        (dict(input_names=["a", "b"]), CourseError, "1 example inputs for 2 names"),
        (dict(output_names=["x"]), CourseError, "same name"),
        (dict(output_names=["y", "z"]), CourseError, "has 1 outputs"),
        (dict(dynamic={"z": {0: "batch"}}), CourseError, "dynamic names 'z'"),
        (dict(dynamic={"x": {4: "batch"}}), CourseError, "axis 4"),
        (dict(dynamic={"x": {0: "my batch"}}), CourseError, "my batch"),
        (dict(dynamic={"x": {2: "side", 3: "side"}}), CourseError, "two sizes"),
        (dict(target="7"), CourseError, "target '7'"),
        (dict(exporter="tracing"), CourseError, "exporter 'tracing'"),
        (dict(target="8.6", opset=18), UnsupportedError, "too new for TensorRT 8.6"),
    ],
)
def test_a_wrong_call_is_refused(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        write(build(Classifier), image(2, 3, 8, 10), tmp_path / "x.onnx", **change)
    assert not list(tmp_path.iterdir())


def test_other_precisions_than_float32_are_refused(tmp_path):
    with pytest.raises(DtypeError, match="'conv.weight' is float16"):
        write(build(Classifier).half(), image(2, 3, 8, 8), tmp_path / "x.onnx")
    with pytest.raises(DtypeError, match="'x' is float64"):
        write(build(Classifier), image(2, 3, 8, 8).double(), tmp_path / "x.onnx")


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CourseError, match="No space left"):
        write(build(Classifier), image(2, 3, 8, 8), tmp_path / "x.onnx", exporter="torchscript")
    assert not list(tmp_path.iterdir())


def test_when_the_first_exporter_fails_auto_takes_the_other_and_says_so(tmp_path, monkeypatch):
    real = export_module.run_exporter

    def without_dynamo(choice, job):
        if choice == "dynamo":
            raise CourseError("No dynamo.", "Test.", "None.")
        return real(choice, job)

    monkeypatch.setattr(export_module, "run_exporter", without_dynamo)
    done = write(build(Classifier), image(2, 3, 8, 8), tmp_path / "x.onnx")
    assert done.exporter == "torchscript" and "No dynamo." in done.notes[0]


# ------------------------------------------------------------------ parity


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = build(Classifier)
    path = tmp_path_factory.mktemp("parity") / "net.onnx"
    write(model, image(2, 3, 16, 16), path, exporter="torchscript")
    return model, path


class Scaled:
    """A converted model with a mistake: anything with run(dict) -> dict can be checked."""

    def __init__(self, path, change):
        self.runner, self.change = OnnxRunner(path), change

    def run(self, feeds):
        return self.change(self.runner.run(feeds))


def test_parity_reads_paths_bytes_models_and_engines(exported):
    model, path = exported
    feeds = {"x": image(4, 3, 16, 16)}
    for source in (
        path,
        str(path),
        path.read_bytes(),
        onnx.load(str(path)),
        OnnxRunner(path),
        Scaled(path, lambda out: {k: torch.from_numpy(v) for k, v in out.items()}),
    ):
        parity = check_parity(model, source, feeds)
        assert isinstance(parity, Parity) and parity.samples == 4
    assert "4 samples: largest difference" in str(parity) and "top-1 agreement 100.0 %" in str(parity)
    assert "\n" not in str(parity)


def test_parity_numbers_are_those_of_a_direct_calculation(exported):
    model, path = exported
    x = image(6, 3, 16, 16)
    broken = Scaled(path, lambda out: {"y": out["y"] + np.linspace(0, 0.5, 60, dtype=np.float32).reshape(6, 10)})
    got = check_parity(model, broken, {"x": x}, max_abs=9, min_cosine=-1, min_top1=0)
    wanted = model(x).detach().double().numpy()
    answer = broken.run({"x": x.numpy()})["y"].astype(np.float64)
    cosine = F.cosine_similarity(torch.from_numpy(wanted), torch.from_numpy(answer)).min().item()
    assert got.max_abs == pytest.approx(np.abs(wanted - answer).max(), abs=1e-9)
    assert got.cosine == pytest.approx(cosine, abs=1e-9)
    assert got.top1 == (wanted.argmax(1) == answer.argmax(1)).mean()


def test_another_preprocessing_is_refused(exported):
    model, path = exported

    class SwapsChannels:
        def run(self, feeds):
            return OnnxRunner(path).run({"x": feeds["x"].flip(1)})

    with pytest.raises(ParityError, match="largest difference .* allowed 0.001(.|\n)*preprocessing"):
        check_parity(model, SwapsChannels(), {"x": image(4, 3, 16, 16)})


@pytest.mark.parametrize(
    "limit", [{"max_abs": 1e-9}, {"max_abs": 9, "min_cosine": 0.99}, {"max_abs": 9, "min_cosine": -1, "min_top1": 0.9}]
)
def test_each_limit_refuses_by_itself(exported, limit):
    model, path = exported
    broken = path if limit == {"max_abs": 1e-9} else Scaled(path, lambda out: {"y": -out["y"]})
    with pytest.raises(ParityError, match="does not give PyTorch's answers"):
        check_parity(model, broken, {"x": image(4, 3, 16, 16)}, **limit)


def test_one_bad_sample_among_many_is_found(exported):
    model, path = exported

    def spoil(out):
        out["y"][7] = 0
        return out

    with pytest.raises(ParityError):
        check_parity(model, Scaled(path, spoil), {"x": image(20, 3, 16, 16)}, max_abs=9, min_top1=0)


def test_nan_never_passes(exported):
    model, path = exported
    x = image(2, 3, 16, 16)
    x[1, 0, 0, 0] = float("nan")  # both sides give NaN here
    loose = {"max_abs": 9.0, "min_cosine": -1.0, "min_top1": 0.0}
    with pytest.raises(ParityError, match="NaN"):
        check_parity(model, path, {"x": x}, **loose)

    def spoil(out):
        out["y"][0, 0] = np.nan
        return out

    with pytest.raises(ParityError, match="1 such values in the converted model, 0 in PyTorch"):
        check_parity(model, Scaled(path, spoil), {"x": image(2, 3, 16, 16)}, **loose)


def test_training_mode_is_refused_before_it_changes_the_model(exported):
    model, path = build(Classifier), exported[1]
    model.train()
    before = model.norm.running_mean.clone()
    with pytest.raises(ParityError, match="training mode"):
        check_parity(model, path, {"x": image(2, 3, 16, 16)})
    assert torch.equal(model.norm.running_mean, before)


def test_a_random_model_is_called_random(exported):
    class Dropped(Classifier):
        def forward(self, x):
            return F.dropout(super().forward(x))  # training=True is its default, a common mistake

    with pytest.raises(ParityError, match="two answers for one input"):
        check_parity(build(Dropped), exported[1], {"x": image(4, 3, 16, 16)})


@pytest.mark.parametrize(
    "feeds, error, message",
    [
        ([], CourseError, "no inputs"),
        ({"image": np.zeros((1, 3, 16, 16), np.float32)}, ShapeError, "inputs given are"),
        ({"x": np.zeros((1, 3, 16, 16))}, DtypeError, "float64, the model takes float32"),
        ({"x": np.zeros((1, 3, 8, 8), np.float32)}, ShapeError, "fails on x"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(exported, feeds, error, message):
    with pytest.raises(error, match=message):
        check_parity(build(Classifier), exported[1], feeds)


def test_files_that_are_no_model_are_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ParseError, match="bad.onnx"):
        check_parity(build(Classifier), tmp_path / "bad.onnx", {"x": image(1, 3, 16, 16)})
    with pytest.raises(MissingFileError, match="none.onnx"):
        check_parity(build(Classifier), tmp_path / "none.onnx", {"x": image(1, 3, 16, 16)})


def test_outputs_that_do_not_fit_are_refused(exported):
    model, path = exported
    for change, message in ((lambda out: {}, "has 0 outputs"), (lambda out: {"y": out["y"][:, :5]}, r"shape \[2, 5\]")):
        with pytest.raises(ParityError, match=message):
            check_parity(model, Scaled(path, change), {"x": image(2, 3, 16, 16)})
