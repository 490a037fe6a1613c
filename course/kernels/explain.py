"""One finding of the checker, from its JSON to a sentence and an advice."""
from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from course.kernels import lines
from course.kernels.compiler import Notes
from course.kernels.report import Finding, Index, Place

_SPACES = {"global": "global memory", "shared": "shared memory", "constant": "constant memory", "host": "memory of the host",
           "null": "address 0", "another thread's local": "a local variable of another thread", "nowhere": "no buffer, far behind or in front of all", "unallocated": "shared memory that the block does not have"}
_SCOPES = {
    "warp": "Threads of one warp do not run in lockstep: put __syncwarp() between the two accesses. A shuffle or a vote does not order memory.",
    "block": "Put __syncthreads() between the two accesses, where all threads of the block pass it; in a loop often a second one, at its end.",
    "blocks": "Blocks are not ordered: give each element to one block, use an atomic, or split the kernel in two. "
              "A block that reads what others wrote needs __threadfence() between the write and the atomic that announces it.",
    "streams": "Nothing orders the two launches: put them into one stream, or let the second stream wait for an event of the first (cudaStreamWaitEvent)."}


def explained(found: Mapping, notes: Notes, order: int, sizes: Mapping[str, int]) -> Finding:
    """The finding in words.

    Args:
        found: as the checker wrote it. notes: of the library that ran. order: the thread order.
        sizes: bytes of an element, for each buffer whose dtype is known.
    """
    file, line = _where(found, notes)
    other = found.get("other")
    place = None
    if other:
        place = Place(*lines.look_up(notes.files, notes.lines, other["pc"]), _index(other.get("thread")), _index(other.get("block")), other["access"])
    if second := next((where for where in found.get("places", []) if where["thread"] != found["thread"]), None):
        place = Place(second["file"], second["line"], _index(second["thread"]), _index(found["block"]), second["what"])
    message, advice = _WORDS.get(found["kind"], _unknown)(found, sizes)
    return Finding(found["kind"], message, advice, file, line, found.get("kernel", ""), _index(found.get("thread")),
                   _index(found.get("block")), found.get("buffer", ""), found.get("offset"), place, (order,), dict(found))


def _where(found: Mapping, notes: Notes) -> tuple[str, int]:
    if "line" in found:
        return found["file"], found["line"]
    for key in ("pc", "last_pc"):
        if found.get(key):
            file, line = lines.look_up(notes.files, notes.lines, found[key])
            if line:
                return file, line
    if "last" in found:
        return found["last"]["file"], found["last"]["line"]
    return "", 0


def _index(value: object) -> Index | None:
    return tuple(value) if value is not None else None


def _buffer(found: Mapping) -> str:
    shared = "__shared__ " if found.get("space") == "shared" and not found["buffer"].startswith("extern") else ""
    return f"{shared}{found['buffer']}"


def _element(found: Mapping, sizes: Mapping[str, int]) -> str:
    size = sizes.get(found["buffer"], 0) if found.get("space") != "shared" else 0
    if not size:
        return f"byte {found['offset']} of {_buffer(found)} ({found['bytes']} bytes)"
    inside = f", byte {found['offset'] % size} of it" if found["offset"] % size else ""
    return f"element {found['offset'] // size}{inside} of {_buffer(found)} ({found['bytes'] // size} elements)"


def _bytes(number: int) -> str:
    return f"{number} byte{'s' if number != 1 else ''}"


