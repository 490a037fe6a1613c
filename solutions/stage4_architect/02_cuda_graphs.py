# %% [markdown]
# # CUDA graphs
#
# A network of sixty layers is sixty launches, and each of them costs the CPU some microseconds. A CUDA graph records
# them once and then starts all of them with one call.
#
# **Afterwards you can** record a TensorRT run as a CUDA graph with CUDA's own calls, replay it with new inputs, keep a
# pool of graphs for several batch sizes, and name the four ways in which that goes wrong.
#
# **Time:** 40 minutes. The cells together run for some seconds on a CPU.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | capture, replay, pool | your code, on a stand-in that keeps CUDA's order and its refusals | the same code on the GPU |
# | answers | computed by ONNX Runtime | by TensorRT |
# | speed | **open**: quoted from one H100 | measure your own engine |

# %%
import numpy as np
import torch

from course.exercises import check, choice, hint, solved
from course.export import export
from course.serving.here import cuda_here, raw_engine
from course.serving.run import Buffer

cudart = cuda_here()     # cuda.bindings.runtime, or a stand-in with the same calls

# %% [markdown]
# ## 1. What there is to gain
#
# ResNet-50 in FP16 at batch 1, TensorRT 8.6.0 on one H100:
# {{docs/results/h100/matrix/summary.json: rows.8.p50_ms | .3f}} ms without a graph,
# {{docs/results/h100/matrix/summary.json: rows.9.p50_ms | .3f}} ms with one. Same kernels, same answers.
#
# **Predict:** what does the graph save at batch 256, where a run takes about 7 ms?
# - `"the same part"`: a third of the time again
# - `"the same time"`: about as many milliseconds, so hardly any part
# - `"nothing at all"`: large batches cannot be recorded

# %%
guess = None   # one of the three

# %%
choice(guess, "the same time", "The launches are as many as before, whatever the batch size. What grows is the work "
       "between them, and in the end it hides the launches of the next layers altogether.")

# %% [markdown]
# <details><summary>The four batch sizes on the H100</summary>
#
# | batch | no graph, ms | graph, ms |
# | --- | --- | --- |
# | 1 | {{docs/results/h100/matrix/summary.json: rows.8.p50_ms | .3f}} | {{docs/results/h100/matrix/summary.json: rows.9.p50_ms | .3f}} |
# | 8 | {{docs/results/h100/matrix/summary.json: rows.18.p50_ms | .3f}} | {{docs/results/h100/matrix/summary.json: rows.19.p50_ms | .3f}} |
# | 64 | {{docs/results/h100/matrix/summary.json: rows.28.p50_ms | .3f}} | {{docs/results/h100/matrix/summary.json: rows.29.p50_ms | .3f}} |
# | 256 | {{docs/results/h100/matrix/summary.json: rows.38.p50_ms | .3f}} | {{docs/results/h100/matrix/summary.json: rows.39.p50_ms | .3f}} |
#
# </details>
#
# So ask first whether the GPU waits for the CPU. `trtexec` says it: if *Enqueue Time* is close to *GPU Compute Time*,
# launches are the limit. A small network at batch 1 gains most.
#
# ## 2. Record a run
#
# A small network, so that nothing distracts. `ready` makes what one run needs: a context, a stream of its own, and for
# each tensor a `Buffer`, that is `host` (a NumPy array in page-locked memory), `device` (an address on the GPU) and
# `bytes`.

# %%
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)).eval()
export(model, (torch.rand(2, 16),), "artifacts/small.onnx", input_names=["x"], output_names=["y"],
       dynamic={"x": {0: "n"}}, target="8.6")
engine = raw_engine(cudart, "artifacts/small.onnx", [(1, 4, 8)])    # profile: batch 1 to 8


def ready(size):
    """(context, stream, x, y) for `size` rows."""
    context = engine.create_execution_context()
    error, stream = cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)
    context.set_input_shape("x", (size, 16))
    x = Buffer(cudart, (size, 16), np.dtype(np.float32), is_input=True)
    y = Buffer(cudart, (size, 10), np.dtype(np.float32), is_input=False)
    context.set_tensor_address("x", x.device)
    context.set_tensor_address("y", y.device)
    return context, stream, x, y

