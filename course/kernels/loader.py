"""Runs a launcher of a compiled .cu file. A process of its own, with Python's standard library only.

    python -I -S loader.py LIBRARY DATA_FD REPLY_FD TRACE_FD ENDED_FD < requests

A request comes by `marshal`: the `json` of Python takes longer to import than a kernel to run. For each one this process
forks, which takes no time beside the start of a Python; the fork opens the library, calls the function, and ends. Its exit
status is a line to ENDED_FD. Where that is -1, as in a sandbox that lets nobody fork, this process itself does what the
first one asks, and ends. The request names the function and its arguments; arrays lie in the file DATA_FD, where the outputs
are put as well. The reply is JSON. When the kernel crashes or its time is up, the library itself writes what it knows to
REPLY_FD. `process.py` is the other side and describes both messages.
"""

import ctypes
import marshal
import mmap
import os
import resource
import struct
import sys

INTEGERS = {
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
}
FLOATS = {"float32": "f", "float64": "d"}
STAND_INS = {("float16", "uint16"), ("bfloat16", "uint16"), ("bool", "uint8")}  # (what the kernel says, what NumPy has)


class Misuse(Exception):
    """The call does not fit the function: what, cause, next step."""


def main() -> None:
    library_path, *files, ended_fd = sys.argv[1], *map(int, sys.argv[2:6])
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))  # of what kernels print
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            request = marshal.load(sys.stdin.buffer)
        except EOFError:
            return
        if ended_fd < 0:
            call(library_path, request, *files)
            os._exit(0)  # destructors of the learner's file could hang
        if not (child := os.fork()):
            os.close(ended_fd)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            try:
                call(library_path, request, *files)
            except BaseException:
                import traceback  # only here: it takes as long as all the rest

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(ended_fd, b"%d\n" % status)