# ---------------------------------------------------------------- a function a kind: (sentence, advice)
def _out_of_bounds(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    what = f"{found.get('what') or 'invalid'} {found['access']} of {_bytes(found['size'])}"
    if "buffer" not in found:
        advice = {"null": "The pointer is null: the launcher got None, or it was never set.",
                  "host": "A kernel can use pointers of the device only: parameters of the launcher, cudaMalloc, __device__ and __shared__ variables.",
                  "nowhere": "The index is far off: look for a product that no longer fits into an int (use size_t), and for bytes taken as elements.",
                  "unallocated": "No dynamic shared memory was given: the third number in <<<grid, block, bytes>>>. Otherwise the index is far off."}
        return (f"{what}: it hits {_SPACES.get(found['space'], found['space'])}",
                advice.get(found["space"], "A thread's local variables are its own: share values through __shared__ memory."))
    if found.get("freed"):
        return f"{what}: {_buffer(found)} was freed before", "Free the memory after the last kernel that uses it, and after a synchronisation."
    if found["offset"] >= 0 and found["offset"] >= found["bytes"]:
        how = f"{_bytes(found['offset'] - found['bytes'])} behind the end"
    elif found["offset"] >= 0:
        how = f"{_bytes(found['offset'] + found['size'] - found['bytes'])} of it behind the end"
    else:
        how = f"{_bytes(-found['offset'])} in front"
    advice = ("Compare the index with the size of this __shared__ array." if found["space"] == "shared" else
              "Guard it: if (i < n). Check the grid, the strides, and whether the size counts elements or bytes.")
    if found.get("what"):
        advice = "Sizes of copies are in bytes: n * sizeof(type)."
    return f"{what}: {_element(found, sizes)}, {how}", advice


def _use_after_free(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return (f"{found['access']} of {_bytes(found['size'])} in {_buffer(found)}, which was freed",
            "Free the memory after the last kernel that uses it, and after a synchronisation.")


def _misaligned(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    where = f": byte {found['offset']} of {_buffer(found)}" if "buffer" in found else ""
    return (f"misaligned {found['access']} of {_bytes(found['size'])}{where} is no multiple of {found['size']}",
            f"An access of {found['size']} bytes needs an address that is a multiple of {found['size']}: check offset and row length, or load element by element there.")


def _array_index(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return f"index {found['index']} is outside {found['array'].strip(chr(39))}", "Compare the index with the size in the declaration; indices begin at 0."


def _host_access(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return (f"host code makes a {found['access']} of {_bytes(found['size'])} in memory of the device" + (f" ({_buffer(found)})" if "buffer" in found else ""),
            "The host cannot follow a device pointer: copy with cudaMemcpy, or do it in a kernel.")


def _write_to_input(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    if found.get("space") == "constant":
        return f"{found['access']} to the __constant__ variable {found['buffer']}", "Kernels can only read it; the host sets it with cudaMemcpyToSymbol."
    return (f"{found['access']} to {_element(found, sizes)}, which is an input",
            "Write to the output. If it shall be changed in place, pass it with kernels.inout(array).")


def _race(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    advice = _SCOPES[found["scope"]]
    if found["scope"] == "blocks" and found["access"] == "write" and found["other"]["access"] == "write":
        advice = "Two threads of different blocks write the same element: check how the index is made from blockIdx, or use an atomic."
    return f"race on {_element(found, sizes)}: nothing orders this {found['access']} and another thread's {found['other']['access']}", advice


def _uninitialized(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    if found["space"] == "shared":
        advice = "Shared memory begins without values in every block: write each element before it is read, also those of threads that have no input."
    else:
        advice = "Nothing has written it: set it to a value first (cudaMemset, or in the kernel); an output begins without values."
    return f"{found['access']} of {_element(found, sizes)}, which nothing has written", advice


def _uninitialized_variable(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return (found.get("text", "a local variable is used before it has a value: what it holds by chance changes the result"),
            "Give the variable a value where it is declared, for example 0; an array needs = {}.")


def _unwritten(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    size = sizes.get(found["buffer"], 1) or 1
    return (f"{found['missing'] // size} of {found['bytes'] // size} elements of {found['buffer']} were never written, the first is element {found['first'] // size}",
            "Check the size of the grid, the loop's stride, and what happens to the last elements.")


def _divergent(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    places = "; ".join(f"{_threads(place['count'])} (one is {_index(place['thread'])}) at {place['what']}, line {place['line']}" for place in found["places"])
    ended = f"; {_threads(found['exited'])} (one is {_index(found['exited_thread'])}) ended without it" if found["exited"] else ""
    if found["kind"] == "divergent-barrier":
        return (f"__syncthreads() is not reached by all threads of the block: {places}{ended}",
                "All threads of a block must pass the same barrier: take it out of the if or of the loop, and let threads without work "
                "go on instead of returning early.")
    return (f"the block cannot go on: {places}{ended}",
            "All threads that a barrier or a mask names must come to the same call: take it out of the if, or make the mask before, with __ballot_sync.")


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _invalid_mask(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return (f"{found['what']} with mask 0x{found['mask']:08x}, which does not name the calling lane {found['lane']}",
            "Each lane that calls it must be in the mask.")


def _undefined_shuffle(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    because = {"absent": "does not exist in this block", "ended": "has ended", "not in mask": "is not in the mask"}[found["because"]]
    return (f"{found['what']}: lane {found['lane']} reads lane {found['source']}, which {because}: the value is undefined",
            "Let all lanes of the warp take part, with a neutral value where they have none (0 for a sum, -INFINITY for a maximum).")


def _invalid_launch(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    value, limit, kernel = found["value"], found["limit"], found["kernel"]
    texts: dict[str, tuple[str, str]] = {
        "empty block": ("the block has no threads", "Each side of the block is at least 1."),
        "empty grid": ("the grid has no blocks", "Round the number of blocks up: (n + block - 1) / block, and skip the launch for n = 0."),
        "threads": (f"{value} threads in a block, {limit} are allowed", "Make the block smaller and the grid larger."),
        "block z": (f"{value} threads in the block's z direction, {limit} are allowed", "Use x or y."),
        "grid x": (f"{value} blocks in the grid's x direction, {limit} are allowed", "Let each thread do more."),
        "grid y": (f"{value} blocks in the grid's y direction, {limit} are allowed", "Put the long side into x."),
        "grid z": (f"{value} blocks in the grid's z direction, {limit} are allowed", "Put the long side into x."),
        "grid blocks": (f"{value} blocks are more than the simulation counts", "Use a smaller problem here."),
        "launch bounds": (f"{value} threads in a block, and the kernel's __launch_bounds__ promises at most {limit}", "Make the two equal."),
        "dynamic shared": (f"{value} bytes of dynamic shared memory, {limit} are allowed without asking",
                           "Call cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) before the launch, or use less."),
        "shared": (f"{value} bytes of dynamic shared memory, the GPU has {limit} for a block", "Use a smaller tile."),
        "static shared": (f"{value} bytes of __shared__ variables, {limit} are allowed", "Use a smaller tile, or dynamic shared memory with cudaFuncSetAttribute."),
        "static and dynamic shared": (f"{found.get('static')} bytes of __shared__ variables and {found.get('dynamic')} of dynamic shared memory, "
                                      f"the GPU has {limit} for a block", "Use a smaller tile."),
    }
    text, advice = texts[found["because"]]
    return f"the launch of {kernel} fails: {text}", advice


def _invalid_free(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return (f"cudaFree of {found['buffer']} a second time" if found["freed"] else "cudaFree of a pointer that cudaMalloc did not give",
            "Free each pointer of cudaMalloc once.")


def _leak(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return f"{found['buffer']} ({found['bytes']} bytes) was never freed", "Call cudaFree for it before the launcher returns, on every path."


def _copy_direction(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    side = {0: "the host", 1: "the device"}
    return (f"cudaMemcpy from {side[found['from_device']]} to {side[found['to_device']]} with another direction as its last argument",
            "The arguments are: destination, source, bytes, direction.")


def _crash(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    try:
        name = signal.Signals(found["signal"]).name
    except ValueError:
        name = "an exit"
    if found.get("space") == "stack":
        return "a thread's local variables need more than 120 kB", "Use shared or global memory for large arrays; look for endless recursion."
    near = f", {found['offset'] - found['bytes']} bytes behind the end of {found['buffer']}" if found.get("offset", -1) >= found.get("bytes", 0) and "buffer" in found else ""
    said = f" It printed: {found['last_words']}" if found.get("last_words") else ""
    return f"the process crashed ({name}){near}.{said}", 'Run it in mode "checked", which says where an access goes wrong; check what the launcher does with host memory.'


def _timeout(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return ("it did not end within the time limit; the line is where it was then" if "pc" in found else "it did not end within the time limit",
            "Look for a loop whose condition never becomes false, or for a thread that waits for another block. Or give it more time: seconds=.")


def _assert(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return f"assert({found['expression']}) failed", "The condition was false for this thread."


def _division(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return "integer division by zero", "A GPU gives a meaningless number without a word: check the divisor first."


def _unsupported(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return f"{found['what']} is not supported by the CPU checker", "docs/cuda_on_cpu.md lists what is supported."


def _device_only(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return f"{found['what']} was called in host code", "Only kernels and __device__ functions can call it."


def _unknown(found: Mapping, sizes: Mapping[str, int]) -> tuple[str, str]:
    return str(dict(found)), "This finding has no text yet: report it."


_WORDS: dict[str, Callable[[Mapping, Mapping[str, int]], tuple[str, str]]] = {
    "out-of-bounds": _out_of_bounds, "use-after-free": _use_after_free, "misaligned": _misaligned, "array-index": _array_index,
    "host-access": _host_access, "write-to-input": _write_to_input, "race": _race, "uninitialized-read": _uninitialized,
    "uninitialized-variable": _uninitialized_variable, "unwritten-output": _unwritten, "divergent-barrier": _divergent, "deadlock": _divergent,
    "invalid-mask": _invalid_mask, "undefined-shuffle": _undefined_shuffle, "invalid-launch": _invalid_launch, "invalid-free": _invalid_free,
    "memory-leak": _leak, "copy-direction": _copy_direction, "crash": _crash, "timeout": _timeout, "assert": _assert,
    "division-by-zero": _division, "unsupported": _unsupported, "device-only": _device_only}