# %% [markdown]
# Every call of `cudart` gives a tuple that begins with an error; `int(error)` is 0 if all is well, and
# `cudart.cudaGetErrorString(error)[1]` says it in words (bytes). Four calls make a graph:
#
# - `cudaStreamBeginCapture(stream, mode)`: from now on work on the stream is written down and *not* done. `mode` says which
#   calls are forbidden meanwhile; take `cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal`, so that other
#   threads may go on allocating.
# - `cudaStreamEndCapture(stream)` gives `(error, graph)`. If something forbidden came in between, the error says so here.
# - `cudaGraphInstantiate(graph, 0)` gives `(error, executable)`.
# - `cudaGraphLaunch(executable, stream)` starts it, as often as you like.
#
# TensorRT's guide adds a rule: run once before the capture. In its first run after a change of shapes a context sets
# itself up, and that may not be recorded.
#
# **Exercise 1.** Write `capture`. If the run cannot be recorded, it must raise an error, and the stream must not be left
# recording.

# %% nbgrader={"grade_id": "graph-capture", "solution": true}
def capture(cudart, context, stream):
    """One run of the context, whose shapes and addresses are set, as an executable graph."""
    ### BEGIN SOLUTION
    context.execute_async_v3(int(stream))
    cudart.cudaStreamSynchronize(stream)
    mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    cudart.cudaStreamBeginCapture(stream, mode)
    context.execute_async_v3(int(stream))
    error, graph = cudart.cudaStreamEndCapture(stream)
    if int(error):
        raise RuntimeError(cudart.cudaGetErrorString(error)[1].decode())
    error, executable = cudart.cudaGraphInstantiate(graph, 0)
    if int(error):
        raise RuntimeError(cudart.cudaGetErrorString(error)[1].decode())
    return executable
    ### END SOLUTION

# %% nbgrader={"grade_id": "graph-capture-test", "grade": true, "points": 4}
check("graph-capture")

# %% [markdown]
# ## 3. Replay it with new inputs
#
# A graph has no arguments. It reads at the address that `x` had when it was recorded, and writes to that of `y`. So new
# inputs are brought to the old place, and answers are fetched from it.
#
# **Exercise 2.** Write `replay`. A copy is `cudaMemcpyAsync(target, source, bytes, kind, stream)`; the address of a NumPy
# array is `x.host.ctypes.data`; the kinds are `cudart.cudaMemcpyKind.cudaMemcpyHostToDevice` and
# `cudaMemcpyDeviceToHost`.

# %%
capture = solved("graph-capture", capture)

# %% nbgrader={"grade_id": "graph-replay", "solution": true}
def replay(cudart, executable, stream, x, y, rows):
    """rows: float32, of x's shape -> the network's answer, an array that nobody writes to later."""
    ### BEGIN SOLUTION
    kinds = cudart.cudaMemcpyKind
    x.host[:] = rows
    cudart.cudaMemcpyAsync(x.device, x.host.ctypes.data, x.bytes, kinds.cudaMemcpyHostToDevice,
                           stream)
    cudart.cudaGraphLaunch(executable, stream)
    cudart.cudaMemcpyAsync(y.host.ctypes.data, y.device, y.bytes, kinds.cudaMemcpyDeviceToHost,
                           stream)
    cudart.cudaStreamSynchronize(stream)
    return y.host.copy()
    ### END SOLUTION

# %% nbgrader={"grade_id": "graph-replay-test", "grade": true, "points": 3}
check("graph-replay")

# %% [markdown]
# The two copies can be recorded as well; then the host's addresses are part of the graph, too.
#
# ## 4. Four traps
#
# **Trap 1: addresses.** Somebody gives the context a new input buffer after the capture, as one would without a graph.
#
# **Predict:** the next replay
# - `"reads the new buffer"`: the context knows its address
# - `"reads the old buffer"`: the graph knows nothing of the context's new address
# - `"fails"`: CUDA notices that an address has changed

