# %% [markdown]
# # Triton II: batches, and what they cost
#
# On one H200, ResNet-50 in FP16 took {{docs/results/h200/int8/summary.json: results.b1.FP16.p50_ms | .2f}} ms for one
# image and {{docs/results/h200/int8/summary.json: results.b8.FP16.p50_ms | .2f}} ms for eight. But users come one by
# one. Triton can make batches of requests that wait. Here you see when that pays, when it hurts, and what happens when
# more come than can be served.
#
# **Afterwards you can** write a model that uses the batches it gets, set delay, queue and timeout for a purpose,
# find from the counters which batch sizes miss their CUDA graph, and say what an ensemble and the response cache
# do.
#
# **Time:** 40 minutes. The cells together run for about half a minute on two CPU cores.
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | batching, limits, cache, ensemble | all of it, with the real Triton: `course serve setup` gets it | larger gains |
# | the pool of graphs | a stand-in with the same counters | CUDA graphs (lesson 02) |

# %%
import json
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import torch

from course.exercises import check, choice, hint, solved
from course.export import export
from course.plot import serving as plot
from course.serving import closed_loop, with_triton

# %% [markdown]
# ## 1. Batches form, and nothing is gained
#
# `net` has 24 MB of weights and little arithmetic: for one row or for sixteen, all weights pass through the
# processor once. In its configuration stands `dynamic_batching { }`: what waits while the model is busy goes in
# together. Its `model.py`, the file `triton_models/one_by_one.py`, is built like yours in the last lesson: it
# answers request by request.
#
# **Predict:** sixteen clients, `net` without and with `dynamic_batching { }`. The answers per second
# - `"rise"`: weights are read once for many requests
# - `"stay"`: something else decides
# - `"fall"`: collecting takes time

# %%
guess = None   # one of the three

# %%
one_by_one = Path("triton_models/one_by_one.py").read_text()
BASE = """
backend: "python"
max_batch_size: 32
input  [ { name: "x" data_type: TYPE_FP32 dims: [ 784 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
"""
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(784, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 2048),
                          torch.nn.ReLU(), torch.nn.Linear(2048, 10)).eval()
small = torch.nn.Linear(784, 10).eval()
for name, network in (("net", net), ("small", small)):
    export(network, (torch.rand(2, 784),), f"artifacts/{name}.onnx", input_names=["x"], output_names=["y"],
           dynamic={"x": {0: "n"}}, exporter="torchscript", target="onnxruntime")

def write(name, config, program, onnx="net", repository="models"):
    folder = Path(repository, name, "1")
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "config.pbtxt").write_text(config)
    (folder / "model.py").write_text(program)
    if onnx:
        shutil.copyfile(f"artifacts/{onnx}.onnx", folder / "model.onnx")

shutil.rmtree("models", ignore_errors=True)
write("plain", BASE, one_by_one)
write("batched", BASE + "dynamic_batching { }", one_by_one)
feeds = [{"x": row[None]} for row in np.random.default_rng(0).random((64, 784), np.float32)]

def first(triton):
    plain, batched = (closed_loop(triton.address, name, feeds, 16, 1.0, warmup=0.2,
                                  label=f"{name}, 16 clients") for name in ("plain", "batched"))
    print(plain, batched, sep="\n")
    gain = batched.rate / plain.rate
    choice(guess, "rise" if gain > 1.5 else "fall" if gain < 0.6 else "stay",
           "Batches did form, says the counter. But execute runs the network once for each request in them.")

with_triton("models", first)

# %% [markdown]
# **Exercise 1.** Write `execute` so that the network runs once for all requests. A request may have several rows,
# and gets back as many. The check's network returns in its last column with how many rows it was run.

# %% nbgrader={"grade_id": "batch-join", "solution": true}
joined = r'''
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
        ### BEGIN SOLUTION
        parts = [pb_utils.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        (y,) = self.session.run(None, {"x": np.concatenate(parts)})
        ends = np.cumsum([len(part) for part in parts])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", rows)])
                for rows in np.split(y, ends[:-1])]
        ### END SOLUTION
'''

# %% nbgrader={"grade_id": "batch-join-test", "grade": true, "points": 4}
check("batch-join")

# %% [markdown]
# ## 2. One gains, one pays
#
# Now with your `execute`. `max_queue_delay_microseconds` makes a request wait for others, for fuller batches. 5 ms
# is a value that one finds in many examples.
#
# **Predict:** one client, `small` (a network of one layer), with a delay of 5 ms instead of none:
# - `"as fast"`: nobody else waits, so there is nothing to wait for
# - `"somewhat slower"`: by a tenth or so
# - `"many times slower"`: the delay is longer than the work

# %%
guess = None   # one of the three

