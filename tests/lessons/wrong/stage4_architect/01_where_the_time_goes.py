# %% time-spans | The call only starts the work
def taken_apart(stages, value, wait):
    spans = {}
    for stage, call in stages.items():
        begin = time.perf_counter()
        value = call(value)
        spans[stage] = 1e3 * (time.perf_counter() - begin)
    return value, spans

# %% time-spans | perf_counter gives seconds
def taken_apart(stages, value, wait):
    spans = {}
    for stage, call in stages.items():
        begin = time.perf_counter()
        value = call(value)
        wait()
        spans[stage] = time.perf_counter() - begin
    return value, spans

# %% time-spans | A span runs from the beginning of its own stage
def taken_apart(stages, value, wait):
    spans, begin = {}, time.perf_counter()
    for stage, call in stages.items():
        value = call(value)
        wait()
        spans[stage] = 1e3 * (time.perf_counter() - begin)
    return value, spans

# %% time-spans | with what the stage before it gave
def taken_apart(stages, value, wait):
    spans = {}
    for stage, call in stages.items():
        begin = time.perf_counter()
        answer = call(value)
        wait()
        spans[stage] = 1e3 * (time.perf_counter() - begin)
    return answer, spans

# %% time-amdahl | the request does not
def speed_up(spans, stage, factor):
    return factor

# %% time-amdahl | new over old
def speed_up(spans, stage, factor):
    total = sum(spans.values())
    return (total - spans[stage] + spans[stage] / factor) / total

# %% time-amdahl | the milliseconds afterwards
def speed_up(spans, stage, factor):
    return sum(spans.values()) - spans[stage] + spans[stage] / factor

# %% time-faster | names another class
def fast(file):
    return "cat"

# %% time-faster | Look at the longest bars
fast = service

# %% time-faster | names another class
def fast(file):
    image = Image.open(io.BytesIO(file))
    image.draft("RGB", (224, 224))
    return name(compute(normalise(255 - np.asarray(image.convert("RGB")))))
