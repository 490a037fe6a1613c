"""trtexec: command lines by generation, readers of logs and JSON files. All logs here are made up, in trtexec's format."""

from __future__ import annotations

import json

import numpy as np
import pytest

from course.engine import Profile
from course.errors import CourseError, DamagedFileError, MissingFileError, UnsupportedError
from course.profiling import trtexec, trtexec_command, trtexec_sample
from course.text import text_table

OLD = """\
[I] === Performance summary ===
[I] Throughput: 6555.57 qps
[I] Latency: min = 0.140259 ms, max = 8.92926 ms, mean = 0.147262 ms, median = 0.146484 ms, percentile(99%) = 0.15155 ms
[I] End-to-End Host Latency: min = 0.15 ms, max = 9 ms, mean = 0.16 ms, median = 0.155 ms, percentile(99%) = 0.2 ms
[I] Enqueue Time: min = 0.004 ms, max = 0.1 ms, mean = 0.01 ms, median = 0.01 ms, percentile(99%) = 0.02 ms
[I] H2D Latency: min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms, percentile(99%) = 0 ms
[I] GPU Compute Time: min = 0.140259 ms, max = 8.92926 ms, mean = 0.147262 ms, median = 1.46484e-01 ms, percentile(99%) = inf ms
[I] D2H Latency: min = 0 ms, max = 0 ms, mean = 0 ms, median = 0 ms, percentile(99%) = 0 ms
[I] Total Host Walltime: 3.0002 s
"""
PROFILE = Profile({"image": ((1, 3, 224, 224), (8, 3, 224, 224), (16, 3, 224, 224))})


@pytest.mark.parametrize("generation, version", [("8.6", "8.6.1"), ("10", "10.16.0"), ("11", "11.1.0")])
def test_a_log_of_each_generation(generation, version):
    text = trtexec_sample.log(1, generation, command="trtexec --onnx=a.onnx --shapes=x:1x3", warning="unstable")
    result = trtexec.read_log(text)
    assert (result.version, result.command) == (version, "trtexec --onnx=a.onnx --shapes=x:1x3")
    assert result.build_seconds == 21.5 and result.engine_mib == 47.2 and result.queries == 200
    assert set(result.compute.percentiles) == {90, 95, 99}
    assert result.compute.min <= result.compute.median <= result.compute.percentiles[90] <= result.compute.max
    assert result.warnings == ("* unstable",)
    trace = trtexec.read_times(trtexec_sample.times(1))
    assert result.latency.median == pytest.approx(np.median(trace.latency), rel=1e-4)
    assert result.throughput == pytest.approx(1000 * 200 / (trace.d2h_end[-1] - trace.h2d_start[0]), rel=1e-4)


def test_the_summary_alone_is_enough_and_odd_numbers_are_read():
    result = trtexec.read_log(OLD)
    assert result.version == "" and result.throughput == 6555.57 and result.wall_seconds == 3.0002
    assert result.compute.median == 0.146484 and result.compute.percentiles[99] == float("inf")
    assert [row[0] for row in result.rows()] == [
        "Latency",
        "Enqueue Time",
        "H2D Latency",
        "GPU Compute Time",
        "D2H Latency",
    ]


def test_a_version_with_dots_and_verbose_lines():
    text = trtexec_sample.log(2).replace("v101600]", "v11.1.0.106]") + trtexec_sample.build_log(1)
    assert trtexec.read_log(text).version == "11.1.0"


def test_a_build_without_inference_has_no_times():
    banner = "TensorRT.trtexec [TensorRT v8601] # trtexec --onnx=a.onnx --buildOnly"
    result = trtexec.read_log(f"&&&& RUNNING {banner}\n[I] Engine built in 8.7 sec.\n&&&& PASSED {banner}\n")
    assert result.build_seconds == 8.7 and result.compute is None and result.rows() == []


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "no log of trtexec"),
        ("hello\n" * 3, "no log of trtexec"),
        (trtexec_sample.log(1)[:300], "cut short"),
        (trtexec_sample.failed_log(), "failed"),
        ("&&&& FAILED TensorRT.trtexec [TensorRT v8601]", "no reason"),
    ],
)
def test_a_bad_log_is_named(text, words):
    with pytest.raises(CourseError, match=words) as caught:
        trtexec.read_log(text)
    assert caught.value.next_step
    assert "parseNode" in str(caught.value) or "ERROR" not in text


@pytest.mark.parametrize(
    "text, error",
    [
        ("nowhere.json", MissingFileError),
        ("[", DamagedFileError),
        ("{}", DamagedFileError),
        ("[]", DamagedFileError),
        ('[{"a": 1}]', DamagedFileError),
        ("[1]", DamagedFileError),
    ],
)
def test_bad_json_is_named(text, error):
    with pytest.raises(error):
        trtexec.read_times(text)
    if text != '[{"a": 1}]':
        with pytest.raises(error):
            trtexec.read_profile(text)
    else:
        with pytest.raises(DamagedFileError, match="no layer"):
            trtexec.read_profile(text)


def test_a_layer_profile_goes_out_and_comes_back(tmp_path):
    rows = (trtexec.LayerTime("a\tb", 6.0, 0.3, 0.75), trtexec.LayerTime("c", 2.0, 0.1, 0.25))
    path = tmp_path / "layers.json"
    path.write_text(trtexec.profile_json(rows, 20))
    assert trtexec.read_profile(path) == rows
    theirs = (
        '[\n  { "count" : 2 }\n, { "name" : "x", "timeMs" : 4, "averageMs" : 2, "medianMs" : 2, "percentage" : 100 }\n]'
    )
    assert trtexec.read_profile(theirs) == (trtexec.LayerTime("x", 4.0, 2.0, 1.0),)


