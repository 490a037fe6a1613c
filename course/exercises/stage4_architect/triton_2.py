"""Lesson 4.04, Triton II: batches, limits and a pool of graphs, judged by what the real Triton did and counted."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping

import numpy as np

from course.exercises import Wrong, exercise, reference
from course.exercises.stage4_architect import _networks, _triton
from course.serving import Load, closed_loop, open_loop
from course.serving.words import RefusedError

# ---------------------------------------------------------------- 1: one call for all requests

NET_CONFIG = """
backend: "python"
max_batch_size: 32
input [ { name: "x" data_type: TYPE_FP32 dims: [ 784 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
dynamic_batching { max_queue_delay_microseconds: 100000 }
"""
"""With a delay, so that requests that come together are handed over together."""

JOINED = """
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        parts = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        (y,) = self.session.run(None, {"x": np.concatenate(parts)})
        ends = np.cumsum([len(part) for part in parts])
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", rows)]) for rows in np.split(y, ends[:-1])
        ]
"""


@exercise(
    "batch-join",
    points=4,
    hints=(
        "execute got twelve requests. How often does your code run the network?",
        "Concatenate all x along axis 0, run once, and cut the result. Requests may have several rows, and not all the same "
        "number.",
        "parts = [… for request in requests]; (y,) = self.session.run(None, {'x': np.concatenate(parts)}); "
        "np.split(y, np.cumsum([len(part) for part in parts])[:-1])",
    ),
)
def batch_join(joined: str):
    text = _triton.program(joined, "joined")
    files = {"config.pbtxt": NET_CONFIG, "1/model.py": text, "1/model.onnx": _networks.telltale()}
    random = np.random.default_rng(8)
    feeds = [{"x": random.standard_normal((rows, 784)).astype(np.float32)} for rows in (1, 3, 1, 2, 1, 1, 4, 1, 2, 1)]
    with _triton.serving({"net": files}) as server:
        with server.client() as client:
            try:
                _right_rows(client.infer("net", feeds[1]), feeds[1]["x"], "A request alone")
            except RefusedError as error:
                raise Wrong("A request failed.", error.cause, "Correct what Triton reports.") from None
        load = _triton.together(server, "net", feeds, 5)
    if load.failed:
        raise Wrong(
            f"{len(feeds)} requests came together, {load.failed} of them failed.",
            f"Triton said: {next(iter(load.reasons))}",
            "Return one response for each request, in their order; try it with requests of 1 and of 3 rows.",
        )
    seen = 0
    for number, outputs in load.answers():
        x = feeds[number]["x"]
        _right_rows(outputs, x, "Of several requests that came together, one")
        seen = max(seen, round(float(outputs["y"][0, 9])) - len(x))
    if seen <= 0:
        raise Wrong(
            f"Triton handed over batches of up to {max(load.server.batches)} rows; the network never ran with more rows "
            "than one request has.",
            "Triton only collects requests. Whether they become one batch is up to execute.",
            "Concatenate the inputs of all requests and call session.run once.",
            share=0.25,
        )
    return (
        f"{len(feeds)} requests with 1 to 4 rows came together; the network ran with up to "
        f"{seen + 1} rows at once or more, and each got its own."
    )


def _right_rows(outputs: Mapping[str, np.ndarray], x: np.ndarray, who: str) -> None:
    got = outputs.get("y")
    if got is None or got.shape != (len(x), 10):
        raise Wrong(
            f"{who} had {len(x)} rows and got {'no y' if got is None else f'the shape {list(got.shape)}'}.",
            "Requests do not all have the same number of rows; each gets as many back as it sent.",
            "Cut at np.cumsum of the row counts, without the last.",
        )
    if not np.allclose(got[:, :9], x[:, :9] * 2, atol=1e-4):
        raise Wrong(f"{who} got another one's rows.", "The order was lost.", "Cut in the order of `requests`.")


@reference("batch-join")
def _reference_joined():
    return JOINED


# ---------------------------------------------------------------- 2: limits

LIMITS = """
backend: "python"
max_batch_size: 16
input [ { name: "x" data_type: TYPE_FP32 dims: [ 784 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
dynamic_batching {
  default_queue_policy {
    max_queue_size: 64
    default_timeout_microseconds: 200000
    timeout_action: REJECT
  }
}
"""
BUSY = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.1)
        parts = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x[:, :10].copy())]) for x in parts]
"""
"""A model that takes 100 ms for any batch: how many are answered can be counted on the fingers, on any machine."""
BUSY_MS = 100.0
BURST = np.concatenate([np.zeros(40), np.arange(1, 51) * 0.01])
"""40 requests at once, fewer than may wait, so that only the timeout refuses; then one every 10 ms. (Without these the
batcher of Triton 2.51 may sleep for half a second with requests in its queue: a new one wakes it.)"""
FLOOD = 400


@exercise(
    "batch-limits",
    points=4,
    hints=(
        "Four promises, four fields. Which one makes a lonely request wait although nobody else is there?",
        "dynamic_batching { default_queue_policy { … } } has max_queue_size, default_timeout_microseconds and "
        "timeout_action. The unit is in the name.",
        "dynamic_batching { default_queue_policy { max_queue_size: 64 default_timeout_microseconds: 200000 "
        "timeout_action: REJECT } }, and no delay",
    ),
)
def batch_limits(limits: str):
    parsed = _triton.parsed(limits, "limits")
    feed = {"x": np.zeros((1, 784), np.float32)}
    with _triton.serving({"net": {"config.pbtxt": limits, "1/model.py": BUSY}}) as server:
        with server.client() as client:
            try:
                client.infer("net", feed)
            except RefusedError as error:
                if "timeout" in error.cause.lower():
                    raise _too_short("A request alone was refused though it had hardly waited.") from None
                raise Wrong("A request alone was refused.", error.cause, "Compare dims and names.") from None
        alone = closed_loop(server.address, "net", feed, 1, 0.6, warmup=0)
        burst = open_loop(server.address, "net", feed, BURST, 0.6, warmup=0, timeout=20)
        late, largest = _count(burst, "timeout"), max(burst.server.batches, default=1)
        if not parsed.HasField("dynamic_batching") or (largest == 1 and not late):
            raise Wrong(
                f"Of {len(BURST)} requests in half a second, each was a call of its own.",
                "Without dynamic_batching Triton hands over one request at a time, however many wait.",
                "Add dynamic_batching { … }, and max_batch_size: 16.",
            )
        flood = open_loop(server.address, "net", feed, np.zeros(FLOOD), 0.1, warmup=0, timeout=15)
    # Triton's own half second (see BURST) is in its mean, a busy machine in the quickest answer; a delay is in both.
    waited = min(alone.server.ms_per_request()["queue"], alone.percentile(0) - BUSY_MS)
    answered, full = len(BURST) - burst.failed, _count(flood, "maximum queue size")
    if waited > 20:
        raise Wrong(
            f"A lonely request waits {waited:.0f} ms in the queue.",
            "max_queue_delay_microseconds makes it wait for others that do not come.",
            "Leave the delay out: while a batch is computed, the next one gathers by itself.",
            share=0.25,
        )
    if not full:
        raise Wrong(
            f"Of {FLOOD} requests at once, none was refused because the queue was full.",
            "Without max_queue_size Triton takes all that come, and refuses late what it could have refused at once.",
            "max_queue_size: 64 in default_queue_policy.",
            share=0.25,
        )
    if answered < 30:
        raise _too_short(
            f"Of {len(BURST)} requests only {answered} were answered; {late} were refused though they had hardly waited."
        )
    if not late and largest < 16 or not FLOOD - 64 - 4 * 16 <= full <= FLOOD - 64:
        raise Wrong(
            f"{full} of {FLOOD} requests were refused at once, and batches had up to {largest} rows.",
            "64 were to wait, besides the batch of 16 that is being computed.",
            "max_batch_size: 16 and max_queue_size: 64.",
            share=0.5,
        )
    if not late:
        raise Wrong(
            f"Of {len(BURST)} requests in half a second, {answered} were answered, the last after {burst.percentile(100):.0f} ms.",
            "A timeout that does not refuse (DELAY), or none at all, keeps a request that nobody waits for any more.",
            "default_timeout_microseconds: 200000 and timeout_action: REJECT.",
            share=0.5,
        )
    return (
        f"Alone {waited:.1f} ms in the queue. Of {len(BURST)} in half a second {answered} were answered in batches of up to {largest}, "
        f"{late} refused after 200 ms. Of {FLOOD} at once {full} were refused at the door."
    )


def _too_short(seen: str) -> Wrong:
    return Wrong(
        seen,
        "The unit is microseconds: 200 would be 0.2 ms.",
        "200 ms are default_timeout_microseconds: 200000.",
        share=0.5,
    )


def _count(load: Load, words: str) -> int:
    """How many requests were refused for a reason with these words."""
    return sum(count for reason, count in load.reasons.items() if words in reason.lower())


@reference("batch-limits")
def _reference_limits():
    return LIMITS


# ---------------------------------------------------------------- 3: which sizes have no graph

POOL_CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 16 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 16 ] } ]
"""
POOL = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils

GRAPHS = {graphs}


class TritonPythonModel:
    def execute(self, requests):
        (request,) = requests
        x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
        time.sleep((0 if len(x) in GRAPHS else 0.120) + 0.020 + 0.002 * len(x))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", x)])]
"""
"""A larger batch takes longer, and one without a graph 120 ms longer: far more than a busy machine adds."""
POOLS = {"a": ({1, 3, 6, 8}, (14, 1, 1, 2, 1, 1, 1, 1)), "b": ({8}, (1, 1, 1, 1, 1, 1, 1, 3))}
"""Two servers: batch sizes with a graph, and how often the sizes 1 to 8 are asked for besides the first time."""


@exercise(
    "batch-misses",
    points=3,
    hints=(
        "A batch of 5 cannot cost more than a batch of 8, unless …?",
        "batch_stats has for each batch_size the sum compute_infer.ns over compute_infer.count executions. Compare the "
        "times of one execution.",
        "ms = {row['batch_size']: row['compute_infer']['ns'] / row['compute_infer']['count'] for row in …}; a size misses "
        "if ms[size] > 2 * min(ms of all larger sizes)",
    ),
)
def batch_misses(misses: Callable):
    if not callable(misses):
        raise Wrong(f"`misses` is {type(misses).__name__}.", "A function was asked for.", "def misses(stats): …")
    _triton.must_be_here()  # what was counted before Triton went away is no trial
    for name, stats in _counted().items():
        _judge_misses(misses(copy.deepcopy(stats)), set(range(1, 9)) - POOLS[name][0], stats)
    return "Right for two servers: one with graphs for 1, 3, 6 and 8, one with a graph for 8 only."


@functools.cache
def _counted() -> dict[str, dict]:
    """What Triton counted for each of POOLS: asked once, for it takes seconds and is the same for every answer.

    Raises:
        Wrong: Triton is not set up; this is not remembered.
    """
    models = {
        name: {"config.pbtxt": POOL_CONFIG, "1/model.py": POOL.format(graphs=sorted(graphs))}
        for name, (graphs, _) in POOLS.items()
    }
    with _triton.serving(models) as server, server.client() as client:
        for name, (_, counts) in POOLS.items():
            for size, count in enumerate(counts, 1):
                for _ in range(count + 1):
                    client.infer(name, {"x": np.zeros((size, 16), np.float32)})
        return {name: client.get(f"/v2/models/{name}/stats") for name in POOLS}


def _judge_misses(found: object, wanted: set[int], stats: dict) -> None:
    if found is None:
        raise NotImplementedError
    if not isinstance(found, (set, list, tuple, frozenset)):
        raise Wrong(f"misses returned {type(found).__name__}.", "A set of batch sizes was asked for.", "return {2, 4}")
    found = set(found)
    rows = {
        row["batch_size"]: (row["compute_infer"]["count"], row["compute_infer"]["ns"] / 1e6)
        for row in stats["model_stats"][0]["batch_stats"]
    }
    told = ", ".join(f"{size}: {ns / count:.0f} ms" for size, (count, ns) in sorted(rows.items()))
    for size in sorted(found - wanted):
        count, total = rows[size] if size in rows else (0, 0.0)
        raise Wrong(
            f"You say that batch {size} has no graph. One execution takes: {told}.",
            f"{count} executions took {total:.0f} ms together; a sum says how often as well, and time for each row is "
            "always higher for small batches.",
            "Compare ns / count of one execution with that of larger batches: no larger one is quicker here.",
            share=0.25 if wanted <= found else 0.0,
        )
    for size in sorted(wanted - found):
        raise Wrong(
            f"You miss batch {size}. One execution takes: {told}.",
            f"A larger batch is quicker than {size}, so {size} runs without a graph.",
            "Look at every size below the largest, whichever numbers they are.",
        )


@reference("batch-misses")
def _reference_misses():
    return _misses


def _misses(stats):
    ms = {
        row["batch_size"]: row["compute_infer"]["ns"] / row["compute_infer"]["count"]
        for row in stats["model_stats"][0]["batch_stats"]
    }
    return {size for size in ms if any(ms[size] > 2 * ms[larger] for larger in ms if larger > size)}
