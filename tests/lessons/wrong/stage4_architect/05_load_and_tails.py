# %% load-open | coordinated omission
def open_loop(send, due):
    start, latencies = time.perf_counter(), []
    for at in due:
        time.sleep(max(0, start + at - time.perf_counter()))
        begun = time.perf_counter()
        send()
        latencies.append(time.perf_counter() - begun)
    return np.array(latencies)

# %% load-open | their watch began only when they were sent
def open_loop(send, due):
    start = time.perf_counter()
    def one(at):
        time.sleep(max(0, start + at - time.perf_counter()))
        begun = time.perf_counter()
        send()
        return time.perf_counter() - begun
    with ThreadPoolExecutor(3) as pool:
        return np.array(list(pool.map(one, due)))

# %% load-open | A thread must wait until its request is due
def open_loop(send, due):
    start = time.perf_counter()
    def one(at):
        send()
        return time.perf_counter() - start - at
    with ThreadPoolExecutor(len(due)) as pool:
        return np.array(list(pool.map(one, due)))

# %% load-open | the server must see them all
def open_loop(send, due):
    start, latencies = time.perf_counter(), []
    for at in due:
        time.sleep(max(0, start + at - time.perf_counter()))
        send()
        latencies.append(time.perf_counter() - start - at)
    return np.array(latencies)

# %% load-queue | That is the waiting alone
def simulate(due, services, instances=1):
    free, waits = [0.0] * instances, []
    for at, service in zip(due, services):
        begin = max(at, heappop(free))
        heappush(free, begin + service)
        waits.append(begin - at)
    return np.array(waits)

# %% load-queue | A request began before it was there
def simulate(due, services, instances=1):
    free, latencies = [0.0] * instances, []
    for at, service in zip(due, services):
        begin = heappop(free)
        heappush(free, begin + service)
        latencies.append(begin + service - at)
    return np.array(latencies)

# %% load-queue | You deal requests out in turns
def simulate(due, services, instances=1):
    free, latencies = [0.0] * instances, []
    for number, (at, service) in enumerate(zip(due, services)):
        begin = max(at, free[number % instances])
        free[number % instances] = begin + service
        latencies.append(begin + service - at)
    return np.array(latencies)

# %% load-queue | Only one instance works
def simulate(due, services, instances=1):
    free, latencies = 0.0, []
    for at, service in zip(due, services):
        free = max(at, free) + service
        latencies.append(free - at)
    return np.array(latencies)

# %% load-hold | Request by request
held = ONE

# %% load-hold | memory was for two
held = ONE + "instance_group [ { count: 6 kind: KIND_CPU } ]"

# %% load-hold | with requests that were too late already
held = ONE + "instance_group [ { count: 2 kind: KIND_CPU } ] dynamic_batching { }"

# %% load-hold | The engine's profile ends at 8
held = ONE.replace("size: 8", "size: 64") + "dynamic_batching { }"
