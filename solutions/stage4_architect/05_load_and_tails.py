# %% [markdown]
# # Load and tails: what users feel
#
# "Our service answers in 6 ms." Which users were asked, and how many came at the same time? Here you load a real
# server in two ways that disagree by a factor of ten and more, predict its p99 from a queueing model of ten lines,
# and configure it so that it holds a limit and survives a flood.
#
# **Afterwards you can** say what a load test left out, find how much a server can take at a given p99, size it
# before it is bought, and tell what a million requests cost.
#
# **Time:** 40 minutes. The cells together run for about 50 seconds on two CPU cores, most of which is waiting.
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | load, queues, limits | all of it, with the real Triton: `course serve setup` gets it | nothing |
# | two GPUs against one | the queue in front of them | a table that was recorded on two H200 |

# %%
import json
import shutil
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from pathlib import Path

import numpy as np

from course import serving
from course.exercises import check, choice, hint, solved
from course.plot import serving as plot
from course.serving import closed_loop, with_triton

# %% [markdown]
# ## 1. Two ways to ask
#
# In a **closed loop** a client sends its next request when it has its answer. That is how most first load tests
# look. In an **open loop** requests come when they come: users do not know of each other, nor of your server's
# troubles.
#
# The service `hiccup` takes 5 ms. Once every two seconds it stands still for 0.4 s.
#
# **Predict** its p99, closed loop with one client against open loop with 60 requests a second:
# - `"equal"`: the service is the same
# - `"open is higher"`: the pause hits more of its requests
# - `"closed is higher"`: its requests come faster one after the other

# %%
guess = None   # one of the three

# %% [markdown]
# **Exercise 1.** Write `open_loop`. `send()` sends one request and returns when it was answered. `due` holds the
# moments at which requests are to be sent, in seconds from the start. Users also feel the time that a request
# waited to be sent, so a latency begins when the request was *due*. The check needs no Triton.

# %% nbgrader={"grade_id": "load-open", "solution": true}
def open_loop(send, due):
    """Call send() at each of the times `due`, whatever became of the others -> latencies in s, in that order."""
    ### BEGIN SOLUTION
    start = time.perf_counter()
    def one(at):
        time.sleep(max(0, start + at - time.perf_counter()))
        send()
        return time.perf_counter() - start - at
    with ThreadPoolExecutor(len(due)) as pool:      # a thread for each: fine for hundreds, not for thousands
        return np.array(list(pool.map(one, due)))
    ### END SOLUTION

# %% nbgrader={"grade_id": "load-open-test", "grade": true, "points": 4}
check("load-open")