def call(library_path: str, request: dict, data_fd: int, reply_fd: int, trace_fd: int) -> None:
    """Open the library and do what is asked."""
    data = mmap.mmap(data_fd, 0)
    base = ctypes.addressof(ctypes.c_char.from_buffer(data))
    library = ctypes.CDLL(library_path)
    for name in ("cucpu_exports", "cucpu_report"):
        getattr(library, name).restype = ctypes.c_char_p
    library.cucpu_buffer.restype = ctypes.c_void_p
    library.cucpu_buffer.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int]
    library.cucpu_begin.argtypes = [ctypes.c_uint, ctypes.c_double, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
    try:
        exports = [line.split("\t") for line in library.cucpu_exports().decode().splitlines()]
        known = [dict(zip(("name", "parameters", "types"), words)) for words in exports]
        function = chosen(known, request["function"])
        types = function["types"].split(",") if function["types"] else []
        names = function["parameters"].split(",") if types else []
        if len(types) != len(request["arguments"]):
            raise Misuse(
                f"{function['name']} takes {len(types)} arguments, not {len(request['arguments'])}.",
                f"Its parameters are {signature(names, types)}.",
                "Give one argument for each parameter, in this order.",
            )
        library.cucpu_begin(
            request["order"], request["seconds"], request["shared_bytes"], reply_fd, request["undefined"]
        )
        slots, buffers = (ctypes.c_uint64 * max(1, len(types)))(), []
        for index, (argument, kind) in enumerate(zip(request["arguments"], types)):
            where = f"{function['name']}'s parameter {names[index] or index + 1}"
            if argument["kind"] == "array":
                fits(argument, kind, where)
                name = names[index] or f"argument {index + 1}"
                values = base + argument["offset"] if argument["flags"] & 1 else None
                address = library.cucpu_buffer(name.encode(), argument["bytes"], values, argument["flags"])
                if not address:
                    raise Misuse(
                        f"{where}: {argument['bytes']} bytes do not fit.", "The simulated GPU has 64 GB.", "Use less."
                    )
                slots[index] = address
                buffers.append((address, argument))
            else:
                slots[index] = scalar(argument, kind, where)
    except Misuse as error:
        import json

        answer(reply_fd, json.dumps({"misuse": list(error.args)}).encode())
        return
    if request["trace"]:
        library.cucpu_trace(ctypes.c_uint64(request["trace"]), trace_fd)
    result, nanoseconds, times, ended = ctypes.c_int64(), ctypes.c_uint64(), [], 0
    for _ in range(request["repeats"]):
        ended = library.cucpu_call(
            function["name"].encode(), request["variant"], slots, ctypes.byref(result), ctypes.byref(nanoseconds)
        )
        if ended:
            break
        times.append(nanoseconds.value)
    for address, argument in buffers:
        if argument["flags"] & 2:
            ctypes.memmove(base + argument["offset"], address, argument["bytes"])
    ctypes.CDLL(None).fflush(None)
    facts = b', "result": %d, "nanoseconds": [%s]}' % (result.value, ", ".join(map(str, times)).encode())
    answer(reply_fd, b'{"report": ' + library.cucpu_report() + facts)


def chosen(exports: list, name: str) -> dict:
    """The function of this name."""
    for function in exports:
        if function["name"] == name:
            return function
    known = ", ".join(function["name"] for function in exports) or "none"
    raise Misuse(
        f"There is no launcher {name}.",
        f'The file\'s extern "C" functions with a body are: {known}.',
        'Write it as extern "C" in the .cu file, and check the spelling.',
    )


def signature(names: list, types: list) -> str:
    """The parameters as C++ would write them, about."""
    return "(" + ", ".join(f"{kind} {name}".strip() for kind, name in zip(types, names)) + ")"


def fits(argument: dict, kind: str, where: str) -> None:
    """Whether an array may stand for this parameter."""
    if not kind.endswith("*"):
        raise Misuse(f"{where} is {kind}, and an array was given.", "An array stands for a pointer.", "Give a number.")
    pointee, dtype = kind[:-1].replace(" const", ""), argument["dtype"]
    known = pointee in INTEGERS or pointee in FLOATS or pointee in ("float16", "bfloat16", "bool")
    if known and pointee != dtype and (pointee, dtype) not in STAND_INS:
        raise Misuse(
            f"{where} points to {pointee}, and the array is {dtype}.",
            "The kernel would read other numbers than you gave.",
            f"Give an array of {pointee}" + (" as uint16 bits." if pointee == "bfloat16" else "."),
        )


def scalar(argument: dict, kind: str, where: str) -> int:
    """The 8 bytes for a number or a null pointer."""
    value = argument["value"]
    if value is None:
        if kind.endswith("*") or kind == "stream":
            return 0
        raise Misuse(
            f"{where} is {kind}, and None was given.",
            "None stands for a null pointer and for the default stream.",
            "Give a number.",
        )
    if kind in FLOATS:
        return int.from_bytes(struct.pack("<" + FLOATS[kind], value), "little")
    if kind in INTEGERS or kind == "bool":
        letter = INTEGERS.get(kind, "B")
        if isinstance(value, float):
            raise Misuse(
                f"{where} is {kind}, and {value} was given.", "C++ would cut off the fraction.", "Give a whole number."
            )
        try:
            return int.from_bytes(struct.pack("<" + letter, value), "little")
        except struct.error:
            raise Misuse(
                f"{where} is {kind}, and {value} is out of its range.",
                "C++ would keep the lowest bits only.",
                "Give a number in its range.",
            ) from None
    raise Misuse(
        f"{where} is {kind}, and a number was given.",
        "A pointer needs an array; a struct cannot be passed.",
        "Give an array or None, or let the launcher take the struct's members.",
    )


def answer(reply_fd: int, text: bytes) -> None:
    """Write the reply, which is JSON."""
    os.lseek(reply_fd, 0, os.SEEK_SET)
    while text:
        text = text[os.write(reply_fd, text) :]


if __name__ == "__main__":
    main()
