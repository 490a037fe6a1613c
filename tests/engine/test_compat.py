"""The branches between TensorRT versions, on stand-ins with just the names that each version has.

That the names really are so is proved against the bindings in tests/contract; that they work, on a GPU, in
test_engine_tensorrt.py.
"""

from __future__ import annotations

import enum
from types import SimpleNamespace

import pytest

from course.engine.trt import features as compat
from course.errors import BuildError, UnsupportedError
from tests.engine import zoo


class Config:
    """What a builder config is told."""

    def __init__(self, sources: int = 0):
        self.flags, self.sources = {"TF32"}, sources

    def set_flag(self, flag):
        self.flags.add(flag.name)

    def clear_flag(self, flag):
        self.flags.discard(flag.name)

    def get_tactic_sources(self):
        return self.sources

    def set_tactic_sources(self, mask):
        self.sources = mask


OLD = SimpleNamespace(
    __version__="8.6.0",
    BuilderFlag=enum.Enum("BuilderFlag", "FP16 INT8 TF32"),
    IInt8Calibrator=type("IInt8Calibrator", (), {}),
    NetworkDefinitionCreationFlag=enum.IntEnum("Flag", {"EXPLICIT_BATCH": 0}),
    TacticSource=enum.IntEnum("TacticSource", {"CUBLAS": 0, "CUBLAS_LT": 1, "CUDNN": 2, "EDGE_MASK_CONVOLUTIONS": 3}),
)
NEW = SimpleNamespace(
    __version__="11.4",
    BuilderFlag=enum.Enum("BuilderFlag", "TF32"),
    IProgressMonitor=object,
    NetworkDefinitionCreationFlag=enum.IntEnum("Flag", {"STRONGLY_TYPED": 1}),
    TacticSource=enum.IntEnum("TacticSource", {"EDGE_MASK_CONVOLUTIONS": 3}),
)


@pytest.mark.parametrize(
    "precision, quantised, old, new",
    [
        ("fp32", False, set(), set()),
        ("tf32", False, {"TF32"}, {"TF32"}),
        ("fp16", False, {"TF32", "FP16"}, {"TF32"}),
        ("int8", False, {"TF32", "FP16", "INT8"}, {"TF32"}),
        ("fp32", True, {"INT8"}, set()),
    ],
)
def test_precision_flags(precision, quantised, old, new):
    for trt, flags in ((OLD, old), (NEW, new)):
        config = Config()
        compat.set_precision(trt, config, precision, quantised)
        assert config.flags == flags


def test_network_flags_monitor_and_calibrator():
    assert (compat.network_flags(OLD), compat.network_flags(NEW)) == (1, 0)
    assert compat.sets_precision_by_flag(OLD) and not compat.sets_precision_by_flag(NEW)
    assert compat.reports_progress(NEW) and compat.attach_monitor(OLD, Config(), None) is None
    with pytest.raises(UnsupportedError, match="no calibrator"):
        compat.set_calibrator(NEW, Config(), OLD.IInt8Calibrator(), None)
    with pytest.raises(BuildError, match="not a calibrator"):
        compat.set_calibrator(OLD, Config(), object(), None)
    config, calibrator = Config(), OLD.IInt8Calibrator()
    compat.set_calibrator(OLD, config, calibrator, None)
    assert config.int8_calibrator is calibrator


@pytest.mark.parametrize(
    "status, off", [(0, []), (1, ["CUBLAS", "CUBLAS_LT", "CUDNN"]), (None, ["CUBLAS", "CUBLAS_LT", "CUDNN"])]
)
def test_libraries_that_do_not_work_are_switched_off(monkeypatch, status, off):
    def library(file):
        if status is None:
            raise OSError(file)
        return SimpleNamespace(
            **{name: lambda *_: status for names in compat._LIBRARIES.values() for name in names[1:]}
        )

    monkeypatch.setattr(compat.ctypes, "CDLL", library)
    compat._library_works.cache_clear()
    config = Config(0b1111)
    assert compat.set_tactic_sources(OLD, config, None) == off
    compat._library_works.cache_clear()
    assert config.sources == (0b1000 if off else 0b1111)
    assert compat.set_tactic_sources(NEW, config, None) == []


def test_chosen_tactic_sources():
    config = Config(0b1111)
    compat.set_tactic_sources(OLD, config, frozenset())
    assert config.sources == 0
    compat.set_tactic_sources(OLD, config, frozenset({"CUBLAS", "CUDNN"}))
    assert config.sources == 0b101
    with pytest.raises(UnsupportedError, match="no tactic source CUDNN"):
        compat.set_tactic_sources(NEW, config, frozenset({"CUDNN"}))


def test_parser_error_finds_its_node_with_and_without_a_name():
    nodes = zoo.convnet().graph.node
    assert compat.parser_error_node(SimpleNamespace(node=lambda: 1), nodes) == ("relu1", "Relu")
    assert compat.parser_error_node(SimpleNamespace(node=lambda: -1), nodes) == ("", "")
    named = SimpleNamespace(node=lambda: 1, node_name=lambda: "inner", node_operator=lambda: "Add")
    assert compat.parser_error_node(named, nodes) == ("inner", "Add")


def test_sizes_of_old_and_new_engines():
    old, new = (
        SimpleNamespace(device_memory_size=10),
        SimpleNamespace(device_memory_size_v2=20, device_memory_size=10),
    )
    assert (compat.activation_bytes(old), compat.activation_bytes(new)) == (10, 20)
    assert compat.weights_bytes(OLD, old) is None
    trt = SimpleNamespace(EngineStat=SimpleNamespace(TOTAL_WEIGHTS_SIZE=0))
    assert compat.weights_bytes(trt, SimpleNamespace(get_engine_stat=lambda stat: 30)) == 30
