# %% trtexec-command | no flag --fp16
both = ["--minShapes=image:1x3x224x224", "--optShapes=image:8x3x224x224", "--maxShapes=image:16x3x224x224",
        "--saveEngine=artifacts/resnet50.plan", "--fp16"]
words_10 = ["trtexec", "--onnx=artifacts/resnet50.onnx", *both, "--useCudaGraph", "--noDataTransfers"]
words_11 = ["trtexec", "--onnx=artifacts/resnet50_fp16.onnx", *both]
# %% trtexec-command | copies in and out are timed
both = ["--minShapes=image:1x3x224x224", "--optShapes=image:8x3x224x224", "--maxShapes=image:16x3x224x224",
        "--saveEngine=artifacts/resnet50.plan"]
words_10 = ["trtexec", "--onnx=artifacts/resnet50.onnx", *both, "--fp16", "--useCudaGraph"]
words_11 = ["trtexec", "--onnx=artifacts/resnet50_fp16.onnx", *both]
# %% trtexec-command | max shape
words_10 = ["trtexec", "--onnx=artifacts/resnet50.onnx", "--minShapes=image:1x3x224x224", "--optShapes=image:8x3x224x224",
            "--maxShapes=image:8x3x224x224", "--saveEngine=artifacts/resnet50.plan", "--fp16", "--useCudaGraph", "--noDataTransfers"]
words_11 = words_10
# %% trtexec-command | is one string
words_10 = words_11 = "trtexec --onnx=artifacts/resnet50.onnx --fp16"
# %% trtexec-throughput | That is 1 / latency
def throughput(trace):
    return 1000 / trace.latency.mean()
# %% trtexec-throughput | every moment in which the GPU waits
def throughput(trace):
    return 1000 * len(trace.compute) / trace.compute.sum()
# %% trtexec-throughput | per millisecond
def throughput(trace):
    return len(trace.compute) / (trace.d2h_end[-1] - trace.h2d_start[0])
# %% trtexec-launch-bound | You compare means
def launch_bound(result):
    return result.enqueue.mean > 0.8 * result.compute.mean
# %% trtexec-launch-bound | At 1.0 it is too late
def launch_bound(result):
    return result.enqueue.median > result.compute.median
# %% trtexec-launch-bound | Latency has the copies in it
def launch_bound(result):
    return result.enqueue.median > 0.8 * result.latency.median
# %% trtexec-launch-bound | The rule says yes or no
def launch_bound(result):
    return max(0.0, result.enqueue.median - result.compute.median)
# %% trtexec-launch-bound | not the rule of trtexec
def launch_bound(result):
    return True
# %% slowest-layers | in which they run
def layers_for(rows, share):
    total = 0.0
    for count, row in enumerate(rows, start=1):
        total += row.share
        if total >= share - 1e-9:
            return count
# %% slowest-layers | smallest number
def layers_for(rows, share):
    return sum(row.share >= share / len(rows) for row in rows)
# %% slowest-layers | do not add up
def layers_for(rows, share):
    return 1
# %% tuning-gain | mean of the layers' ratios
def gain(tactics):
    times = {}
    for tactic in tactics:
        if tactic.ms is not None:
            times.setdefault(tactic.layer, []).append(tactic.ms)
    return float(np.mean([max(t) / min(t) for t in times.values()]))
# %% tuning-gain | slowest tactic of any layer
def gain(tactics):
    times = [tactic.ms for tactic in tactics if tactic.ms is not None]
    return max(times) / min(times)
# %% tuning-gain | cannot read
def gain(tactics):
    return max(tactic.ms for tactic in tactics) / min(tactic.ms for tactic in tactics)