# %%
open_loop = solved("load-open", open_loop)
ONE = """
backend: "python"
max_batch_size: 8
input  [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""

def write(name, config):
    folder = Path("models", name, "1")
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "config.pbtxt").write_text(config)
    shutil.copyfile(f"triton_models/{name}.py", folder / "model.py")

def poisson(rate, seconds, seed=0):
    """Independent users: exponential gaps with the mean 1/rate."""
    times = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, int(2 * rate * seconds)))
    return times[times < seconds]

def two_ways(triton):
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}]}).encode()
    def send():
        urllib.request.urlopen(f"http://{triton.address}/v2/models/hiccup/infer", body).read()
    closed, end = [], time.perf_counter() + 3
    while (begun := time.perf_counter()) < end:
        send()
        closed.append(time.perf_counter() - begun)
    p99 = {}
    for name, latencies in (("closed", closed), ("open", open_loop(send, poisson(60, 3)))):
        ms = 1e3 * np.asarray(latencies)
        p99[name] = np.percentile(ms, 99)
        print(f"{name:6}: {len(ms)} requests, p50 {np.median(ms):.0f} ms, p99 {p99[name]:.0f} ms; "
              f"{(ms > 50).sum()} took over 50 ms")
    factor = p99["open"] / p99["closed"]
    choice(guess, "open is higher" if factor > 1.5 else "closed is higher" if factor < 0.67 else "equal",
           "Both met the same pauses. The closed loop sent nothing while it waited: one slow request a pause.")

shutil.rmtree("models", ignore_errors=True)
write("hiccup", ONE)
with_triton("models", two_ways)

# %% [markdown]
# Leaving out the requests that would have hurt is called *coordinated omission* (Gil Tene). A closed loop is right
# for what is closed: a robot that waits for its answer. For everybody else use the open loop, and count from the
# due time.
#
# Your generator needs a thread a request. `course.serving.open_loop` does the same on one event loop. Beside
# MLPerf's LoadGen, on the same server at the same rate, its p99 was
# {{docs/results/cpu/serving/loadgen.json: p99_ratio | .2f}} times theirs (a CPU, 2 cores).
#
# ## 2. A queue in ten lines
#
# Requests come in bursts even if nobody means them to. So they wait, long before the server is "full".
#
# **Exercise 2.** Write the queue: first come, first served, by the instance that is free first.

# %% nbgrader={"grade_id": "load-queue", "solution": true}
def simulate(due, services, instances=1):
    """due [n]: when requests come, rising; services [n]: how long each works; both in s -> latencies [n] in s."""
    ### BEGIN SOLUTION
    free, latencies = [0.0] * instances, []
    for at, service in zip(due, services):
        begin = max(at, heappop(free))
        heappush(free, begin + service)
        latencies.append(begin + service - at)
    return np.array(latencies)
    ### END SOLUTION

# %% nbgrader={"grade_id": "load-queue-test", "grade": true, "points": 3}
check("load-queue")

# %% [markdown]
# Held against the real server: `work` works as long as each request says, 20 ms on average, some five times as
# long. So 50 a second are all that one instance can do.
#
# **Predict:** at 80 % of that, p99 compared with p99 at 20 %, one instance:
# - `"equal"`: a fifth of the time it is idle
# - `"a quarter more"`: in proportion to what is left
# - `"several times"`: waits add up behind long requests

# %%
guess = None   # one of the three

# %%
simulate = solved("load-queue", simulate)
services = np.random.default_rng(5).exponential(0.02, 200).astype(np.float32)
feeds = [{"x": np.full((1, 1), service)} for service in services]
shutil.rmtree("models", ignore_errors=True)
write("work", ONE)

def against(triton):
    p99, loads = {}, []
    for load in (0.2, 0.5, 0.8):
        due = poisson(50 * load, 2.5)
        loads.append(serving.open_loop(triton.address, "work", feeds, due, 2.5, warmup=0,
                                       label=f"{load:.0%} load"))
        modelled = 1e3 * simulate(due, np.resize(services, len(due)))
        p99[load] = loads[-1].p99
        print(f"{load:4.0%} load: p50 {loads[-1].p50:4.0f} ms, the model says {np.median(modelled):4.0f}; "
              f"p99 {p99[load]:4.0f} ms, the model says {np.percentile(modelled, 99):4.0f}")
    more = p99[0.8] / p99[0.2]
    choice(guess, "several times" if more > 1.6 else "a quarter more" if more > 1.1 else "equal",
           "A burst finds a busy server, and each waits for all before it. The last fifth is rarely usable.")
    return plot.latencies(loads[-1], "Each request at 80 % load")

with_triton("models", against)

# %% [markdown]
# The model knows nothing of HTTP or processes, and is close. If measurement and model disagree on your service,
# something that you did not know of takes time: search for it. With services timed on a real engine the same lines
# size a server that has not been bought.
#
# ## 3. One queue or two
#
# Load grows; you buy a second server, or a second GPU. A *load balancer* in front deals requests out.
#
# **Predict** p99 of two servers at 80 % load each, against one server at 80 %:
# - `"one queue wins"`: two servers that share a queue are far better; dealt out by chance, as bad as one
# - `"both win"`: two servers halve every wait
# - `"no difference"`: the load on each is the same

# %%
guess = None   # one of the three

# %%
due = poisson(80, 1500)
work = np.random.default_rng(9).exponential(0.02, len(due))
by_chance = np.random.default_rng(3).random(len(due)) < 0.5
dealt = np.concatenate([simulate(due[half], work[half]) for half in (by_chance, ~by_chance)])
alone = simulate(poisson(40, 1500), work)
shared = simulate(due, work, instances=2)
for name, latencies in (("one server, 40/s", alone), ("two servers, dealt out by chance, 80/s", dealt),
                        ("two servers, one queue, 80/s", shared)):
    print(f"{name:40} p99 {1e3 * np.percentile(latencies, 99):4.0f} ms")
better = np.percentile(shared, 99) < 0.75 * np.percentile(dealt, 99)
choice(guess, "one queue wins" if better else "no difference",
       "In one queue nobody waits while a server is idle. By chance, one is flooded while the other sleeps.")

# %% [markdown]
# | where | who deals out |
# | --- | --- |
# | several instances or GPUs in one Triton (`instance_group [ { count: 1 kind: KIND_GPU gpus: [ 0, 1 ] } ]`) | one queue for all of them |
# | several machines behind a balancer | "round robin" or "random" is the dealt case; "least outstanding requests" comes close to one queue |
# | a machine that starts, reloads or dies | the balancer asks `/v2/health/ready`, and `/v2/models/NAME/ready` |
#
# Batches change the sum: two servers with half the load each make smaller batches. **Recorded** on two H200 (ResNet-50,
# FP16, two instances on each GPU, one Triton, one queue, requests from the same machine), images a second:
#
# | at once | one GPU | two GPUs | times | mean batch |
# | --- | ---: | ---: | ---: | --- |
# | 8 requests of one image | 3,065 | 2,858 | 0.93 | 2.6 and 1.9 |
# | 32 requests of one image | 5,725 | 8,708 | 1.5 | 9.4 and 4.7 |
# | 32 requests of eight | 17,251 | 34,096 | 2.0 | 32 and 32 |
#
# With 8 clients the second GPU only takes images out of the first one's batches. It doubles what full batches do, and
# here Triton on one machine still fed both. At some number of GPUs it no longer will: it is one process behind one port.
#
# ## 4. Hold a limit
#
# `triton_models/engine.py` takes time as an engine does: 20 ms, and 1 ms for each row. **The task:** at 150
# requests a second, at least 95 % are answered within 150 ms. In a flood of 900 a second, which nobody can serve,
# still 200 a second are answered within 150 ms. There is memory for two instances, and the engine's profile ends at
# batch 8.
#
# A trap first. A full queue (`max_queue_size`) refuses at once, and that request wakes nobody: `Enqueue` in
# Triton's `dynamic_batch_scheduler.cc` returns before it notifies the thread that makes batches. Triton 2.51 was
# seen to stand still for half a second with a full queue. With a timeout every request goes in, and wakes it. Look
# for such gaps:

# %%
FULL = ONE + "dynamic_batching { default_queue_policy { max_queue_size: 32 } }"
TIMEOUT = ONE + "dynamic_batching { default_queue_policy { default_timeout_microseconds: 80000 } }"

def gaps(triton):
    load = serving.open_loop(triton.address, "engine", {"x": np.ones((1, 1), np.float32)}, 900, 1, warmup=0)
    done = np.sort(load.records["done"][load.records["status"] == 200])
    print(f"{len(done)} of {load.sent} answered, {load.goodput(150):.0f}/s within 150 ms; "
          f"longest time without an answer: {1e3 * np.diff(done).max():.0f} ms")

shutil.rmtree("models", ignore_errors=True)
for name, config in (("full queue", FULL), ("timeout", TIMEOUT)):
    write("engine", config)
    print(name)
    with_triton("models", gaps)

# %% [markdown]
# **Exercise 3.** Write the whole `config.pbtxt`; inputs and outputs as in `ONE`. Plan it with the numbers above,
# then measure.

# %% nbgrader={"grade_id": "load-hold", "solution": true}
held = None   # the text of config.pbtxt
### BEGIN SOLUTION
held = ONE + """
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching {
  default_queue_policy { default_timeout_microseconds: 80000 timeout_action: REJECT }
}
"""
### END SOLUTION

# %% nbgrader={"grade_id": "load-hold-test", "grade": true, "points": 4}
check("load-hold")

# %% [markdown]
# ## 5. What it costs
#
# A server costs by the hour, whatever it does. What counts is how many requests it answers *within the limit*. Set
# the price of your machine.

# %%
held = solved("load-hold", held)
PRICE, LIMIT_MS = 3.00, 150        # for an hour of the machine, in your currency; ms

def cost(triton, rates):
    loads = serving.sweep(triton.address, "engine", {"x": np.ones((1, 1), np.float32)}, rates, 1.0, warmup=0.2)
    best = max((load for load in loads if load.p99 <= LIMIT_MS and load.failed < 0.01 * load.sent),
               key=lambda load: load.rate, default=None)
    print(f"{best.label} at p99 {best.p99:.0f} ms: {PRICE / (best.rate * 3600) * 1e6:.2f} for a million"
          if best else "none of these rates held the limit")
    return loads

series = {}
for name, config, rates in (("request by request", ONE, (20, 35, 70)), ("yours", held, (100, 300, 700))):
    write("engine", config)
    series[name] = with_triton("models", lambda triton: cost(triton, rates)) or []
plot.tail(series, LIMIT_MS)

# %% [markdown]
# The curve is flat, then a wall. The place before the wall is your capacity; the price of a request is set there,
# and not where the server is busiest. Leave room for the busiest hour, for a machine that fails, for a reload.
#
# ## Decide
#
# | your case | do |
# | --- | --- |
# | users, cameras, other services | open loop, from the due time; say the rate with every p99 |
# | one client that waits (a robot) | closed loop with one client |
# | size a machine | time the engine per batch size, simulate, buy, measure again |
# | more than one server | one queue if you can, else least outstanding requests |
# | overload | a timeout that leaves time for the work; refuse the rest |
#
# **Summary.** A closed loop leaves out those who would have waited. p99 grows long before a server is full, and a
# queue of ten lines says where. One queue beats two. Capacity is the rate at which the limit still holds; it also
# sets the price.
