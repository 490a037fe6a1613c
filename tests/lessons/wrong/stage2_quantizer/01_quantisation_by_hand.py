# %% hand-quantise | Nothing saturates
def quantise(x, scale, zero_point=0):
    return (np.rint(x / scale) + zero_point).astype(np.int64).astype(np.int8)

# %% hand-quantise | The digits behind the point are cut off
def quantise(x, scale, zero_point=0):
    return np.clip((x / scale).astype(np.int32) + zero_point, -128, 127).astype(np.int8)

# %% hand-quantise | to the even neighbour
def quantise(x, scale, zero_point=0):
    return np.clip(np.floor(x / scale + 0.5) + zero_point, -128, 127).astype(np.int8)

# %% hand-quantise | clipped before the zero point was added
def quantise(x, scale, zero_point=0):
    return (np.clip(np.rint(x / scale), -128, 127) + zero_point).astype(np.int64).astype(np.int8)

# %% hand-quantise | for each value
def quantise(x, scale, zero_point=0):
    return np.clip(np.rint(x / scale) + zero_point, -128, 127)

# %% hand-pair | Without the attribute the axis is 1
def weight_pair(name, weight, axis):
    largest = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    constants = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(np.zeros(len(scale), np.int8), "z")]
    return [helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_dq"])], constants

# %% hand-pair | One scale for the whole tensor
def weight_pair(name, weight, axis):
    constants = [numpy_helper.from_array(np.float32(np.abs(weight).max() / 127), "s"),
                 numpy_helper.from_array(np.int8(0), "z")]
    return [helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"]),
            helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_dq"])], constants

# %% hand-pair | one channel is 0 everywhere
def weight_pair(name, weight, axis):
    scale = (np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1) / 127).astype(np.float32)
    constants = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(np.zeros(len(scale), np.int8), "z")]
    return [helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"], axis=axis),
            helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_dq"], axis=axis)], constants

# %% hand-pair | takes int8 with zero points of 0
def weight_pair(name, weight, axis):
    largest = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    constants = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(np.full(len(scale), 128, np.uint8), "z")]
    return [helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"], axis=axis),
            helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_dq"], axis=axis)], constants

# %% hand-pair | some weights are clipped
def weight_pair(name, weight, axis):
    mean = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).mean(1)
    scale = np.where(mean > 0, mean / 127, 1).astype(np.float32)
    constants = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(np.zeros(len(scale), np.int8), "z")]
    return [helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}_q"], axis=axis),
            helper.make_node("DequantizeLinear", [f"{name}_q", "s", "z"], [f"{name}_dq"], axis=axis)], constants

# %% hand-calibrator | nothing is clipped
def best_limit(counts, width):
    return (np.flatnonzero(counts)[-1] + 1) * width

# %% hand-calibrator | with resolution alone
def best_limit(counts, width):
    edge = (np.flatnonzero(counts)[-1] + 1) * width
    return min(edge * np.arange(1, 101) / 100, key=lambda limit: limit / 127)

# %% hand-calibrator | each bin counts once
def best_limit(counts, width):
    middles = (np.arange(len(counts)) + 0.5) * width
    edge = (np.flatnonzero(counts)[-1] + 1) * width
    def error(limit):
        scale = limit / 127
        return ((np.clip(np.rint(middles / scale), 0, 127) * scale - middles)[counts > 0] ** 2).sum()
    return min(edge * np.arange(1, 101) / 100, key=error)

# %% hand-calibrator | That is the scale
def best_limit(counts, width):
    middles = (np.arange(len(counts)) + 0.5) * width
    edge = (np.flatnonzero(counts)[-1] + 1) * width
    def error(scale):
        return (counts * (np.clip(np.rint(middles / scale), 0, 127) * scale - middles) ** 2).sum()
    return min(edge * np.arange(1, 201) / 200 / 127, key=error)

# %% hand-calibrator | the number of a bin
def best_limit(counts, width):
    middles = np.arange(len(counts)) + 0.5
    def error(limit):
        scale = limit / 127
        return (counts * (np.clip(np.rint(middles / scale), 0, 127) * scale - middles) ** 2).sum()
    return min((np.flatnonzero(counts)[-1] + 1) * np.arange(1, 201) / 200, key=error)

# %% hand-limits | nothing is clipped
limits = {name: float(one.largest[0]) for name, one in histograms.tensors.items()}

# %% hand-limits | These look like scales
limits = {name: best_limit(one.magnitudes()[0], one.widths[0]) / 127 for name, one in histograms.tensors.items()}

# %% hand-limits | tensors have no limit
limits = {tensor: best_limit(histograms[tensor].magnitudes()[0], histograms[tensor].widths[0])}

# %% hand-limits | it loses in others
limits = {name: 0.25 * float(one.largest[0]) for name, one in histograms.tensors.items()}
