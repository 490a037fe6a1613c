# %% precision-rounding | The lower bits are cut off
def to_tf32(x):
    return (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)

def to_bf16(x):
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

# %% precision-rounding | The range shrank
def to_tf32(x):
    return x.astype(np.float16).astype(np.float32)

def to_bf16(x):
    return torch.from_numpy(x).bfloat16().float().numpy()

# %% precision-rounding | The number of bits is another
def to_tf32(x):
    return ((x.view(np.uint32) + np.uint32(1 << 13)) & np.uint32(0xFFFFC000)).view(np.float32)

def to_bf16(x):
    return ((x.view(np.uint32) + np.uint32(1 << 14)) & np.uint32(0xFFFF8000)).view(np.float32)

# %% precision-rounding | change the array
def to_tf32(x):
    bits = x.view(np.uint32)
    bits += np.uint32(1 << 12)
    bits &= np.uint32(0xFFFFE000)
    return bits.view(np.float32)

def to_bf16(x):
    return ((x.view(np.uint32) + np.uint32(1 << 15)) & np.uint32(0xFFFF0000)).view(np.float32)

# %% precision-limits | It is a power of two
def limits(to):
    largest = smallest = 1.0
    while np.isfinite(to(2 * largest)):
        largest *= 2
    while to(smallest / 2) > 0:
        smallest /= 2
    step = to(1 + 1e-9)
    return largest, smallest, smallest

# %% precision-limits | measured on another format
def limits(to):
    return 65504.0, 2.0**-14, 2.0**-24

# %% precision-limits | Infinity is not a number that is left
def limits(to):
    smallest = 1.0
    while to(smallest) > 0:
        smallest /= 2
    largest = 1.0
    while np.isfinite(to(largest)):
        largest *= 2
    return to(largest), smallest, 0.0

# %% precision-error | you divide by each of them
def relative_error(found, exact):
    with np.errstate(all="ignore"):
        return np.mean(np.abs(found - exact) / np.abs(exact))

# %% precision-error | It is an absolute error
def relative_error(found, exact):
    return np.abs(found - exact).mean()

# %% precision-error | signs that cancel
def relative_error(found, exact):
    return abs((found - exact).sum()) / exact.sum()

# %% precision-subnormal | were 0 before
def count_small(weights):
    half = np.abs(weights.astype(np.float16))
    return ((half > 0) & (half < 2**-14)).sum(), (half == 0).sum()

# %% precision-subnormal | compare absolute values
def count_small(weights):
    half = weights.astype(np.float16)
    return ((half > 0) & (half < 2**-14)).sum(), ((half == 0) & (weights != 0)).sum()

# %% precision-subnormal | is counted as subnormal, too
def count_small(weights):
    small = np.abs(weights)
    return ((small > 0) & (small < 2**-14)).sum(), ((small > 0) & (small < 2**-24)).sum()

# %% precision-accumulate | rounded once at the end
def dot(a, b, accumulator):
    return accumulator((a.astype(np.float32) * b.astype(np.float32)).sum())

# %% precision-accumulate | It is in FP16 somewhere
def dot(a, b, accumulator):
    total = np.float16(0)
    for x, y in zip(a, b):
        total = np.float16(total + x * y)
    return accumulator(total)

# %% precision-accumulate | the sums were multiplied
def dot(a, b, accumulator):
    return accumulator(a.astype(np.float64).sum() * b.astype(np.float64).sum() / len(a))

# %% precision-overflow | it overflows, and infinity stays infinity
scores_fixed = scores

# %% precision-overflow | cutting hides an overflow
def scores_fixed(q, k):
    product = np.clip(q.astype(np.float32) @ k.astype(np.float32).T, -65504, 65504).astype(np.float16)
    return product / np.float16(np.sqrt(q.shape[1]))

# %% precision-overflow | the scale is another
def scores_fixed(q, k):
    return (q / np.float16(q.shape[1])) @ k.T

# %% precision-overflow | the next layer takes FP16
def scores_fixed(q, k):
    return q.astype(np.float32) @ k.astype(np.float32).T / np.float32(np.sqrt(q.shape[1]))
