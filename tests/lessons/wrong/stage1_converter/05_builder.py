# %% fusion-hidden | two readers
def hidden(nodes, layers):
    home = {name: number for number, layer in enumerate(layers) for name in layer.onnx_nodes}
    return {t.name for a in nodes for t in a.outputs for b in nodes
            if t in b.inputs and home[a.name] == home[b.name]}
# %% fusion-hidden | has no reader at all
def hidden(nodes, layers):
    home = {name: number for number, layer in enumerate(layers) for name in layer.onnx_nodes}
    return {t.name for a in nodes for t in a.outputs
            if all(home[a.name] == home[b.name] for b in nodes if t in b.inputs)}
# %% fusion-hidden | names of the tensors
def hidden(nodes, layers):
    return len(nodes) - len(layers)
# %% fusion-break | such as
keep = [node.outputs[0].name for node in nodes if node.kind == "Relu"][:20]
broken = build(path, settings(keep_outputs=keep))
# %% fusion-break | the builder fuses the other
adds = {t.name for node in nodes if node.kind == "Add" for t in node.inputs}
keep = [node.outputs[0].name for node in nodes if node.kind == "Conv" and node.outputs[0].name in adds and "downsample" not in node.name]
broken = build(path, settings(keep_outputs=keep))
# %% fusion-break | tensors are kept
keep = [node.outputs[0].name for node in nodes if node.kind == "Conv"]
broken = build(path, settings(keep_outputs=keep))
# %% fusion-break | nothing but its usual output
keep = []
broken = engine
# %% memory-lifetimes | until the last reader
def lifetimes(steps, sizes):
    first = {name: number for number, step in enumerate(steps) for name in step.writes}
    last = {}
    for number, step in enumerate(steps):
        for name in step.reads:
            last.setdefault(name, number)
    return [Tensor(name, sizes[name], first[name], last.get(name, first[name])) for name in first]
# %% memory-lifetimes | also one that no step reads
def lifetimes(steps, sizes):
    first = {name: number for number, step in enumerate(steps) for name in step.writes}
    last = {name: number for number, step in enumerate(steps) for name in step.reads}
    return [Tensor(name, sizes[name], first[name], last[name]) for name in first if name in last]
# %% memory-lifetimes | steps are inclusive
def lifetimes(steps, sizes):
    first = {name: number for number, step in enumerate(steps) for name in step.writes}
    last = {name: number for number, step in enumerate(steps) for name in step.reads}
    return [Tensor(name, sizes[name], first[name], last.get(name, first[name] + 1) - (name == "u")) for name in first]
# %% memory-plan | Hardly any memory is used twice
def plan(tensors):
    places, address = {}, 0
    for tensor in tensors:
        places[tensor.name], address = address, address + tensor.size
    return places
# %% memory-plan | overlap in step
def plan(tensors):
    return {tensor.name: 0 for tensor in tensors}
# %% memory-plan | A step reads its inputs while it writes its outputs
def plan(tensors):
    places, placed = {}, []
    for tensor in sorted(tensors, key=lambda tensor: -tensor.size):
        address = 0
        for other in sorted(placed, key=lambda other: places[other.name]):
            if other.first < tensor.last and tensor.first < other.last:
                if address + tensor.size <= places[other.name]:
                    break
                address = max(address, places[other.name] + other.size)
        places[tensor.name] = address
        placed.append(tensor)
    return places
# %% memory-plan | must return a dict
def plan(tensors):
    return [0 for tensor in tensors]
# %% autotune | is the fastest
def autotune(key, candidates, cache):
    return next(iter(candidates))
# %% autotune | cache miss
def autotune(key, candidates, cache):
    times = {name: bench.measure(f, warmup_s=0.02, min_samples=5, max_seconds=0.2).p50 for name, f in candidates.items()}
    return min(times, key=times.get)
# %% autotune | the first shape's entry
def autotune(key, candidates, cache):
    if Path(cache).is_file():
        return Path(cache).read_text()
    times = {name: bench.measure(f, warmup_s=0.02, min_samples=5, max_seconds=0.2).p50 for name, f in candidates.items()}
    Path(cache).write_text(min(times, key=times.get))
    return min(times, key=times.get)
# %% autotune | not in the cache any more
def autotune(key, candidates, cache):
    known = json.loads(Path(cache).read_text()) if Path(cache).is_file() else {}
    if key in known:
        return known[key]
    times = {name: bench.measure(f, warmup_s=0.02, min_samples=5, max_seconds=0.2).p50 for name, f in candidates.items()}
    Path(cache).write_text(json.dumps({key: min(times, key=times.get)}))
    return min(times, key=times.get)
# %% autotune | no cache file
remembered = {}
def autotune(key, candidates, cache):
    if key not in remembered:
        times = {name: bench.measure(f, warmup_s=0.02, min_samples=5, max_seconds=0.2).p50 for name, f in candidates.items()}
        remembered[key] = min(times, key=times.get)
    return remembered[key]
# %% engine-travels | machine code for one architecture
def reasons(header, version, capability, sha256):
    return ["version"] * (header.runtime_version != version) + ["model"] * (header.onnx_sha256 != sha256)
# %% engine-travels | patch number included
def reasons(header, version, capability, sha256):
    words = ["version"] * (header.runtime_version.split(".")[:2] != version.split(".")[:2])
    return words + ["architecture"] * (header.compute_capability != capability) + ["model"] * (header.onnx_sha256 != sha256)
# %% engine-travels | another network's answers
def reasons(header, version, capability, sha256):
    return ["version"] * (header.runtime_version != version) + ["architecture"] * (header.compute_capability != capability)
