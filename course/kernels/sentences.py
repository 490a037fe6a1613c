"""What each kind of finding says and advises: one function a kind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

Found = Mapping
Sizes = Mapping[str, int]
Words = tuple[str, str]
"""A sentence and an advice."""

_SPACES = {
    "host": "memory of the host",
    "null": "address 0",
    "another thread's local": "a local variable of another thread",
    "nowhere": "no buffer, far behind or in front of all",
    "unallocated": "shared memory that the block does not have",
}
_STRAY = {
    "null": "The pointer is null: the launcher got None, or it was never set.",
    "host": "A kernel can use pointers of the device only: parameters of the launcher, cudaMalloc, __device__ and "
    "__shared__ variables.",
    "nowhere": "The index is far off: look for a product that no longer fits into an int (use size_t), and for bytes "
    "taken as elements.",
    "unallocated": "No dynamic shared memory was given: the third number in <<<grid, block, bytes>>>. Otherwise the "
    "index is far off.",
    "another thread's local": "A thread's local variables are its own: share values through __shared__ memory.",
}
_RACES = {
    "warp": "Put __syncthreads() between the two accesses, or __syncwarp() if one warp alone uses this memory: threads "
    "of one warp do not run in lockstep, and a shuffle or a vote does not order memory.",
    "block": "Put __syncthreads() between the two accesses, where all threads of the block pass it; in a loop often a "
    "second one, at its end.",
    "blocks": "Blocks are not ordered: give each element to one block, use an atomic, or split the kernel in two. A "
    "block that reads what others wrote needs __threadfence() between the write and the atomic that "
    "announces it.",
    "streams": "Nothing orders the two launches: put them into one stream, or let the second stream wait for an event "
    "of the first (cudaStreamWaitEvent).",
}


def of(found: Found, sizes: Sizes) -> Words:
    """The sentence and the advice for a finding.

    Args:
        found: as the checker wrote it. sizes: bytes of an element, for each buffer whose dtype is known.
    """
    return _KINDS.get(found["kind"], _unknown)(found, sizes)


# ---------------------------------------------------------------- parts of sentences
def _buffer(found: Found) -> str:
    is_shared = found.get("space") == "shared" and not found["buffer"].startswith("extern")
    return f"__shared__ {found['buffer']}" if is_shared else found["buffer"]


def _element(found: Found, sizes: Sizes) -> str:
    size = sizes.get(found["buffer"], 0) if found.get("space") != "shared" else 0
    if not size:
        return f"byte {found['offset']} of {_buffer(found)} ({found['bytes']} bytes)"
    inside = f", byte {found['offset'] % size} of it" if found["offset"] % size else ""
    return f"element {found['offset'] // size}{inside} of {_buffer(found)} ({found['bytes'] // size} elements)"


def _bytes(number: int) -> str:
    return f"{number} byte{'s' if number != 1 else ''}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _access(found: Found) -> str:
    return f"{found['access']} of {_bytes(found['size'])}"


# ---------------------------------------------------------------- memory
def _out_of_bounds(found: Found, sizes: Sizes) -> Words:
    what = f"{found.get('what') or 'invalid'} {_access(found)}"
    if "buffer" not in found:
        return f"{what}: it hits {_SPACES[found['space']]}", _STRAY[found["space"]]
    if found.get("freed"):
        return f"{what}: {_buffer(found)} was freed before", _FREED
    offset, size, behind = found["offset"], found["size"], found["offset"] - found["bytes"]
    if behind >= 0:
        how = f"{_bytes(behind)} behind the end"
    else:
        how = f"{_bytes(behind + size)} of it behind the end" if offset >= 0 else f"{_bytes(-offset)} in front"
    if found.get("what"):
        advice = "Sizes of copies are in bytes: n * sizeof(type)."
    elif found["buffer"].startswith("extern"):
        advice = (
            "Compare the index with the bytes in <<<grid, block, bytes>>>: they are elements times sizeof(type), "
            "for all parts together."
        )
    elif found["space"] == "shared":
        advice = "Compare the index with the size of this __shared__ array."
    else:
        advice = "Guard it: if (i < n). Check the grid, the strides, and whether the size counts elements or bytes."
    return f"{what}: {_element(found, sizes)}, {how}", advice


_FREED = "Free the memory after the last kernel that uses it, and after a synchronisation."


def _use_after_free(found: Found, sizes: Sizes) -> Words:
    return f"{_access(found)} in {_buffer(found)}, which was freed", _FREED


def _misaligned(found: Found, sizes: Sizes) -> Words:
    where = f": byte {found['offset']} of {_buffer(found)}" if "buffer" in found else ""
    size = found["size"]
    return (
        f"misaligned {_access(found)}{where} is no multiple of {size}",
        f"An access of {size} bytes needs an address that is a multiple of {size}: check offset and row length, or "
        "load element by element there.",
    )


def _array_index(found: Found, sizes: Sizes) -> Words:
    array = found["array"].strip("'")
    return (
        f"index {found['index']} is outside {array}",
        "Compare the index with the size in the declaration; indices begin at 0.",
    )


def _host_access(found: Found, sizes: Sizes) -> Words:
    where = f" ({_buffer(found)})" if "buffer" in found else ""
    return (
        f"host code makes a {_access(found)} in memory of the device{where}",
        "The host cannot follow a device pointer: copy with cudaMemcpy, or do it in a kernel.",
    )


def _write_to_input(found: Found, sizes: Sizes) -> Words:
    if found.get("space") == "constant":
        return (
            f"{found['access']} to the __constant__ variable {found['buffer']}",
            "Kernels can only read it; the host sets it with cudaMemcpyToSymbol.",
        )
    return (
        f"{found['access']} to {_element(found, sizes)}, which is an input",
        "Write to the output. If it shall be changed in place, pass it with kernels.inout(array).",
    )


def _invalid_free(found: Found, sizes: Sizes) -> Words:
    again = f"cudaFree of {found['buffer']} a second time"
    return (
        again if found["freed"] else "cudaFree of a pointer that cudaMalloc did not give",
        "Free each pointer of cudaMalloc once.",
    )


def _leak(found: Found, sizes: Sizes) -> Words:
    return (
        f"{found['buffer']} ({found['bytes']} bytes) was never freed",
        "Call cudaFree for it before the launcher returns, on every path.",
    )


def _copy_direction(found: Found, sizes: Sizes) -> Words:
    side = {0: "the host", 1: "the device"}
    return (
        f"cudaMemcpy from {side[found['from_device']]} to {side[found['to_device']]} with another direction as its "
        "last argument",
        "The arguments are: destination, source, bytes, direction.",
    )


# ---------------------------------------------------------------- races, values that nobody wrote
def _race(found: Found, sizes: Sizes) -> Words:
    mine, others = found["access"], found["other"]["access"]
    advice = _RACES[found["scope"]]
    if found["space"] == "global" and found["same_line"] and {mine, others} == {"read", "write"}:
        advice = (
            "If several threads update the same element here, use atomicAdd or another atomic. If one reads what "
            "another replaces, write to a second array."
        )
    elif found["scope"] == "blocks" and mine == others == "write":
        advice = (
            "Two threads of different blocks write the same element: check how the index is made from blockIdx, "
            "or use an atomic."
        )
    return (f"race on {_element(found, sizes)}: nothing orders this {mine} and another thread's {others}", advice)


def _uninitialized_read(found: Found, sizes: Sizes) -> Words:
    if found["space"] == "shared":
        advice = (
            "Shared memory begins without values in every block: write each element before it is read, also those "
            "of threads that have no input."
        )
    else:
        advice = (
            "Nothing has written it: set it to a value first (cudaMemset, or in the kernel); an output begins "
            "without values."
        )
    return f"{found['access']} of {_element(found, sizes)}, which nothing has written", advice


def _uninitialized_variable(found: Found, sizes: Sizes) -> Words:
    text = "a local variable is used before it has a value: what it holds by chance changes the result"
    return (
        found.get("text", text),
        "Give the variable a value where it is declared, for example 0; an array needs = {}.",
    )


def _unwritten(found: Found, sizes: Sizes) -> Words:
    size = sizes.get(found["buffer"], 1) or 1
    return (
        f"{found['missing'] // size} of {found['bytes'] // size} elements of {found['buffer']} were never written, "
        f"the first is element {found['first'] // size}",
        "Check the size of the grid, the loop's stride, and what happens to the last elements.",
    )


# ---------------------------------------------------------------- barriers, masks
def _places(found: Found) -> str:
    places = "; ".join(
        f"{_threads(place['count'])} (one is {tuple(place['thread'])}) at {place['what']}, line {place['line']}"
        for place in found["places"]
    )
    if not found["exited"]:
        return places
    return f"{places}; {_threads(found['exited'])} (one is {tuple(found['exited_thread'])}) ended without it"


def _divergent_barrier(found: Found, sizes: Sizes) -> Words:
    return (
        f"__syncthreads() is not reached by all threads of the block: {_places(found)}",
        "All threads of a block must pass the same barrier: take it out of the if or of the loop, and let threads "
        "without work go on instead of returning early.",
    )


def _deadlock(found: Found, sizes: Sizes) -> Words:
    return (
        f"the block cannot go on: {_places(found)}",
        "All threads that a barrier or a mask names must come to the same call: take it out of the if, or make the "
        "mask before, with __ballot_sync.",
    )


def _invalid_mask(found: Found, sizes: Sizes) -> Words:
    return (
        f"{found['what']} with mask 0x{found['mask']:08x}, which does not name the calling lane {found['lane']}",
        "Each lane that calls it must be in the mask.",
    )


def _undefined_shuffle(found: Found, sizes: Sizes) -> Words:
    reasons = {"absent": "does not exist in this block", "ended": "has ended", "not in mask": "is not in the mask"}
    return (
        f"{found['what']}: lane {found['lane']} reads lane {found['source']}, which {reasons[found['because']]}: "
        "the value is undefined",
        "Let all lanes of the warp take part, with a neutral value where they have none "
        "(0 for a sum, -INFINITY for a maximum).",
    )


# ---------------------------------------------------------------- launches
def _invalid_launch(found: Found, sizes: Sizes) -> Words:
    value, limit = found["value"], found["limit"]
    texts: dict[str, Words] = {
        "empty block": ("the block has no threads", "Each side of the block is at least 1."),
        "empty grid": (
            "the grid has no blocks",
            "Round the number of blocks up: (n + block - 1) / block, and skip the launch for n = 0.",
        ),
        "threads": (f"{value} threads in a block, {limit} are allowed", "Make the block smaller and the grid larger."),
        "block z": (f"{value} threads in the block's z direction, {limit} are allowed", "Use x or y."),
        "grid x": (f"{value} blocks in the grid's x direction, {limit} are allowed", "Let each thread do more."),
        "grid y": (f"{value} blocks in the grid's y direction, {limit} are allowed", "Put the long side into x."),
        "grid z": (f"{value} blocks in the grid's z direction, {limit} are allowed", "Put the long side into x."),
        "grid blocks": (f"{value} blocks are more than the simulation counts", "Use a smaller problem here."),
        "launch bounds": (
            f"{value} threads in a block, and the kernel's __launch_bounds__ promises at most {limit}",
            "Make the two equal.",
        ),
        "dynamic shared": (
            f"{value} bytes of dynamic shared memory, {limit} are allowed without asking",
            "Call cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) "
            "before the launch, or use less.",
        ),
        "shared": (f"{value} bytes of dynamic shared memory, the GPU has {limit} for a block", "Use a smaller tile."),
        "static shared": (
            f"{value} bytes of __shared__ variables, {limit} are allowed",
            "Use a smaller tile, or dynamic shared memory with cudaFuncSetAttribute.",
        ),
        "static and dynamic shared": (
            f"{found.get('static')} bytes of __shared__ variables and {found.get('dynamic')} "
            f"of dynamic shared memory, the GPU has {limit} for a block",
            "Use a smaller tile.",
        ),
    }
    text, advice = texts[found["because"]]
    return f"the launch of {found['kernel']} fails: {text}", advice


def _unsupported(found: Found, sizes: Sizes) -> Words:
    return f"{found['what']} is not supported by the CPU checker", "docs/cuda_on_cpu.md lists what is supported."


def _device_only(found: Found, sizes: Sizes) -> Words:
    return f"{found['what']} was called in host code", "Only kernels and __device__ functions can call it."


# ---------------------------------------------------------------- the program
def _crash(found: Found, sizes: Sizes) -> Words:
    if found.get("space") == "stack":
        return (
            "a thread's local variables need more than 120 kB",
            "Use shared or global memory for large arrays; look for endless recursion.",
        )
    try:
        name = signal.Signals(found["signal"]).name
    except ValueError:
        name = "an exit"
    near = ""
    if "buffer" in found and found["offset"] >= found["bytes"]:
        near = f", {found['offset'] - found['bytes']} bytes behind the end of {found['buffer']}"
    said = f" It printed: {found['last_words']}" if found.get("last_words") else ""
    return (
        f"the process crashed ({name}){near}.{said}",
        'Run it in mode "checked", which says where an access goes wrong; check what the launcher does with host '
        "memory.",
    )


def _timeout(found: Found, sizes: Sizes) -> Words:
    where = "; the line is where it was then" if "pc" in found else ""
    return (
        f"it did not end within the time limit{where}",
        "Look for a loop whose condition never becomes false, or for a thread that waits for another block. Or give "
        "it more time: seconds=.",
    )


def _assert(found: Found, sizes: Sizes) -> Words:
    return f"assert({found['expression']}) failed", "The condition was false for this thread."


def _division(found: Found, sizes: Sizes) -> Words:
    return "integer division by zero", "A GPU gives a meaningless number without a word: check the divisor first."


def _unknown(found: Found, sizes: Sizes) -> Words:
    return str(dict(found)), "This finding has no text yet: report it."


_KINDS: dict[str, Callable[[Found, Sizes], Words]] = {
    "out-of-bounds": _out_of_bounds,
    "use-after-free": _use_after_free,
    "misaligned": _misaligned,
    "array-index": _array_index,
    "host-access": _host_access,
    "write-to-input": _write_to_input,
    "invalid-free": _invalid_free,
    "memory-leak": _leak,
    "copy-direction": _copy_direction,
    "race": _race,
    "uninitialized-read": _uninitialized_read,
    "uninitialized-variable": _uninitialized_variable,
    "unwritten-output": _unwritten,
    "divergent-barrier": _divergent_barrier,
    "deadlock": _deadlock,
    "invalid-mask": _invalid_mask,
    "undefined-shuffle": _undefined_shuffle,
    "invalid-launch": _invalid_launch,
    "unsupported": _unsupported,
    "device-only": _device_only,
    "crash": _crash,
    "timeout": _timeout,
    "assert": _assert,
    "division-by-zero": _division,
}