# %%
guess = None   # one of the three

# %%
replay = solved("graph-replay", replay)
context, stream, x, y = ready(2)
executable = capture(cudart, context, stream)
before = replay(cudart, executable, stream, x, y, np.ones((2, 16), np.float32))

new = Buffer(cudart, (2, 16), np.dtype(np.float32), is_input=True)
new.host[:] = 5
new.copy(stream, 2)
context.set_tensor_address("x", new.device)
cudart.cudaGraphLaunch(executable, stream)
y.copy(stream, 2)
cudart.cudaStreamSynchronize(stream)
same = np.array_equal(y.host, before)
choice(guess, "reads the old buffer" if same else "reads the new buffer",
       "No error, no warning, and the answer is that of the batch before. Keep the buffers of a graph as long as the graph. "
       "If they are freed, it reads and writes whatever lies there next.")

# %% [markdown]
# **Trap 2: other shapes.** The shape was recorded as well: the graph for 2 rows computes 2 rows for ever.

# %%
print("set_input_shape takes 4 rows:", context.set_input_shape("x", (4, 16)))
cudart.cudaGraphLaunch(executable, stream)
y.copy(stream, 2)
cudart.cudaStreamSynchronize(stream)
print("the replay still answers the first 2:", np.array_equal(y.host, before))

# %% [markdown]
# So each batch size needs a graph, and each graph a context of its own: a context has one set of shapes, and the graph
# uses its scratch memory by address, too.
#
# **Trap 3: what is forbidden in a capture.** Allocating is, and so is waiting. A shape that depends on the data, a loop, or
# a plugin that calls `cudaMalloc` or `cudaStreamSynchronize` in its `enqueue` does just that.

# %%
def say(what, error):
    print(f"{what}: {int(error)} {cudart.cudaGetErrorString(error)[1].decode()}")

