"""Made-up runs in trtexec's format, for exercises and tests. The numbers are drawn, nothing was measured.

The format is the one of samples/common/sampleReporting.cpp in NVIDIA/TensorRT.
"""

from __future__ import annotations

import json

import numpy as np

_BANNERS = {"8.6": "v8601]", "10": "v101600] [b105]", "11": "v110100] [b106]"}
_STAMP = "[01/01/2030-00:00:00] [{level}] "  # no run was made on this day


def trace(
    seed: int,
    queries: int = 200,
    *,
    compute_ms: float = 0.6,
    copies_ms: float = 0.15,
    enqueue_ms: float = 0.2,
    overlap: bool = True,
) -> list[dict[str, float]]:
    """Records as --exportTimes writes them: start and end of each step of each query, in ms.

    overlap: the inputs of the next query are copied while the GPU computes this one, as trtexec does; else each query
        begins when the one before it is over, as in a script that waits for each answer.
    """
    rng = np.random.default_rng(seed)
    steps = [rng.gamma(60, ms / 60, queries) for ms in (enqueue_ms, 0.9 * copies_ms, compute_ms, 0.1 * copies_ms)]
    records, begin, copied, computed, fetched = [], 0.0, 0.0, 0.0, 0.0
    for enqueue, h2d, compute, d2h in zip(*steps):
        start_h2d = max(begin, copied)
        copied = start_h2d + h2d
        start_compute = max(copied, begin + enqueue, computed)
        computed = start_compute + compute
        start_d2h = max(computed, fetched)
        fetched = start_d2h + d2h
        records.append(
            {
                "startEnqMs": begin,
                "endEnqMs": begin + enqueue,
                "startH2dMs": start_h2d,
                "endH2dMs": copied,
                "startComputeMs": start_compute,
                "endComputeMs": computed,
                "startD2hMs": start_d2h,
                "endD2hMs": fetched,
            }
        )
        begin = max(begin + enqueue, start_compute if overlap else fetched)
    return records


def times(seed: int, **options) -> str:
    """The text of an --exportTimes file; options as for `trace`."""
    return json.dumps(trace(seed, **options), indent=1)


def log(
    seed: int,
    generation: str = "10",
    *,
    command: str = "trtexec --onnx=model.onnx",
    build_seconds: float = 21.5,
    warning: str = "",
    **options,
) -> str:
    """What trtexec prints for a run like `trace(seed, **options)`."""
    records = trace(seed, **options)
    part = {
        key: np.array([r[f"end{key}Ms"] - r[f"start{key}Ms"] for r in records])
        for key in ("Enq", "H2d", "Compute", "D2h")
    }
    wall = (records[-1]["endD2hMs"] - records[0]["startH2dMs"]) / 1000
    banner = f"TensorRT.trtexec [TensorRT {_BANNERS[generation]} # {command}"
    lines = [
        f"Engine built in {build_seconds:g} sec.",
        "Created engine with size: 47.2 MiB",
        "Warmup completed 300 queries over 200 ms",
        f"Timing trace has {len(records)} queries over {wall:.6g} s",
        "",
        "=== Performance summary ===",
        f"Throughput: {len(records) / wall:.6g} qps",
        f"Latency: {_line(part['H2d'] + part['Compute'] + part['D2h'])}",
        f"Enqueue Time: {_line(part['Enq'])}",
        f"H2D Latency: {_line(part['H2d'])}",
        f"GPU Compute Time: {_line(part['Compute'])}",
        f"D2H Latency: {_line(part['D2h'])}",
        f"Total Host Walltime: {wall:.6g} s",
        f"Total GPU Compute Time: {part['Compute'].sum() / 1000:.6g} s",
    ]
    body = [_STAMP.format(level="I") + line for line in lines]
    body += [_STAMP.format(level="W") + f"* {warning}"] if warning else []
    return "\n".join([f"&&&& RUNNING {banner}", *body, f"&&&& PASSED {banner}", ""])


def failed_log(generation: str = "11") -> str:
    """What trtexec prints when a node cannot be parsed."""
    banner = f"TensorRT.trtexec [TensorRT {_BANNERS[generation]} # trtexec --onnx=model.onnx"
    errors = [
        "[TRT] ModelImporter.cpp:949: ERROR: ModelImporter.cpp:195 In function parseNode:",
        "Failed to parse onnx file",
        "Engine set up failed",
    ]
    return "\n".join(
        [f"&&&& RUNNING {banner}", *(_STAMP.format(level="E") + text for text in errors), f"&&&& FAILED {banner}", ""]
    )


def build_log(seed: int, layers: int = 3, tactics: int = 6) -> str:
    """Verbose lines of an auto-tuning build: each layer tries its tactics for two data formats."""
    rng = np.random.default_rng(seed)
    lines = [f"Original: {2 * layers} layers"]
    names = [f"/block{i}/conv/Conv + /block{i}/relu/Relu" for i in range(layers)]
    lines += [f"ConvReluFusion: Fusing {name.replace(' + ', ' with ')}" for name in names]
    lines += [f"After vertical fusions: {layers} layers", "Graph optimization time: 0.0012 seconds."]
    for name in names:
        lines.append(f"=============== Computing costs for {name}")
        for layout in (
            "Float(50176,784,28,1) -> Float(50176,784,28,1)",
            "Half(6272,1:8,224,8) -> Half(6272,1:8,224,8)",
        ):
            lines += [
                f"*************** Autotuning format combination: {layout} ***************",
                f"--------------- Timing Runner: {name} (CaskConvolution[0x80000009])",
            ]
            tried = [(f"0x{rng.integers(1 << 60):016x}", float(rng.gamma(8, 0.004))) for _ in range(tactics)]
            lines += [
                f"Tactic Name: sm80_xmma_fprop_sample_{number} Tactic: {code} Time: {ms:.6g}"
                for number, (code, ms) in enumerate(tried)
            ]
            code, ms = min(tried, key=lambda pair: pair[1])
            lines += [
                f"{name} (CaskConvolution[0x80000009]) profiling completed in 0.08 seconds. "
                f"Fastest Tactic: {code} Time: {ms:.6g}",
                f">>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: {code}",
            ]
    lines += [
        "Formats and tactics selection completed in 1.71 seconds.",
        "Total Host Persistent Memory: 331696",
        "Total Activation Memory: 8467456",
        "Engine generation completed in 2.02 seconds.",
    ]
    return "\n".join(_STAMP.format(level="V") + "[TRT] " + line for line in lines) + "\n"


def _line(ms: np.ndarray) -> str:
    ordered, count = np.sort(ms), len(ms)
    at = {p: ordered[max(count - 1 - int((1 - p / 100) * count), 0)] for p in (90, 95, 99)}
    return (
        f"min = {ordered[0]:.6g} ms, max = {ordered[-1]:.6g} ms, mean = {ms.mean():.6g} ms, "
        f"median = {np.median(ms):.6g} ms, "
        + ", ".join(f"percentile({p}%) = {value:.6g} ms" for p, value in at.items())
    )
