# %% graph-capture | In its first run after a change of shapes
def capture(cudart, context, stream):
    cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal)
    context.execute_async_v3(int(stream))
    error, graph = cudart.cudaStreamEndCapture(stream)
    if int(error):
        raise RuntimeError(cudart.cudaGetErrorString(error)[1].decode())
    return cudart.cudaGraphInstantiate(graph, 0)[1]

# %% graph-capture | A wait inside the capture
def capture(cudart, context, stream):
    context.execute_async_v3(int(stream))
    cudart.cudaStreamSynchronize(stream)
    cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal)
    context.execute_async_v3(int(stream))
    cudart.cudaStreamSynchronize(stream)
    error, graph = cudart.cudaStreamEndCapture(stream)
    return cudart.cudaGraphInstantiate(graph, 0)[1]

# %% graph-capture | which cannot be launched
def capture(cudart, context, stream):
    context.execute_async_v3(int(stream))
    cudart.cudaStreamSynchronize(stream)
    cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal)
    context.execute_async_v3(int(stream))
    return cudart.cudaStreamEndCapture(stream)[1]

# %% graph-capture | The graph holds 0 runs
def capture(cudart, context, stream):
    context.execute_async_v3(int(stream))
    cudart.cudaStreamSynchronize(stream)
    cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal)
    error, graph = cudart.cudaStreamEndCapture(stream)
    return cudart.cudaGraphInstantiate(graph, 0)[1]

# %% graph-capture | and no error
def capture(cudart, context, stream):
    context.execute_async_v3(int(stream))
    cudart.cudaStreamSynchronize(stream)
    cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal)
    context.execute_async_v3(int(stream))
    return cudart.cudaGraphInstantiate(cudart.cudaStreamEndCapture(stream)[1], 0)[1]

# %% graph-capture | the stream still records
def capture(cudart, context, stream):
    context.execute_async_v3(int(stream))
    cudart.cudaStreamSynchronize(stream)
    cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal)
    if not context.execute_async_v3(int(stream)):
        raise RuntimeError("cannot be recorded")
    error, graph = cudart.cudaStreamEndCapture(stream)
    return cudart.cudaGraphInstantiate(graph, 0)[1]

# %% graph-replay | read too early
def replay(cudart, executable, stream, x, y, rows):
    kinds = cudart.cudaMemcpyKind
    x.host[:] = rows
    cudart.cudaMemcpyAsync(x.device, x.host.ctypes.data, x.bytes, kinds.cudaMemcpyHostToDevice, stream)
    cudart.cudaGraphLaunch(executable, stream)
    cudart.cudaMemcpyAsync(y.host.ctypes.data, y.device, y.bytes, kinds.cudaMemcpyDeviceToHost, stream)
    return y.host.copy()

# %% graph-replay | Nobody copied that to y.host
def replay(cudart, executable, stream, x, y, rows):
    x.host[:] = rows
    cudart.cudaMemcpyAsync(x.device, x.host.ctypes.data, x.bytes, cudart.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)
    cudart.cudaGraphLaunch(executable, stream)
    cudart.cudaStreamSynchronize(stream)
    return y.host.copy()

# %% graph-replay | The answer is not that of these rows
def replay(cudart, executable, stream, x, y, rows):
    kinds = cudart.cudaMemcpyKind
    x.host[:] = rows
    cudart.cudaGraphLaunch(executable, stream)
    cudart.cudaMemcpyAsync(x.device, x.host.ctypes.data, x.bytes, kinds.cudaMemcpyHostToDevice, stream)
    cudart.cudaMemcpyAsync(y.host.ctypes.data, y.device, y.bytes, kinds.cudaMemcpyDeviceToHost, stream)
    cudart.cudaStreamSynchronize(stream)
    return y.host.copy()

# %% graph-replay | An answer changed when the next batch came
def replay(cudart, executable, stream, x, y, rows):
    kinds = cudart.cudaMemcpyKind
    x.host[:] = rows
    cudart.cudaMemcpyAsync(x.device, x.host.ctypes.data, x.bytes, kinds.cudaMemcpyHostToDevice, stream)
    cudart.cudaGraphLaunch(executable, stream)
    cudart.cudaMemcpyAsync(y.host.ctypes.data, y.device, y.bytes, kinds.cudaMemcpyDeviceToHost, stream)
    cudart.cudaStreamSynchronize(stream)
    return y.host

# %% graph-pool | The graph for 4 rows was given 3
class Pool:
    def __init__(self, graphs, plain):
        self.graphs, self.plain, self.misses, self.padded = graphs, plain, 0, 0

    def run(self, rows):
        return self.graphs[min(size for size in self.graphs if size >= len(rows))](rows)

# %% graph-pool | could have been used
class Pool:
    def __init__(self, graphs, plain):
        self.graphs, self.plain, self.misses, self.padded = graphs, plain, 0, 0

    def run(self, rows):
        if len(rows) in self.graphs:
            return self.graphs[len(rows)](rows)
        self.misses += 1
        return self.plain(rows)

# %% graph-pool | the smallest graph that holds the batch is the cheapest
class Pool:
    def __init__(self, graphs, plain):
        self.graphs, self.plain, self.misses, self.padded = graphs, plain, 0, 0

    def run(self, rows):
        size = next((size for size in self.graphs if size >= len(rows)), None)
        if size is None:
            return self.plain(rows)
        padded = np.zeros((size, 16), np.float32)
        padded[:len(rows)] = rows
        return self.graphs[size](padded)[:len(rows)]

# %% graph-pool | nobody's answer
class Pool:
    def __init__(self, graphs, plain):
        self.graphs, self.plain, self.misses, self.padded = graphs, plain, 0, 0

    def run(self, rows):
        size = min((size for size in self.graphs if size >= len(rows)), default=None)
        if size is None:
            return self.plain(rows)
        padded = np.zeros((size, 16), np.float32)
        padded[:len(rows)] = rows
        return self.graphs[size](padded)

# %% graph-pool | 2 and 4 is right
class Pool:
    def __init__(self, graphs, plain):
        self.graphs, self.plain, self.misses, self.padded = graphs, plain, 0, 0

    def run(self, rows):
        size = min((size for size in self.graphs if size >= len(rows)), default=None)
        if size is None:
            return self.plain(rows)
        padded = np.zeros((size, 16), np.float32)
        padded[:len(rows)] = rows
        return self.graphs[size](padded)[:len(rows)]
