"""Drives a compiled plugin, step by step. A process of its own, with Python's standard library only.

    python -I -S inside.py FOLDER DATA_FD REPLY_FD CRASH_FD < program.json

FOLDER holds kernels.so (the kernels and the simulated GPU) and plugin.so (the learner's class and the host around it). The
program is a list of steps, {"do": name, ...}; each function below is one. Inputs lie in the file DATA_FD, outputs are put
there. A line {"step": number} goes to REPLY_FD before each step and {"answer": ...} behind it, so that who reads them knows
where the learner's code stopped. When that code ends the process, the host writes why, as {"ended": ...}; when a kernel
does, the simulated GPU writes a report to CRASH_FD.
"""

import ctypes
import json
import mmap
import os
import resource
import sys

POINTER, NUMBER, TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p


class Tensor(ctypes.Structure):
    """struct Tensor of host/host.h."""

    _fields_ = [("rank", NUMBER), ("type", NUMBER), ("format", NUMBER), ("scale", ctypes.c_float)] + [
        ("dims", ctypes.c_int64 * 8)
    ]


class Range(ctypes.Structure):
    """struct Range of host/host.h."""

    _fields_ = [("tensor", Tensor), *((name, ctypes.c_int64 * 8) for name in ("min", "opt", "max"))]


class Attribute(ctypes.Structure):
    """struct Attribute of host/host.h."""

    _fields_ = [("name", TEXT), ("type", NUMBER), ("length", NUMBER), ("data", POINTER), ("bytes", ctypes.c_uint64)]


