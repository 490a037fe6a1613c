"""`model.plan` beside `model.onnx`, in a copy of a repository; and what keeps it from being built."""

from __future__ import annotations

import pytest

from course.serving import ServingError, plans
from tests.serving import networks

CONFIG = """
backend: "python"
max_batch_size: {size}
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ 16 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ 32 ] }} ]
"""


@pytest.fixture
def repository(tmp_path):
    """Two models; the second has no network."""

    def make(size: int = 8):
        for name in ("net", "other"):
            (tmp_path / "r" / name / "1").mkdir(parents=True)
            (tmp_path / "r" / name / "config.pbtxt").write_text(CONFIG.format(size=size))
            (tmp_path / "r" / name / "1" / "model.py").write_text("")
        (tmp_path / "r" / "net" / "1" / plans.ONNX).write_bytes(b"network")
        return tmp_path / "r"

    return make


def test_only_where_a_network_lies_and_only_in_the_copy(repository, tmp_path):
    asked = []

    def make(onnx, largest):
        asked.append((onnx, largest))
        return b"plan"

    source = repository()
    served = plans.beside(source, tmp_path / "s", make)
    assert asked == [(b"network", 8)]
    assert [path.relative_to(served) for path in served.rglob("*.plan")] == [
        (served / "net/1/model.plan").relative_to(served)
    ]
    assert not list(source.rglob("*.plan"))
    assert (served / "other/1/model.py").is_file()
    assert plans.beside(source, tmp_path / "s", make) == served  # once more, over the first


def test_without_batches_the_engine_is_for_one(repository, tmp_path):
    sizes = []
    plans.beside(repository(0), tmp_path / "s", lambda onnx, largest: sizes.append(largest) or b"")
    assert sizes == [1]


def test_a_batch_that_no_engine_is_built_for_is_refused(repository, tmp_path):
    with pytest.raises(ServingError, match="max_batch_size is 1000"):
        plans.beside(repository(1000), tmp_path / "s", lambda onnx, largest: b"")


def test_without_a_gpu_the_repository_is_served_as_it_is(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "available_runtimes", lambda: {"tensorrt": "no GPU"})
    source = repository()
    assert plans.beside(source, tmp_path / "s") == source and not (tmp_path / "s").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("largest", [1, 4])
def test_an_engine_takes_every_batch_up_to_the_largest(tmp_path, largest):
    import tensorrt as trt

    made = plans.plan(networks.mlp(tmp_path / "net.onnx", 16, 32).read_bytes(), largest)
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    engine = runtime.deserialize_cuda_engine(made)
    shapes = [tuple(shape) for shape in engine.get_tensor_profile_shape("x", 0)]
    assert shapes == [(1, 16), (largest, 16), (largest, 16)]
    assert engine.get_tensor_dtype("x") == engine.get_tensor_dtype("y") == trt.DataType.FLOAT