# %%
joined = solved("batch-join", joined)
SETTINGS = {"none": "", "empty": "dynamic_batching { }",
            "delay": "dynamic_batching { max_queue_delay_microseconds: 5000 }"}
shutil.rmtree("models", ignore_errors=True)
for onnx in ("net", "small"):
    for name, setting in SETTINGS.items():
        write(f"{onnx}_{name}", BASE + setting, joined, onnx)

def price(triton):
    loads = {(model, clients): closed_loop(triton.address, model, feeds, clients, 0.5, warmup=0.1,
                                           label=f"{model:11} {clients:2} clients")
             for model in (f"{onnx}_{name}" for onnx in ("net", "small") for name in SETTINGS)
             for clients in (1, 16)}
    print(*loads.values(), sep="\n")
    factor = loads["small_none", 1].rate / loads["small_delay", 1].rate
    choice(guess, "many times slower" if factor > 3 else "somewhat slower" if factor > 1.05 else "as fast",
           f"Here {factor:.0f} times. The scheduler cannot know that no other request will come.")
    return plot.batches([loads[f"net_{name}", 16] for name in SETTINGS])

with_triton("models", price)

# %% [markdown]
# Without a delay, a batch is whatever came while the last one was computed: the busier the server, the larger the
# batch, and a lonely user pays nothing. Begin with `dynamic_batching { }`. A delay is worth a trial only if batches
# stay small under full load.
#
# ## 3. More than can be served
#
# By default a queue has no end. If users send 10 % more than the server can do, it grows as long as they go on, and
# each waits longer than the one before, until all wait longer than anyone is willing to.
#
# **Exercise 2.** Write the whole `config.pbtxt` of `net` (inputs and outputs as in `BASE`), so that
# - batches have up to 16 rows, and a lonely request does not wait for others;
# - at most 64 requests wait; one more is refused at once;
# - who has waited 200 ms is refused, not served late.
#
# `default_queue_policy` in `dynamic_batching` has the fields `max_queue_size`, `default_timeout_microseconds` and
# `timeout_action` (`REJECT` or `DELAY`). The check sends 400 requests at once to a model that takes 100 ms a batch.

# %% nbgrader={"grade_id": "batch-limits", "solution": true}
limits = None   # the text of config.pbtxt
### BEGIN SOLUTION
limits = """
backend: "python"
max_batch_size: 16
input  [ { name: "x" data_type: TYPE_FP32 dims: [ 784 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
dynamic_batching {
  default_queue_policy {
    max_queue_size: 64
    default_timeout_microseconds: 200000
    timeout_action: REJECT
  }
}
"""
### END SOLUTION

# %% nbgrader={"grade_id": "batch-limits-test", "grade": true, "points": 4}
check("batch-limits")

# %% [markdown]
# Who is refused early can ask another server, or show an older result. Who waits for nothing can do neither.
#
# ## 4. A graph that silently is not used
#
# A CUDA graph is captured for one batch size. Triton's `tensorrt` backend, told `graphs: true` and no more,
# captures batch 1 and the largest as soon as dynamic batching is on; `preferred_batch_size` adds its sizes,
# `graph_spec` names them one by one. A batch of any other size runs without a graph. **No counter says so**; a line
# in the verbose log does.
#
# Yet Triton counts executions and their time for each batch size. `triton_models/pool.py` stands in for such an
# engine: for the sizes in its parameter `graphs`, here 1 and 8, its layers run as one call, else one by one.

# %%
pool = Path("triton_models/pool.py").read_text()
POOL = Path("triton_models/pool.pbtxt").read_text()
rows = [{"x": row[None]} for row in np.random.default_rng(1).random((8, 16), np.float32)]
shutil.rmtree("models", ignore_errors=True)
write("pool", POOL, pool, onnx=None)

def statistics(triton):
    for clients in (1, 3, 5, 6, 8, 12):
        closed_loop(triton.address, "pool", rows, clients, 0.3, warmup=0)
    with urllib.request.urlopen(f"http://{triton.address}/v2/models/pool/stats") as answer:
        return json.load(answer)

stats = with_triton("models", statistics)
print(json.dumps(stats and stats["model_stats"][0]["batch_stats"][0], indent=1))

# %% [markdown]
# **Exercise 3.** Write `misses`. The largest size always has its graph. Times vary by some tens of percent; a missing
# graph costs far more.

# %% nbgrader={"grade_id": "batch-misses", "solution": true}
def misses(stats):
    """stats: the JSON of /v2/models/NAME/stats -> the set of batch sizes that run without a graph."""
    ### BEGIN SOLUTION
    ms = {row["batch_size"]: row["compute_infer"]["ns"] / row["compute_infer"]["count"] / 1e6
          for row in stats["model_stats"][0]["batch_stats"]}
    return {size for size in ms
            if any(ms[size] > 2 * ms[larger] for larger in ms if larger > size)}
    ### END SOLUTION

