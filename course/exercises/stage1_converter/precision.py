"""Lesson 04, Precision: the learner's functions are tried on fresh numbers, and on a format that they have not seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from course.exercises import Wrong, exercise, reference
from course.precision import FORMATS, Format, number_in


@exercise(
    "precision-rounding",
    points=4,
    hints=(
        "TF32 keeps the upper 19 of the 32 bits, BF16 the upper 16. What must happen before the lower ones are cut off?",
        "Add half of what the last kept bit is worth, then set the lower bits to 0. As whole numbers the bits take care of "
        "the carry by themselves.",
        "bits = x.view(np.uint32); ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32) is TF32. BF16 "
        "drops 16 bits instead of 13.",
    ),
)
def rounding(to_tf32: Callable, to_bf16: Callable):
    x = _numbers()
    before, wrong = x.copy(), []
    for function, format in ((to_tf32, FORMATS["TF32"]), (to_bf16, FORMATS["BF16"])):
        try:
            _judge_rounding(_call(function, x), x, format, function.__name__)
        except Wrong as error:
            wrong.append(error)
    if not np.array_equal(x, before):
        raise Wrong(
            "Your functions change the array that they are given.",
            "x.view(...) is the same memory under another name.",
            "Work on a copy, or make a new array: bits + half, not bits += half.",
        )
    if wrong:
        raise Wrong(wrong[0].what, wrong[0].cause, wrong[0].next_step, share=0.5 if len(wrong) == 1 else 0.0)
    return f"{len(x)} numbers from 1e-30 to 1e30, both signs: each is the nearest that the format holds."


def _numbers() -> np.ndarray:
    """float32 over the whole range, both signs, 0, and numbers whose rounding carries into the exponent; no ties."""
    rng = np.random.default_rng(5)
    x = 10 ** rng.uniform(-30, 30, 4000) * rng.choice([-1, 1], 4000)
    special = [0.0, 1.0, -2.5, 1.9999, -3.9999, 0.99999, 65519.0]
    x = np.concatenate([x, rng.uniform(-2, 2, 500), special]).astype(np.float32)
    bits = x.view(np.uint32)
    return x[((bits & 0x1FFF) != 0x1000) & ((bits & 0xFFFF) != 0x8000)]


def _nearest(x: np.ndarray, format: Format) -> np.ndarray:
    part, power = np.frexp(x.astype(np.float64))
    digits = 2.0 ** (format.mantissa + 1)
    return np.ldexp(np.rint(part * digits) / digits, power).astype(np.float32)


def _judge_rounding(found, x: np.ndarray, format: Format, name: str) -> None:
    if not isinstance(found, np.ndarray) or found.shape != x.shape or found.dtype != np.float32:
        shown = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
        raise Wrong(
            f"{name} returned {shown}.",
            f"It was given a NumPy array, float32 {list(x.shape)}, and returns one of the same kind.",
            "End with .view(np.float32).",
        )
    wanted = _nearest(x, format)
    bad = found != wanted
    if not bad.any():
        return
    place = int(np.argmax(bad))
    cut = (x.view(np.uint32) & np.uint32(0xFFFFFFFF << (23 - format.mantissa) & 0xFFFFFFFF)).view(np.float32)
    if np.array_equal(found, cut):
        cause = "The lower bits are cut off: that always goes towards 0, and is wrong for about half of all numbers."
    elif np.array_equal(found, x):
        cause = "Nothing was rounded."
    elif any(np.array_equal(found, _nearest(x, Format("", 8, mantissa))) for mantissa in range(2, 23)):
        cause = f"The number of bits is another: {format.name} keeps {format.mantissa} bits of the mantissa."
    elif not np.isfinite(found).all() or np.abs(found).max() < 1e5:
        cause = f"The range shrank. {format.name} has 8 bits for the exponent, as FP32: FP16 in between loses that."
    else:
        cause = "Perhaps the carry is lost: adding half may change the exponent, too, and that is right."
    raise Wrong(
        f"{name}({x[place]:.9g}) is {found[place]:.9g}; the nearest {format.name} number is "
        f"{wanted[place]:.9g} ({100 * bad.mean():.0f} % of {len(x)} numbers are wrong).",
        cause,
        'Look at that number: print(f"{x.view(np.uint32):032b}") before and after.',
    )


@exercise(
    "precision-limits",
    points=3,
    hints=(
        "What does `to` return for a number that is too large? And for one that is too small?",
        "Smallest: halve 1 as long as the result is not 0. Largest: double 1 as long as it is finite, then add ever "
        "smaller parts as long as it stays finite and grows. Normal: halve as long as a number with all mantissa bits survives.",
        "For the normal: step = 1; while to(1 + step / 2) > 1: step /= 2. Then halve x as long as "
        "to(x / 2 * (1 + step)) == x / 2 * (1 + step).",
    ),
)
def limits(limits: Callable):
    seen = [(FORMATS["FP16"], torch.float16), (FORMATS["BF16"], torch.bfloat16), (FORMATS["FP32"], torch.float32)]
    if hasattr(torch, "float8_e5m2"):
        seen.append((Format("FP8 (5 exponent bits, 2 mantissa bits)", 5, 2), torch.float8_e5m2))
    names = ("largest number", "smallest normal number", "smallest subnormal number")
    wrong = []
    for format, dtype in seen:
        found = _call(limits, number_in(dtype))
        wanted = (format.largest, format.smallest_normal, format.smallest_subnormal)
        try:
            found = [float(value) for value in found]
        except TypeError:
            raise Wrong(
                f"limits(...) returned {found!r}.",
                "Three numbers were asked for.",
                "return largest, smallest_normal, smallest_subnormal",
            ) from None
        if len(found) != 3:
            raise Wrong(
                f"limits(...) returned {len(found)} numbers.",
                "Three were asked for.",
                "return largest, smallest_normal, smallest_subnormal",
            )
        for name, value, right in zip(names, found, wanted):
            if not math.isclose(value, right, rel_tol=1e-9):
                wrong.append(
                    (
                        name,
                        Wrong(
                            f"The {name} of {format.name} is {right:.9g}, not {value:.9g}.",
                            _limit_reason(name, value, format),
                            "Ask `to`: it rounds any number.",
                        ),
                    )
                )
    if wrong:
        kinds = {name for name, _ in wrong}
        first = wrong[0][1]
        raise Wrong(first.what, first.cause, first.next_step, share=round((3 - len(kinds)) / 3, 2))
    return f"Right for {len(seen)} formats, found by trying; the last is one that you had not seen."


def _limit_reason(name: str, value: float, format: Format) -> str:
    if math.isinf(value):
        return "Infinity is not a number that is left: go back one step."
    if name == "largest number" and math.log2(max(value, 1)).is_integer():
        return "It is a power of two. The mantissa can still be filled with ones: nearly twice as much fits."
    if name == "smallest normal number" and value == format.smallest_subnormal:
        return "This is the smallest number of all, which has a single bit left. A normal number has all its digits."
    if name == "smallest subnormal number" and value == format.smallest_normal:
        return "Below this one there are still numbers, with fewer digits."
    if value == 0:
        return "0 is not a number that is left: go back one step."
    return "Perhaps it was measured on another format: every answer must come from `to`."


@exercise(
    "precision-error",
    points=2,
    hints=(
        "What happens to |a - b| / |b| where b is 0, as after a ReLU?",
        "Divide once, not for each number: the size of the whole difference by the size of the whole exact tensor.",
        "np.linalg.norm(found - exact) / np.linalg.norm(exact)",
    ),
)
def error(relative_error: Callable):
    rng = np.random.default_rng(8)
    exact = np.maximum(rng.standard_normal((4, 30, 6)), 0).astype(np.float32)  # half of it is 0, as after a ReLU
    found = (exact + 0.01 * rng.standard_normal(exact.shape)).astype(np.float32)
    wanted = float(np.linalg.norm((found - exact).ravel()) / np.linalg.norm(exact.ravel()))
    with np.errstate(all="ignore"):
        value = float(_call(relative_error, found, exact))
        scaled = float(_call(relative_error, 1000 * found, 1000 * exact))
    if not math.isfinite(value):
        raise Wrong(
            f"The error of a tensor with zeros is {value}.",
            f"{int((exact == 0).sum())} of {exact.size} values are 0, as after a ReLU, and you divide by each of them.",
            "Divide the whole by the whole.",
        )
    if value and abs(scaled / value - 1) > 0.01:
        raise Wrong(
            f"With all values times 1000, your error is {scaled / value:.3g} times as large.",
            "It is an absolute error: it says nothing without the size of the values.",
            "Divide by the length of the exact tensor.",
        )
    if abs(value - wanted) > 0.02 * wanted:
        raise Wrong(
            f"Your error is {value:.4g}; it is {wanted:.4g}.",
            "Another measure: perhaps a mean or a maximum, or signs that cancel.",
            "Length of the difference / length of the exact tensor, over all values.",
        )
    return f"{value:.4f} for a tensor that is off by 0.01 a value, whatever its scale, zeros or not."


@exercise(
    "precision-subnormal",
    points=3,
    hints=(
        "A weight can be negative, and a weight can be 0 already. What do you compare with the limits?",
        "Convert to np.float16 and look at absolute values: 0 now but not before; or not 0 and below the smallest "
        "normal, 2**-14.",
        "half = np.abs(weights.astype(np.float16)); subnormal = ((half > 0) & (half < 2**-14)).sum(); zero = "
        "((half == 0) & (weights != 0)).sum()",
    ),
)
def subnormal(count_small: Callable):
    rng = np.random.default_rng(9)
    weights = np.concatenate([10 ** rng.uniform(-10, 1, 5000) * rng.choice([-1, 1], 5000), np.zeros(37)])
    size = np.abs(weights)
    clear = (np.abs(size / 2**-14 - 1) > 0.001) & (np.abs(size / 2**-25 - 1) > 0.001)  # nothing at a limit
    weights = rng.permutation(weights[clear]).astype(np.float32).reshape(1, -1)
    half = np.abs(weights.astype(np.float16).astype(np.float32))
    wanted = int(((half > 0) & (half < 2.0**-14)).sum()), int(((half == 0) & (weights != 0)).sum())
    found = _call(count_small, weights)
    try:
        few, none = (int(value) for value in found)
    except (TypeError, ValueError):
        raise Wrong(
            f"count_small(...) returned {found!r}.",
            "Two numbers were asked for: how many become subnormal, how many become 0.",
            "return subnormal, zero",
        ) from None
    if (few, none) == wanted:
        return f"Right: of {weights.size} test weights {few} become subnormal and {none} become 0."
    zeros = int((weights == 0).sum())
    positive = int(((weights > 0) & (half > 0) & (half < 2.0**-14)).sum())
    if none == wanted[1] + zeros:
        cause = f"{zeros} of the weights were 0 before. They lose nothing."
    elif few in (wanted[0] + wanted[1], wanted[0] + wanted[1] + zeros):
        cause = "What becomes 0 is counted as subnormal, too."
    elif few in (positive, wanted[0] - positive) or few > weights.size // 2:
        cause = "Half of the weights are negative: compare absolute values."
    else:
        cause = (
            "FP16's smallest normal number is 2**-14; the smallest number above 0 is 2**-24, and half of it "
            "rounds to 0."
        )
    raise Wrong(
        f"Of {weights.size} test weights, {wanted[0]} become subnormal and {wanted[1]} become 0; you count "
        f"{few} and {none}.",
        cause,
        "Convert with .astype(np.float16), then look at what came out.",
        share=0.5 if few == wanted[0] or none == wanted[1] else 0.0,
    )


@reference("precision-subnormal")
def _count_small():
    def count_small(weights):
        half = np.abs(weights.astype(np.float16))
        return ((half > 0) & (half < 2**-14)).sum(), ((half == 0) & (weights != 0)).sum()

    return count_small


@exercise(
    "precision-accumulate",
    points=3,
    hints=(
        "In which format is each product, and in which the sum so far?",
        "The product of two FP16 numbers is exact in FP32. Only the sum is rounded to `accumulator`, after every addition.",
        "total = accumulator(0); for x, y in zip(a, b): total = accumulator(np.float32(total) + np.float32(x) * "
        "np.float32(y))",
    ),
)
def accumulate(dot: Callable):
    rng = np.random.default_rng(10)
    a, b = (rng.random(9000).astype(np.float16) for _ in range(2))
    products = a.astype(np.float32) * b.astype(np.float32)
    exact, stalled = float(products.sum(dtype=np.float64)), np.float16(0)
    for product in products:
        stalled = np.float16(np.float32(stalled) + product)
    wide, narrow = (float(_call(dot, a, b, kind)) for kind in (np.float32, np.float16))
    if abs(wide / exact - 1) > 2e-4:
        cause = "It is in FP16 somewhere: perhaps the products are, or the sum is before it is converted."
        if abs(wide / float(a.astype(np.float64).sum() * b.astype(np.float64).sum() / len(a)) - 1) < 1e-3:
            cause = "Perhaps the sums were multiplied, instead of the products added."
        raise Wrong(
            f"With an FP32 accumulator, the sum of {len(a)} products is {exact:.1f}; yours is {wide:.1f}.",
            cause,
            "Make np.float32 of x and y before you multiply, and keep the sum in `accumulator`.",
        )
    if abs(narrow / float(stalled) - 1) > 0.03:
        raise Wrong(
            f"With an FP16 accumulator, the sum gets to {float(stalled):.0f}; yours is {narrow:.0f} (exact: "
            f"{exact:.0f}).",
            "The sum was kept in more than FP16 while it grew, and rounded once at the end. "
            "An accumulator rounds after every addition.",
            "Round inside the loop.",
            share=0.5,
        )
    return f"{len(a)} products: FP32 accumulator {wide:.1f}, FP16 accumulator {narrow:.0f}, exact {exact:.1f}."


@exercise(
    "precision-overflow",
    points=3,
    hints=(
        "Which number is too large: an input, a product, or the sum before it is divided?",
        "(q · k) / s is the same as (q / s) · k, but nothing large ever exists.",
        "return (q / np.float16(np.sqrt(q.shape[1]))) @ k.T",
    ),
)
def overflow(scores_fixed: Callable):
    for seed, scale in ((1, 1.0), (2, 45.0), (3, 70.0)):
        rng = np.random.default_rng(seed)
        q, k = ((scale * rng.standard_normal((48, 128))).astype(np.float16) for _ in range(2))
        exact = q.astype(np.float64) @ k.astype(np.float64).T / math.sqrt(128)
        found = np.asarray(_call(scores_fixed, q, k))
        if found.shape != exact.shape:
            raise Wrong(
                f"The scores have the shape {list(found.shape)} instead of {list(exact.shape)}.",
                "One score for each pair of rows was asked for.",
                "Multiply by k.T.",
            )
        lost = int((~np.isfinite(found)).sum())
        if lost:
            raise Wrong(
                f"{lost} of {found.size} scores are not finite; the exact ones go up to "
                f"{np.abs(exact).max():.0f}, and FP16 holds 65504.",
                "The product before the division is up to "
                f"{np.abs(exact).max() * math.sqrt(128):.0f}: it overflows, and infinity stays infinity.",
                "Make the inputs smaller before they are multiplied.",
            )
        off = float(np.linalg.norm(found.astype(np.float64) - exact) / np.linalg.norm(exact))
        if off > 0.005:
            near = float((found.astype(np.float64) * exact).sum() / (exact**2).sum())
            cause = (
                "Digits got lost, or values were cut off at a limit: cutting hides an overflow, it does not repair it."
            )
            if abs(near - 1) > 0.01:
                cause = f"Your scores are {near:.3g} times the right ones: the scale is another."
            raise Wrong(f"The scores are off by {100 * off:.2g} %.", cause, "(q · k) / sqrt(d), with d = q.shape[1].")
        if found.dtype != np.float16:
            raise Wrong(
                f"The scores are {found.dtype}.",
                "They are right, but the next layer takes FP16.",
                "Return FP16; where you go through FP32, convert back.",
                share=0.5,
            )
    return "Finite and right to half a percent, for small and for large inputs."


def _call(function: Callable, *args):
    try:
        with np.errstate(all="ignore"):
            return function(*args)
    except NotImplementedError:
        raise Wrong(
            "It is not written yet.",
            "The cell above holds only its name.",
            "Fill it in, run the cell, then run this one again.",
        ) from None
