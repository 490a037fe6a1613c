# %% kernel-softmax | Nothing but a barrier says
from course.exercises.stage3_plugins.cuda_kernels_2 import _softmax
softmax = _softmax().replace("top = part[0];\n    __syncthreads();", "top = part[0];")

# %% kernel-softmax | A barrier inside the if
from course.exercises.stage3_plugins.cuda_kernels_2 import _softmax
softmax = _softmax().replace("if (t < half) part[t] = fmaxf(part[t], part[t + half]);\n        __syncthreads();",
                             "if (t < half) { part[t] = fmaxf(part[t], part[t + half]); __syncthreads(); }\n")
softmax = softmax.replace("top = part[0];", "__syncthreads(); top = part[0];")

# %% kernel-softmax | exp(100) is larger than any float
from course.exercises.stage3_plugins.cuda_kernels_2 import _softmax
softmax = _softmax().replace("top = part[0];", "top = 0.0f;")

# %% kernel-softmax | also those behind the first 128
from course.exercises.stage3_plugins.cuda_kernels_2 import _softmax
softmax = _softmax().replace("i < width; i += 128) sum +=", "i < min(width, 128); i += 128) sum +=")

# %% kernel-banks | a bank gives a word to all of them at once
def passes(offsets):
    return int(np.bincount(offsets // 4 % 32).max())

# %% kernel-banks | the busiest one decides
def passes(offsets):
    return len(np.unique(offsets // 4 % 32))

# %% kernel-banks | not of the byte
def passes(offsets):
    return int(np.bincount(np.unique(offsets) % 32).max())

# %% kernel-layernorm | and a float has seven digits
from course.exercises.stage3_plugins.cuda_kernels_2 import _layernorm
layernorm = _layernorm().replace("squares += (x[i] - mean) * (x[i] - mean)", "squares += x[i] * x[i]")
layernorm = layernorm.replace("warpSum(squares) / width + eps", "warpSum(squares) / width - mean * mean + eps")

# %% kernel-layernorm | not every lane has the whole sum
from course.exercises.stage3_plugins.cuda_kernels_2 import _layernorm
layernorm = _layernorm().replace("__shfl_xor_sync", "__shfl_down_sync")

# %% kernel-layernorm | They must stay, with a 0
from course.exercises.stage3_plugins.cuda_kernels_2 import _layernorm
layernorm = _layernorm().replace("if (row >= rows) return;", "if (row >= rows || lane >= width) return;")