# %% nbgrader={"grade_id": "batch-misses-test", "grade": true, "points": 3}
check("batch-misses")

# %%
misses = solved("batch-misses", misses)

def table(stats):
    for row in stats["model_stats"][0]["batch_stats"]:
        one = row["compute_infer"]
        ms = one["ns"] / one["count"] / 1e6
        print(f"batch {row['batch_size']}: {one['count']:5} executions of {ms:.2f} ms")
    print("without a graph:", sorted(misses(stats)) or "none", "\n")

write("pool", POOL.replace("1,8", "1,2,3,4,5,6,7,8"), pool, onnx=None)
for found in (stats, with_triton("models", statistics)):
    if found:
        table(found)

# %% [markdown]
# | repair | costs |
# | --- | --- |
# | a graph for each size that forms | memory for each: a graph holds its addresses, so each wants buffers of its own |
# | pad to the next size that has one | work for rows that are thrown away; the course's `tensorrt_model.py` does this |
# | `preferred_batch_size` | with a delay, waiting; without one, only a preference |
#
# ## 5. Two models in a row
#
# An *ensemble* has no code: its configuration names steps and says which tensor goes where. Each step keeps its own
# queue and makes its own batches, and the tensors between them never leave the server. Here pixels arrive as uint8,
# a quarter of the bytes.

# %%
ENSEMBLE = """
platform: "ensemble"
max_batch_size: 32
input  [ { name: "pixels" data_type: TYPE_UINT8 dims: [ 784 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ]
ensemble_scheduling { step [
  { model_name: "scale" model_version: -1 input_map { key: "pixels" value: "pixels" }
    output_map { key: "x" value: "between" } },
  { model_name: "net" model_version: -1 input_map { key: "x" value: "between" }
    output_map { key: "y" value: "y" } } ] }
"""
shutil.rmtree("models", ignore_errors=True)
write("scale", *(Path(f"triton_models/scale.{end}").read_text() for end in ("pbtxt", "py")), onnx=None)
write("net", BASE + "dynamic_batching { }", joined)
Path("models/service/1").mkdir(parents=True)
Path("models/service/config.pbtxt").write_text(ENSEMBLE)

def in_a_row(triton):
    pixels = [{"pixels": (255 * feed["x"]).astype(np.uint8)} for feed in feeds]
    print(closed_loop(triton.address, "service", pixels, 16, 0.7, warmup=0.2))
    for model in ("scale", "net"):
        counted = triton.statistics(model)
        print(f"  {model}: {counted.requests} requests in {counted.executions} executions")

with_triton("models", in_a_row)

# %% [markdown]
# ## 6. A cache in front
#
# `response_cache { enable: true }` answers a request that came before, bit for bit, from memory. The server needs
# `--cache-config=local,size=…`, in bytes.
#
# **Predict:** you load such a model with 64 inputs in turns. You then know the speed of
# - `"the model"`: the cache holds the last answer only
# - `"the cache"`: nearly every answer comes from it
# - `"both"`: about half and half

# %%
guess = None   # one of the three

# %%
shutil.rmtree("models", ignore_errors=True)
write("net", BASE + "response_cache { enable: true }", joined)

def cached(triton):
    load = closed_loop(triton.address, "net", feeds, 4, 1.0, warmup=0)
    hits = triton.metrics()["nv_cache_num_hits_per_model", "net"]
    print(f"{load}\n  {load.sent} requests, {hits:.0f} hits, {load.server.executions} executions")
    share = hits / load.sent
    choice(guess, "the cache" if share > 0.9 else "the model" if share < 0.1 else "both",
           "A load test must not repeat itself where anything remembers. The milestone's grader never does.")

with_triton("models", cached, arguments=["--cache-config=local,size=16777216"])

# %% [markdown]
# ## Decide
#
# | your case | do |
# | --- | --- |
# | a GPU model, many users | `dynamic_batching { }`, `execute` that joins; then measure a delay, if batches stay small |
# | one user at a time, a control loop | no delay; batching does not matter |
# | overload is possible | a timeout, from your p99 limit less the work; an end to the queue above that (lesson 05 shows why above) |
# | CUDA graphs | compare the sizes that form with those that were captured, after every change of traffic |
# | preprocessing on the server | ensemble: steps batch by themselves |
# | inputs that really repeat | response cache; cameras never repeat |
#
# **Summary.** Triton collects, `execute` must join. Without a delay, batches grow with the load by themselves and a
# lonely user pays nothing. Limits belong into the configuration before the first overload. What no counter says can
# be read from time per batch size. Next: [what users feel](05_load_and_tails.ipynb).
