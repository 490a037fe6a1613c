"""The process that holds an ONNX file with nodes of a plugin: these are put back into standard operators, so that it runs.

custom: which nodes there are. Then `build` and `run` of `onnx_inside.State`, on the file without them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner

from autograder.artifacts.onnx_inside import State
from autograder.sandbox.serve import Refused, limit, serve


class CustomState(State):
    def custom(self, function: np.ndarray, *, name: str):
        """function: a FunctionProto that says what the node computes.

        Answers: "attributes" of each such node, by name; "left", how many of the function's operators stand in the file beside
        them, by operator.
        """
        meaning = onnx.FunctionProto.FromString(function.tobytes())
        model = onnx.load_model_from_string(self.data)
        nodes = [node for node in model.graph.node if (node.domain, node.op_type) == (meaning.domain, meaning.name)]
        known = {*meaning.attribute, *(one.name for one in meaning.attribute_proto)}
        found = []
        for node in nodes:
            given = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            if strange := sorted(set(given) - known):
                raise Refused(
                    f"{name}: a node {meaning.name} has the attribute {strange[0]}.",
                    f"The plugin knows {', '.join(sorted(known))}.",
                    "Write the node with these only.",
                )
            found.append({key: value.decode() if isinstance(value, bytes) else value for key, value in given.items()})
        special = {node.op_type for node in meaning.node} - {"Mul", "Constant", "CastLike"}
        left = [node.op_type for node in model.graph.node if node.op_type in special]
        for node in nodes:  # what the plugin reads, and ONNX does not
            kept = [one for one in node.attribute if not one.name.startswith("plugin_")]
            del node.attribute[:]
            node.attribute.extend(kept)
        model.functions.append(meaning)
        try:
            self.data = onnx.inliner.inline_local_functions(model).SerializeToString()
        except Exception as error:
            raise Refused(
                f"{name} cannot be run.", " ".join(str(error).split())[:300], "Run onnx.checker on it."
            ) from error
        return {"attributes": found, "left": {kind: left.count(kind) for kind in left}}, []


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int, path: str) -> None:
    limit(memory_bytes, cpu_seconds)
    state = CustomState(Path(path).read_bytes())
    commands = {"inspect": state.inspect, "custom": state.custom, "build": state.build, "run": state.run}
    serve(commands, read_fd, write_fd, memory_bytes, "Look for a tensor that is far larger than the network needs.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), sys.argv[5])