class Driver:
    """The two libraries, and the plugins that the steps have made, by the name that the program gives them."""

    def __init__(self, folder: str, data: int, reply: int, crash: int, program: dict):
        self.memory = mmap.mmap(data, 0)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.reply = reply
        self.gpu = ctypes.CDLL(os.path.join(folder, "kernels.so"), ctypes.RTLD_GLOBAL)
        self.gpu.cucpu_begin.argtypes = [ctypes.c_uint, ctypes.c_double, ctypes.c_size_t, NUMBER, NUMBER]
        self.gpu.cucpu_buffer.argtypes = [TEXT, ctypes.c_size_t, POINTER, NUMBER]
        self.gpu.cucpu_buffer.restype = POINTER
        self.gpu.cucpu_begin(program["order"], program["seconds"], program["shared_bytes"], crash, 0xFF)
        for name in ("cucpu_report", "cucpu_findings", "cucpu_calls"):
            getattr(self.gpu, name).restype = TEXT
        self.host = ctypes.CDLL(os.path.join(folder, "plugin.so"), ctypes.RTLD_GLOBAL)
        for name in ("creators", "fields", "identity", "shape", "kept"):
            getattr(self.host, f"plug_{name}").restype = TEXT
        for name in ("create", "deserialize", "clone", "stream"):
            getattr(self.host, f"plug_{name}").restype = POINTER
        for name in ("workspace", "serialization_size"):
            getattr(self.host, f"plug_{name}").restype = ctypes.c_uint64
        self.host.plug_reply_to(reply)
        self.host.plug_watch()
        self.stream = POINTER(self.host.plug_stream())
        self.plugins, self.workspaces, self.plans = {}, {}, {}
        self.creator, self.findings, self.mark = None, 0, 0

    # ---------------------------------------------------------------- the creator
    def creators(self, step: dict) -> dict:
        """Those of the registry and of the entry point; the one with the program's name is kept for later steps."""
        answer = json.loads(self.host.plug_creators(POINTER(self.host._handle)))
        named = [one for one in answer["creators"] if one["generation"] == 2 and one["name"] == step["name"]]
        exact = [one for one in named if one["version"] == step["version"]]
        chosen = (exact or named or [one for one in answer["creators"] if one["generation"] == 2] or [None])[0]
        self.creator = chosen and POINTER(chosen["v2"])
        return {**answer, "chosen": chosen}

    def fields(self, step: dict) -> list:
        """What getFieldNames says, asked twice."""
        return json.loads(self.host.plug_fields(self.creator))

    # ---------------------------------------------------------------- beginnings and ends
    def create(self, step: dict) -> bool:
        """From attributes; false if the creator gives no plugin."""
        items = (Attribute * max(1, len(step["attributes"])))()
        values = []
        for item, one in zip(items, step["attributes"]):
            value = bytes.fromhex(one["data"])
            values.append(ctypes.create_string_buffer(value, len(value)))
            item.name, item.type, item.length = one["name"].encode(), one["type"], one["length"]
            item.data, item.bytes = ctypes.cast(values[-1], POINTER), len(value)
        made = self.host.plug_create(self.creator, b"layer", items, len(step["attributes"]))
        return self._keep(step["as"], made)

    def clone(self, step: dict) -> bool:
        """Of a plugin; false if there is none."""
        return self._keep(step["as"], self.host.plug_clone(self.plugins[step["of"]]))

    def deserialize(self, step: dict) -> bool:
        """From the plan that `serialize` made of a plugin; false if there is none."""
        plan = self.plans[step["of"]]
        made = self.host.plug_deserialize(self.creator, b"layer", plan, ctypes.c_uint64(len(plan)))
        return self._keep(step["as"], made)

    def destroy(self, step: dict) -> None:
        """It, for good."""
        self.host.plug_destroy(self.plugins.pop(step["of"]))

    def _keep(self, name: str, made: int) -> bool:
        if made:
            self.plugins[name] = POINTER(made)
        return bool(made)

    # ---------------------------------------------------------------- questions
    def identity(self, step: dict) -> dict:
        """Type, version, namespace, number of outputs, and whether it is an IPluginV2DynamicExt."""
        plugin = self.plugins[step["of"]]
        return {**json.loads(self.host.plug_identity(plugin)), "dynamic": bool(self.host.plug_is_dynamic(plugin))}

    def set_namespace(self, step: dict) -> None:
        """As the registry does."""
        self.host.plug_set_namespace(self.plugins[step["of"]], step["namespace"].encode())

    def output_type(self, step: dict) -> list:
        """Of each output, for the input types."""
        types = (NUMBER * len(step["types"]))(*step["types"])
        plugin = self.plugins[step["of"]]
        return [self.host.plug_output_type(plugin, index, types, len(types)) for index in range(step["outputs"])]

    def shape(self, step: dict) -> list:
        """Of each output, as expressions."""
        inputs, plugin = self._tensors(step["inputs"]), self.plugins[step["of"]]
        return [
            json.loads(self.host.plug_shape(plugin, index, inputs, len(step["inputs"])))
            for index in range(step["outputs"])
        ]

    def formats(self, step: dict) -> dict:
        """Every combination, position by position, as the builder asks: what lies behind the position is not settled yet,
        so it is filled in two ways, and the answer must be the same."""
        plugin, inputs, tensors = self.plugins[step["of"]], step["inputs"], step["tensors"]
        accepted, ahead, count = [], [], 0
        open_ = [[]]
        while open_:
            chosen = open_.pop()
            position = len(chosen)
            if position == len(tensors):
                accepted.append(chosen)
                continue
            for kind, layout in step["asked"][position]:
                answers = []
                for later in ((0, 0), (3, 5)):
                    row = [*chosen, (kind, layout), *[later] * (len(tensors) - position - 1)]
                    filled = [{**one, "type": k, "format": f} for one, (k, f) in zip(tensors, row)]
                    given = self._tensors(filled)
                    answers.append(
                        bool(self.host.plug_supports(plugin, position, given, inputs, len(tensors) - inputs))
                    )
                    count += 1
                if answers[0] != answers[1] and position not in ahead:
                    ahead.append(position)
                if any(answers) and len(accepted) + len(open_) < step["most"]:
                    open_.append([*chosen, (kind, layout)])
        return {"accepted": accepted, "ahead": ahead, "asked": count}

    def configure(self, step: dict) -> None:
        """With tensors, least, best and largest shapes."""
        ranges = [self._ranges(step[side]) for side in ("inputs", "outputs")]
        self.host.plug_configure(
            self.plugins[step["of"]], ranges[0], len(step["inputs"]), ranges[1], len(step["outputs"])
        )

    def workspace(self, step: dict) -> int:
        """Bytes; `enqueue` gets as many."""
        bytes_ = self.host.plug_workspace(
            self.plugins[step["of"]],
            self._tensors(step["inputs"]),
            len(step["inputs"]),
            self._tensors(step["outputs"]),
            len(step["outputs"]),
        )
        self.workspaces[step["of"]] = bytes_
        return bytes_

    # ---------------------------------------------------------------- running
    def initialize(self, step: dict) -> int:
        """And attachToContext."""
        status = self.host.plug_initialize(self.plugins[step["of"]])
        self.host.plug_attach(self.plugins[step["of"]])
        return status

    def terminate(self, step: dict) -> None:
        """And detachFromContext."""
        self.host.plug_detach(self.plugins[step["of"]])
        self.host.plug_terminate(self.plugins[step["of"]])

    def enqueue(self, step: dict) -> dict:
        """On fresh memory; the outputs go to the data file."""
        inputs = [self._buffer(f"input {i}", one, 1) for i, one in enumerate(step["inputs"])]
        outputs = [self._buffer(f"output {i}", one, 2 | 4) for i, one in enumerate(step["outputs"])]
        bytes_ = self.workspaces.get(step["of"], 0)
        workspace = POINTER(self.gpu.cucpu_buffer(b"the workspace", bytes_, None, 2)) if bytes_ else None
        status = NUMBER(-1)
        self.gpu.cucpu_note_calls()
        self.gpu.cucpu_fail_launches(int(step.get("failing", False)))
        came_back = self.host.plug_enqueue(
            self.plugins[step["of"]],
            self._tensors([one["tensor"] for one in step["inputs"]]),
            len(inputs),
            self._tensors([one["tensor"] for one in step["outputs"]]),
            len(outputs),
            (POINTER * len(inputs))(*inputs),
            (POINTER * len(outputs))(*outputs),
            workspace,
            self.stream,
            ctypes.byref(status),
        )
        self.gpu.cucpu_fail_launches(0)
        calls = json.loads(self.gpu.cucpu_calls())
        found = json.loads(self.gpu.cucpu_findings())
        new, self.findings = found[self.findings :], len(found)
        for one, address in zip(step["outputs"], outputs):
            ctypes.memmove(self.base + one["offset"], address, one["bytes"])
        return {
            "status": status.value,
            "came_back": bool(came_back),
            "stream": self.stream.value,
            "calls": calls,
            "findings": new,
        }

    def _buffer(self, name: str, one: dict, flags: int) -> int:
        values = POINTER(self.base + one["offset"]) if flags & 1 else None
        return self.gpu.cucpu_buffer(name.encode(), one["bytes"], values, flags)

    # ---------------------------------------------------------------- the plan
    def serialize(self, step: dict) -> dict:
        """Twice, into memory filled with two different bytes; the first is kept for `deserialize`."""
        plugin = self.plugins[step["of"]]
        size = self.host.plug_serialization_size(plugin)
        if size > 64 << 20:
            return {"size": size, "plans": []}
        plans = []
        for filling in (0xAA, 0x55):
            plan = ctypes.create_string_buffer(max(1, size))
            self.host.plug_serialize(plugin, plan, ctypes.c_uint64(size), filling)
            plans.append(plan.raw[:size])
        self.plans[step["of"]] = plans[0]
        return {"size": size, "plans": [plan.hex() for plan in plans]}

    # ---------------------------------------------------------------- memory
    def note(self, step: dict) -> None:
        """From here on memory that stays counts."""
        self.mark = self.host.plug_mark()

    def kept(self, step: dict) -> dict:
        """Memory that the learner's code took since `note` and still holds, and the simulated GPU's report."""
        return {"host": json.loads(self.host.plug_kept(self.mark)), "gpu": json.loads(self.gpu.cucpu_report())}

    # ---------------------------------------------------------------- as C++ has it
    @staticmethod
    def _tensor(one: dict) -> Tensor:
        return Tensor(len(one["dims"]), one["type"], one["format"], one["scale"], (ctypes.c_int64 * 8)(*one["dims"]))

    def _tensors(self, many: list) -> ctypes.Array:
        return (Tensor * max(1, len(many)))(*(self._tensor(one) for one in many))

    def _ranges(self, many: list) -> ctypes.Array:
        sides = [[(ctypes.c_int64 * 8)(*one[name]) for name in ("min", "opt", "max")] for one in many]
        return (Range * max(1, len(many)))(*(Range(self._tensor(one), *side) for one, side in zip(many, sides)))


def main() -> None:
    folder, data, reply, crash = sys.argv[1], *map(int, sys.argv[2:5])
    program = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))  # of what the learner's code prints
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    driver = Driver(folder, data, reply, crash, program)
    for number, step in enumerate(program["steps"]):
        if step.get("of") is not None and step["of"] not in driver.plugins and step["do"] != "deserialize":
            continue  # there is no such plugin: the step that should have made it has said so
        if step["do"] == "deserialize" and step["of"] not in driver.plans:
            continue
        say(reply, {"step": number})
        say(reply, {"answer": getattr(driver, step["do"])(step)})
        if step["do"] == "creators" and driver.creator is None:
            break
    ctypes.CDLL(None).fflush(None)
    say(reply, {"done": True})
    os._exit(0)  # destructors of the learner's file could hang


def say(reply: int, message: dict) -> None:
    """One line."""
    text = json.dumps(message).encode() + b"\n"
    while text:
        text = text[os.write(reply, text) :]


if __name__ == "__main__":
    main()
