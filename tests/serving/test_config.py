"""config.pbtxt: what is wrong is found before a server starts, and said with its field, cause and next step."""

from __future__ import annotations

import pytest

from course.serving import ServingError, config

GOOD = """
backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
ENSEMBLE = """
platform: "ensemble" max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
ensemble_scheduling { step [ { model_name: "m" model_version: -1
  input_map { key: "x" value: "x" } output_map { key: "y" value: "y" } } ] }
"""


def repository(folder, **texts):
    for name, text in texts.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(text)
        (folder / name / "1" / "model.py").write_text("")
    return folder


def refused(folder, place="cpu", which=""):
    with pytest.raises(ServingError) as error:
        config.check_repository(folder, place, which)
    return error.value


def test_a_right_one_is_read_and_written_back(tmp_path):
    read = config.check_repository(repository(tmp_path, m=GOOD, e=ENSEMBLE))
    assert list(read) == ["e", "m"] and read["m"].max_batch_size == 8
    assert config.parse(config.text(read["e"])) == read["e"]


@pytest.mark.parametrize(
    "text, line, meant",
    [
        ('backend: "python"\nmax_batch: 4', "line 2", "Did you mean max_batch_size?"),
        ('input [ {\n name: "x"\n data_type: FP32 } ]', "line 3", "Did you mean TYPE_FP32?"),
        ("dynamic_batching { prefered_batch_size: 4 }", "line 1", "Did you mean preferred_batch_size?"),
        ("instance_group [ { kind: GPU } ]", "line 1", "Did you mean KIND_GPU?"),
        ('backend: "python', "line 1", "Compare the line"),
        ("max_batch_size: many", "line 1", "Compare the line"),
        ("qqqq: 1", "line 1", "Use one of"),
    ],
)
def test_a_slip_of_the_pen_is_found_with_its_line(text, line, meant):
    with pytest.raises(ServingError) as error:
        config.parse(text)
    assert line in error.value.what and meant in error.value.next_step, error.value


@pytest.mark.parametrize(
    "old, new, field, cause",
    [
        ('backend: "python"', "", "backend", "missing"),
        ('backend: "python"', 'backend: "onnxruntime"', "backend", "has python"),
        ('backend: "python"', 'platform: "tensorrt_plan"', "backend", '"tensorrt" is not in'),
        ("backend:", 'name: "n" backend:', "name", '"n"'),
        ("backend:", 'default_model_filename: "other.py" backend:', "default_model_filename", "missing"),
        ("size: 8", "size: -1", "max_batch_size", "-1"),
        ("size: 8", "size: 0 dynamic_batching { }", "dynamic_batching", "takes no batches"),
        ("size: 8", "size: 8 dynamic_batching { preferred_batch_size: [ 4, 16 ] }", "preferred_batch_size", "16"),
        ("size: 8", "size: 8 instance_group [ { kind: KIND_GPU } ]", "instance_group[0].kind", "KIND_GPU"),
        ("size: 8", "size: 8 instance_group [ { count: -2 } ]", "instance_group[0].count", "-2"),
        ("size: 8", "size: 8 optimization { cuda { graphs: true } }", "cuda.graphs", "Only the tensorrt"),
        ("dims: [ 4 ]", "", "input[0].dims", "missing"),
        ("dims: [ 4 ]", "dims: [ 0 ]", "input[0].dims", "[0]"),
        ('name: "x"', "", "input[0].name", "missing"),
        ("data_type: TYPE_FP32 dims: [ 4 ]", "dims: [ 4 ]", "input[0].data_type", "missing"),
        ('output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]', "", "output", "no output"),
        ("dims: [ 4 ] }", 'dims: [ 4 ] }, { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }', "input[0].name", "twice"),
    ],
)
def test_a_wrong_field_is_named(tmp_path, old, new, field, cause):
    assert old in GOOD
    error = refused(repository(tmp_path, m=GOOD.replace(old, new, 1)))
    assert field in error.what and cause in error.cause and error.next_step, error


@pytest.mark.parametrize(
    "old, new, field, cause",
    [
        ('model_name: "m"', 'model_name: "n"', "step[0].model_name", 'no model "n"'),
        ('input_map { key: "x"', 'input_map { key: "z"', "step[0].input_map", 'no tensor "z"'),
        ('input_map { key: "x" value: "x" }', "", "step[0].input_map", "gets no tensor"),
        ('key: "x" value: "x"', 'key: "x" value: "q"', "step[0].input_map", 'Nothing makes the tensor "q"'),
        ('key: "y" value: "y"', 'key: "y" value: "q"', "output[0].name", 'No step makes "y"'),
        ('input [ { name: "x" data_type: TYPE_FP32', 'input [ { name: "x" data_type: TYPE_FP16', "input_map", "dtype"),
    ],
)
def test_a_wrong_ensemble_is_named(tmp_path, old, new, field, cause):
    assert old in ENSEMBLE
    error = refused(repository(tmp_path, m=GOOD, e=ENSEMBLE.replace(old, new, 1)))
    assert field in error.what and cause in error.cause, error


def test_graphs_that_would_silently_not_be_used_are_refused(tmp_path):
    text = GOOD.replace("python", "tensorrt") + "dynamic_batching { }\noptimization { cuda { graphs: true } }"
    repository(tmp_path, m=text)
    (tmp_path / "m" / "1" / "model.plan").write_bytes(b"plan")
    assert "run without one" in refused(tmp_path, "container").cause
    (tmp_path / "m" / "config.pbtxt").write_text(text.replace("{ }", "{ preferred_batch_size: [ 4, 8 ] }"))
    config.check_repository(tmp_path, "container")


def test_another_configuration_is_used_where_there_is_one(tmp_path):
    repository(tmp_path, m=GOOD, n=GOOD)
    (tmp_path / "m" / "configs").mkdir()
    (tmp_path / "m" / "configs" / "gpu.pbtxt").write_text(GOOD.replace("8", "4"))
    sizes = {name: each.max_batch_size for name, each in config.check_repository(tmp_path, "gpu", "gpu").items()}
    assert sizes == {"m": 4, "n": 8}


def test_no_repository_and_no_version(tmp_path):
    assert "no model repository" in refused(tmp_path / "nothing").what
    repository(tmp_path, m=GOOD)
    (tmp_path / "m" / "1").rename(tmp_path / "m" / "one")
    assert "version folder" in refused(tmp_path).what