@pytest.mark.parametrize("generation", trtexec_command.GENERATIONS)
@pytest.mark.parametrize("wanted", [True, False])
def test_a_command_line_does_what_was_asked_and_knows_every_flag(generation, wanted, tmp_path):
    words = trtexec_command.command(
        "a.onnx",
        generation=generation,
        precision="fp32",
        profile=PROFILE,
        shapes={"image": (4, 3, 224, 224)},
        cuda_graph=wanted,
        spin_wait=wanted,
        transfers=wanted,
        save_engine="a.plan",
        level=2,
        timing_cache="t.cache",
        times="t.json",
        layer_profile="p.json",
        layer_info="l.json",
        verbose=True,
    )
    meaning = trtexec_command.understand(words, generation)
    assert meaning.unknown == () and meaning.precision == "fp32"
    assert (meaning.cuda_graph, meaning.spin_wait, meaning.transfers) == (wanted,) * 3
    assert meaning.measured == {"image": (4, 3, 224, 224)} and meaning.max == {"image": (16, 3, 224, 224)}


def test_defaults_changed_with_11():
    ten, eleven = (trtexec_command.understand(["--onnx=a.onnx"], generation) for generation in ("10", "11"))
    assert (ten.cuda_graph, ten.spin_wait, ten.transfers) == (False, False, True)
    assert (eleven.cuda_graph, eleven.spin_wait, eleven.transfers) == (True, True, False)


def test_precision_flags():
    words = trtexec_command.command("a.onnx", generation="8.6", precision="int8")
    assert trtexec_command.understand(words, "8.6").precision == "int8"
    for precision in ("fp16", "int8"):
        with pytest.raises(UnsupportedError, match="11"):
            trtexec_command.command("a.onnx", generation="11", precision=precision)
    assert trtexec_command.understand(["--onnx=a.onnx", "--fp16"], "11").unknown == ("--fp16",)


@pytest.mark.parametrize("words", [["trtexec", "--onnx", "a.onnx"], ["--minShapes=image:1xax3"], ["--optShapes=1x3"]])
def test_a_command_line_that_cannot_be_read(words):
    with pytest.raises(CourseError):
        trtexec_command.understand(words, "10")


@pytest.mark.parametrize(
    "flag, precision",
    [
        ("--bf16", "bf16"),
        ("--fp8", "fp8"),
        ("--int4", "int4"),
        ("--best", "int8"),
        ("--noTF32", "fp32"),
        ("--std", "tf32"),
    ],
)
def test_every_precision_flag_is_read_back(flag, precision):
    assert trtexec_command.understand(["trtexec", "--onnx=a.onnx", flag], "10").precision == precision


@pytest.mark.parametrize("words", ["x:1x3,s:scalar", "x:1x3,s:", "'x:1x3,s:scalar'"])
def test_a_scalar_has_the_shape_of_none(words):
    meaning = trtexec_command.understand(["trtexec", "--onnx=a.onnx", f"--shapes={words}"], "10")
    assert meaning.measured == {"x": (1, 3), "s": ()}
    written = trtexec_command.command("a.onnx", generation="10", shapes=meaning.measured)
    assert "--shapes=x:1x3,s:scalar" in written


@pytest.mark.parametrize(
    "words, said",
    [
        ("--profile=0 --optShapes=x:1x3 --profile=1 --optShapes=x:8x3", "2 optimisation profiles"),
        ("--maxShapes=x:1x3 --maxShapes=x:8x3", "2 optimisation profiles"),
        ("--onnx=a.onnx --onnx=b.onnx", "--onnx is given twice"),
    ],
)
def test_nothing_of_a_command_line_is_lost_without_a_word(words, said):
    with pytest.raises(CourseError, match=said):
        trtexec_command.understand(["trtexec", *words.split()], "10")
    plugins = trtexec_command.understand(["trtexec", "--staticPlugins=a.so", "--staticPlugins=b.so"], "10")
    assert plugins.options["--staticPlugins"] == "a.so,b.so"


@pytest.mark.parametrize("text", ["x" * 300, "x" * 5000, "layer,ms\nconv,1.0\n"])
def test_any_other_text_is_named_shortly(text):
    with pytest.raises((DamagedFileError, MissingFileError)) as caught:
        trtexec.read_profile(text)
    assert len(str(caught.value)) < 700


def test_unknown_generation_and_precision():
    with pytest.raises(CourseError, match="generation"):
        trtexec_command.command("a.onnx", generation="9")
    with pytest.raises(CourseError, match="precision"):
        trtexec_command.command("a.onnx", generation="10", precision="fp8")


def test_running_a_program_that_prints_a_log(tmp_path):
    (tmp_path / "run.log").write_text(trtexec_sample.log(3))
    assert trtexec_command.run(["cat", str(tmp_path / "run.log")]).version == "10.16.0"
    with pytest.raises(UnsupportedError, match="does not start"):
        trtexec_command.run([str(tmp_path / "trtexec")])
    with pytest.raises(CourseError, match="did not end"):
        trtexec_command.run(["sleep", "5"], seconds=0.1)


def test_a_script_that_waits_has_no_overlap():
    apart = trtexec.read_times(trtexec_sample.times(4, overlap=False))
    assert (apart.h2d_start[1:] >= apart.d2h_end[:-1] - 1e-9).all()
    assert json.loads(trtexec_sample.times(4, queries=3))[2]["startEnqMs"] > 0


def test_a_table_aligns_numbers_and_cuts_long_words():
    text = text_table(("name", "ms"), [("a" * 90, 1.5), ("b", None)])
    lines = text.splitlines()
    assert len(lines) == 4 and "…" in lines[2] and lines[3].endswith("-") and len(lines[2]) < 75
    assert text_table(("x",), []) == "x\n-"