error, other = cudart.cudaStreamCreate()
cudart.cudaStreamBeginCapture(other, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
say("cudaMalloc in a capture", cudart.cudaMalloc(1024)[0])
say("the end of that capture", cudart.cudaStreamEndCapture(other)[0])

# %% [markdown]
# Both are errors, and only the first one names the culprit. With `cudaStreamCaptureModeGlobal` other threads may not
# allocate either while you record: a data loader is enough.
#
# **Trap 4: the default stream.** It cannot be recorded. And a stream from `cudaStreamCreate` is *blocking*: it keeps one
# order with the default stream, so any work there, by anybody, spoils the capture.
#
# **Predict:** which stream records on while somebody copies on the default stream?
# - `"neither"`: a capture is disturbed by any other work
# - `"the non-blocking one"`: it has no order with the default stream
# - `"both"`: other streams are not recorded

# %%
guess = None   # one of the three

# %%
error, = cudart.cudaStreamBeginCapture(0, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal)
say("a capture of the default stream", error)
ends = {}
for name, flags in (("blocking", 0), ("non-blocking", cudart.cudaStreamNonBlocking)):
    error, other = cudart.cudaStreamCreateWithFlags(flags)
    cudart.cudaStreamBeginCapture(other, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
    kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
    copied, = cudart.cudaMemcpyAsync(x.device, x.host.ctypes.data, x.bytes, kind, 0)
    say(f"a copy on the default stream, {name} capture", copied)
    ends[name] = int(cudart.cudaStreamEndCapture(other)[0])
choice(guess, "the non-blocking one" if ends["blocking"] and not ends["non-blocking"] else "neither",
       "cudaStreamNonBlocking belongs in every service. Libraries use the default stream unless told otherwise.")

# %% [markdown]
# ## 5. A pool
#
# Requests come in batches of any size, and a graph has one. So a service keeps graphs for some sizes. A batch goes into
# the smallest one that holds it; the rows that are missing are filled up and thrown away. A batch that is larger than all
# of them runs without a graph. That is right, slower, and silent, so it must be counted.
#
# Triton does it with two differences. Its TensorRT backend takes a graph only for exactly its batch size, unless a
# `graph_lower_bound` is configured. And only the verbose log says whether one was used.
#
# **Exercise 3.** Write the pool. `graphs` maps a size to a function that takes exactly so many rows; `plain` takes any
# number. Fill up with zeros, and count in `misses` (batches without a graph) and `padded` (rows computed for nobody).

# %% nbgrader={"grade_id": "graph-pool", "solution": true}
class Pool:
    def __init__(self, graphs, plain):
        """graphs: {size: function of float32 [size, 16] -> [size, 10]}; plain: function of [n, 16] -> [n, 10]."""
        self.graphs, self.plain = graphs, plain
        self.misses = self.padded = 0

    def run(self, rows):
        """The answers to float32 [n, 16], in the same order."""
        ### BEGIN SOLUTION
        size = min((size for size in self.graphs if size >= len(rows)), default=None)
        if size is None:
            self.misses += 1
            return self.plain(rows)
        padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
        padded[:len(rows)] = rows
        self.padded += size - len(rows)
        return self.graphs[size](padded)[:len(rows)]
        ### END SOLUTION

# %% nbgrader={"grade_id": "graph-pool-test", "grade": true, "points": 3}
check("graph-pool")

# %% [markdown]
# Here it is with your `capture` and `replay`, on batch sizes that come at random.

# %%
Pool = solved("graph-pool", Pool)

def graph_for(size):
    context, stream, x, y = ready(size)
    executable = capture(cudart, context, stream)
    return lambda rows: replay(cudart, executable, stream, x, y, rows)

plain = ready(8)

def without_graph(rows):
    context, stream, x, y = plain
    context.set_input_shape("x", rows.shape)
    x.host[:len(rows)] = rows
    x.copy(stream, len(rows))
    context.execute_async_v3(int(stream))
    y.copy(stream, len(rows))
    cudart.cudaStreamSynchronize(stream)
    return y.host[:len(rows)].copy()

random = np.random.default_rng(0)
for sizes in ((1, 4), (1, 2, 4, 8)):
    pool = Pool({size: graph_for(size) for size in sizes}, without_graph)
    worst, rows_served = 0.0, 0
    for count in random.integers(1, 9, 200):
        rows = random.standard_normal((count, 16)).astype(np.float32)
        wanted = model(torch.from_numpy(rows)).detach().numpy()
        worst = max(worst, float(np.abs(pool.run(rows) - wanted).max()))
        rows_served += int(count)
    print(f"graphs for {sizes}: {pool.misses} of 200 batches without a graph, {pool.padded} rows for nobody "
          f"beside {rows_served} served, largest difference from PyTorch {worst:.1e}")

# %% [markdown]
# Every further graph costs memory (buffers, and a context with its scratch memory) and time at the start; every missing
# one costs padding or a miss. Look at the batches that your service really forms, then choose.
#
# The optimisation profile is part of the choice. Its kernels are tuned for its usual size: a graph for batch 1 of an engine
# built for 1–64–256 replays the kernels that were chosen for 64. If one client at a time matters, give batch 1 a
# profile of its own, and measure both.
#
# ## Decide
#
# | your case | do |
# | --- | --- |
# | enqueue time close to compute time, small batches | graphs, one for each batch size that comes often |
# | large batches, the GPU is busy all the time | nothing to gain; leave them out |
# | shapes that depend on the data, loops | no graph for this engine; end it before that layer, and record the rest |
# | image sizes vary as well as batches | a graph for each pair is too many: pad to a few sizes, or go without |
#
# ## Summary
#
# - A graph replaces many launches by one. It makes no kernel faster.
# - Run once, capture on a non-blocking stream of its own, look at the error of the end, instantiate once, launch often.
# - Addresses and shapes are recorded: new data goes to the old place, and each size has its own graph, context and buffers.
# - A pool takes the smallest graph that fits, and counts the batches that found none.
#
# **Next:** lesson [03](03_triton_1.ipynb): a server that does all of this around your engine.
