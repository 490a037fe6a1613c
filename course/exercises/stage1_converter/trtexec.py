"""Checks of lesson 06, trtexec and without it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from course.exercises import Wrong, exercise, reference
from course.profiling import recorded, trtexec, trtexec_command, trtexec_sample, verbose
from course.text import number

PLANS = {"10": "artifacts/resnet50.plan", "11": "artifacts/resnet50.plan"}


@exercise(
    "trtexec-command",
    points=3,
    hints=(
        "What does each generation do when you say nothing? The table above has it. Write only what differs.",
        "Shapes are written --minShapes=image:1x3x224x224, and the same for opt and max. With 10 you need flags for FP16, "
        "for "
        "the CUDA graph and against the copies.",
        "With 11 there is no flag for FP16, and graph and copies are already as wanted: onnx, three shapes, saveEngine.",
    ),
)
def trtexec_command_(words_10, words_11):
    if all(isinstance(words, list) and len(words) == 2 for words in (words_10, words_11)):
        raise NotImplementedError
    for words, generation in ((words_10, "10"), (words_11, "11")):
        _judge_words(words, generation)
    return f"Both do the same: {len(words_10)} words for TensorRT 10, {len(words_11)} for 11."


def _judge_words(words, generation: str) -> None:
    where = f"words_{generation}"
    if isinstance(words, str):
        raise Wrong(
            f"{where} is one string.", "A program gets a list of words.", 'Write ["trtexec", "--onnx=...", ...].'
        )
    meaning = trtexec_command.understand(words, generation)
    if meaning.unknown:
        cause = (
            "From TensorRT 11 on the precision is what the ONNX model says: artifacts/resnet50_fp16.onnx is in FP16."
            if meaning.unknown[0] in ("--fp16", "--best")
            else "Flags come and go between generations."
        )
        raise Wrong(f"trtexec {generation} has no flag {meaning.unknown[0]}.", cause, f"Leave it out of {where}.")
    model = {"10": "artifacts/resnet50.onnx", "11": "artifacts/resnet50_fp16.onnx"}[generation]
    for flag, wanted in (("--onnx", model), ("--saveEngine", PLANS[generation])):
        if meaning.options.get(flag) != wanted:
            raise Wrong(
                f"{where} has {flag}={meaning.options.get(flag)}.",
                f"The task says {wanted}.",
                f"Write {flag}={wanted}.",
            )
    if generation == "10" and meaning.precision != "fp16":
        raise Wrong(
            f"{where} builds in {meaning.precision.upper()}.",
            "A FP32 file is built in FP16 only if you ask for it.",
            "Add --fp16.",
        )
    for name, batch in (("min", 1), ("opt", 8), ("max", 16)):
        shape = getattr(meaning, name).get("image")
        if shape != (batch, 3, 224, 224):
            raise Wrong(
                f"{where} has the {name} shape {shape}.",
                f"The task asks for batch {batch} of 3 x 224 x 224, and the input is called image.",
                f"Write --{name}Shapes=image:{batch}x3x224x224.",
            )
    if meaning.measured.get("image") != (8, 3, 224, 224):
        raise Wrong(
            f"{where} measures at {meaning.measured.get('image')}.",
            "The task asks for batch 8.",
            "Leave --shapes out (then it is the opt shape), or write --shapes=image:8x3x224x224.",
        )
    for value, name, flag in (
        (meaning.transfers, "copies in and out are timed", "--noDataTransfers"),
        (not meaning.cuda_graph, "there is no CUDA graph", "--useCudaGraph"),
    ):
        if value:
            raise Wrong(
                f"With {where} {name}.",
                f"That is the default of TensorRT {generation}." if generation == "10" else "A flag asks for it.",
                f"Add {flag}." if generation == "10" else "Leave the flag out: 11 does by default what we want.",
            )


@exercise(
    "trtexec-throughput",
    points=3,
    hints=(
        "How long did all queries take together, from the first copy in to the last copy out?",
        "trace.h2d_start[0] and trace.d2h_end[-1] are that begin and that end, in ms.",
        "Queries per second: len(trace.compute) / (end - begin) * 1000. No latency appears in it.",
    ),
)
def trtexec_throughput(throughput):
    drawn = {"queries": 63, "compute_ms": 0.7, "copies_ms": 0.3}
    for source in (
        recorded.text("fp16_b8.times.json"),
        trtexec_sample.times(11, overlap=False, **drawn),
        trtexec_sample.times(12, overlap=True, **drawn),
    ):
        trace = trtexec.read_times(source)
        right = 1000 * len(trace.compute) / (trace.d2h_end[-1] - trace.h2d_start[0])
        found = float(throughput(trace))
        if math.isclose(found, right, rel_tol=0.005):
            continue
        wrong = {
            1000 / trace.latency.mean(): (
                "That is 1 / latency. It would be right if each query waited for the "
                "one "
                "before; here the next copy in runs during the compute of this query."
            ),
            1000 / trace.compute.mean(): "That is 1 / compute time: it leaves out every moment in which the GPU waits.",
            right / 1000: "That is per millisecond.",
            1000 / np.median(trace.latency): "That is 1 / median latency.",
        }
        cause = next(
            (text for value, text in wrong.items() if math.isclose(found, value, rel_tol=0.005)),
            "It is the number of queries over the time from the first start to the last end.",
        )
        raise Wrong(
            f"For a trace of {len(trace.compute)} queries throughput() gives {number(found)} per second, "
            f"they came at {number(right)}.",
            cause,
            "Divide by the time that passed, not by times of single queries.",
        )
    return "Right for a recorded trace, and for two more, with and without overlap."


@exercise(
    "trtexec-launch-bound",
    points=4,
    hints=(
        "Which two lines of the summary say how long the CPU and how long the GPU was busy with a query?",
        "trtexec compares medians: a few slow queries pull a mean up. Copies are in the latency, not in the compute time.",
        "return result.enqueue.median > 0.8 * result.compute.median",
    ),
)
def trtexec_launch_bound(launch_bound):
    runs = {name: trtexec.read_log(recorded.text(f"{name}.log")) for name in recorded.RUNS}
    for name, run in runs.items():
        warned = any("bound by Enqueue Time" in text for text in run.warnings)
        _judge_launches(launch_bound, run, warned, f"the recorded run {name}")
    plain = runs["fp16_b8_load"]
    for what, enqueue, compute, right in (
        ("an enqueue time of 0.97 of the compute time", 0.97, 1.0, True),  # above 0.8 of the latency, too
        ("an enqueue time of 0.9 of the compute time", 0.9, 1.0, True),
        ("an enqueue time of 0.78 of the compute time", 0.78, 1.0, False),
        ("a few very slow launches", (0.5, 1.5), 1.0, False),
        ("a few very slow kernels", 0.9, (1.0, 3.0), True),
    ):
        parts = {key: _scaled(plain.compute, ratio) for key, ratio in (("enqueue", enqueue), ("compute", compute))}
        changed = dataclasses.replace(plain, **parts)
        _judge_launches(launch_bound, changed, right, f"fp16_b8_load, changed to have {what},")
    return f"It says what trtexec said for {len(runs)} recorded runs, and keeps to the limit."


def _scaled(timing: trtexec.Timing, ratio: float | tuple[float, float]) -> trtexec.Timing:
    """`timing` with its median (and its mean, where a pair is given) at another multiple of its median."""
    median, mean = ratio if isinstance(ratio, tuple) else (ratio, ratio)
    return dataclasses.replace(timing, median=median * timing.median, mean=mean * timing.median)


def _judge_launches(launch_bound, run: trtexec.TrtexecResult, right: bool, name: str) -> None:
    found = launch_bound(run)
    if not isinstance(found, (bool, np.bool_)):
        raise Wrong(f"launch_bound() returned {found!r}.", "The rule says yes or no.", "Return a comparison, a > b.")
    if bool(found) == right:
        return
    enqueue, compute, latency = run.enqueue, run.compute, run.latency
    if found == (enqueue.mean > 0.8 * compute.mean):
        cause = "You compare means. A few slow queries pull a mean up; trtexec compares medians."
    elif found == (enqueue.median > 0.8 * latency.median):
        cause = "Latency has the copies in it, which hide how busy the GPU's cores are."
    elif found == (enqueue.median > compute.median):
        cause = "At 1.0 it is too late: trtexec warns from 0.8 on, as the compute time holds the gaps, too."
    else:
        cause = "It is not the rule of trtexec: median enqueue above 0.8 of median compute."
    raise Wrong(
        f"For {name} launch_bound() says {bool(found)}, and trtexec {'warns' if right else 'does not warn'}.",
        f"{cause} Medians: enqueue {number(enqueue.median)} ms, compute {number(compute.median)} ms, their ratio is "
        f"{number(enqueue.median / compute.median)}.",
        "Compare these two medians with each other, at the limit that the text names.",
    )


@reference("trtexec-launch-bound")
def _launch_bound():
    return lambda result: result.enqueue.median > 0.8 * result.compute.median


@exercise(
    "slowest-layers",
    points=2,
    hints=(
        "Which layers would you take first to reach half of the time with as few as possible?",
        "Sort by mean_ms, largest first, and add up until the sum reaches share times the total.",
        "for count, row in enumerate(sorted(rows, key=lambda row: -row.mean_ms), 1): add; return count when it is enough.",
    ),
)
def slowest_layers(layers_for):
    def rows(times):
        return tuple(trtexec.LayerTime(f"layer {i}", 10 * ms, ms, ms / sum(times)) for i, ms in enumerate(times))

    for times, share, right in (
        ((1.0, 5.0, 2.0, 2.0), 0.5, 1),
        ((1.0, 5.0, 2.0, 2.0), 0.7, 2),
        ((1.0,) * 8, 0.5, 4),
        ((0.1, 0.1, 0.1, 9.7), 0.97, 1),
        ((3.0, 1.0, 4.0, 2.0), 1.0, 4),
    ):
        found = layers_for(rows(times), share)
        if found != right:
            too_many = isinstance(found, int) and found > right
            cause = (
                "You take the layers in the order in which they run."
                if too_many
                else "The layers that you take do not add up to this share."
            )
            raise Wrong(
                f"For layers of {', '.join(map(str, times))} ms and a share of {share:g}, layers_for() gives "
                f"{found}; "
                f"{right} is the smallest number.",
                cause,
                "Take the slowest first, and stop when the sum is enough.",
            )
    return "Right for five profiles: the fewest layers that make up the share."


@reference("slowest-layers")
def _layers_for():
    def layers_for(rows, share):
        times = np.cumsum(sorted((row.mean_ms for row in rows), reverse=True))
        return int(np.searchsorted(times, share * times[-1] * (1 - 1e-9)) + 1)

    return layers_for


@exercise(
    "tuning-gain",
    points=3,
    hints=(
        "For each layer there are several tactics. Which two times of a layer do you need?",
        "Collect the ms of each layer in a dict of lists, in all formats together, and leave out tactics without a time.",
        "sum of the slowest of each layer, divided by the sum of the fastest of each layer.",
    ),
)
def tuning_gain(gain):
    logs = [recorded.text("fp16_b8_tactics.log"), *(trtexec_sample.build_log(seed, n) for seed, n in ((5, 1), (7, 8)))]
    for log in logs:
        tactics = list(verbose.read_build_log(log).tactics)
        tactics.append(verbose.Tactic("{ForeignNode[rest]}", "Myelin", "", "0x0", chosen=True))  # without a time
        by_layer: dict[str, list[float]] = {}
        for tactic in tactics:
            if tactic.ms is not None:
                by_layer.setdefault(tactic.layer, []).append(tactic.ms)
        right = sum(map(max, by_layer.values())) / sum(map(min, by_layer.values()))
        found = float(gain(tactics))
        if math.isclose(found, right, rel_tol=1e-3):
            continue
        every = [ms for times in by_layer.values() for ms in times]
        wrong = {
            float(
                np.mean([max(t) / min(t) for t in by_layer.values()])
            ): "That is the mean of the layers' ratios: a fast layer counts as much in it as a slow one.",
            max(every) / min(every): "That compares the slowest tactic of any layer with the fastest of any other.",
            1 / right: "That is upside down.",
        }
        cause = next(
            (text for value, text in wrong.items() if math.isclose(found, value, rel_tol=1e-3)),
            "A network's time is the sum of its layers' times: sum first, then divide.",
        )
        raise Wrong(
            f"For {len(by_layer)} layers with {len(every)} timed tactics gain() gives {number(found)} instead "
            f"of "
            f"{number(right)}.",
            cause,
            "Sum the slowest tactic of each layer, and the fastest, then divide.",
        )
    return "Right for three logs: what choosing badly everywhere would cost."


@reference("tuning-gain")
def _gain():
    def gain(tactics):
        times: dict[str, list[float]] = {}
        for tactic in tactics:
            if tactic.ms is not None:
                times.setdefault(tactic.layer, []).append(tactic.ms)
        return sum(map(max, times.values())) / sum(map(min, times.values()))

    return gain
