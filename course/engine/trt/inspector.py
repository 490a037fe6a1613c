"""TensorRT's engine inspector: its JSON as layers. Tested on what 8.6 and 10 write."""

from __future__ import annotations

import json
import re

from course.engine.types import Layer, TensorInfo

ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_OTHER_PROFILE = re.compile(r" \[profile [1-9]\d*\]")
_DTYPE = re.compile(r"\b(FP32|FP16|BF16|FP8|FP4|E4M3|Float|Half|BFloat16|U?Int\d+|UINT8|INT\d+|Bool|BOOL)\b")
_DTYPES = {
    "fp32": "float32",
    "float": "float32",
    "fp16": "float16",
    "half": "float16",
    "bf16": "bfloat16",
    "fp8": "float8",
    "e4m3": "float8",
    "fp4": "float4",
}


def parse(text: str) -> tuple[Layer, ...]:
    """Layers of the first optimisation profile, from `EngineInspector.get_engine_information(JSON)`."""
    rows = json.loads(text, strict=False)["Layers"]  # 8.6 leaves raw control characters in its strings
    # Below verbosity DETAILED there are only names.
    layers = [Layer(row, "") if isinstance(row, str) else _layer(row) for row in rows]
    return tuple(layer for layer in layers if not _OTHER_PROFILE.search(layer.name))


def _layer(row: dict) -> Layer:
    nodes = tuple(dict.fromkeys(ONNX_LAYER.findall(row.get("Metadata", "")))) or _nodes_in_name(row["Name"])
    tactic = row.get("TacticName", "") or row.get("TacticValue", "")
    outputs = tuple(map(tensor, row.get("Outputs", ())))
    # 8.6 writes "N/A due to dynamic shapes" for every tensor of an engine with profiles, but it names the weights.
    weights = row.get("Weights")
    precision = dtype_name(str(weights.get("Type", ""))) if isinstance(weights, dict) else ""
    precision = precision or (outputs[0].dtype if outputs else "")
    return Layer(
        row["Name"],
        row.get("LayerType", ""),
        tuple(map(tensor, row.get("Inputs", ()))),
        outputs,
        nodes,
        tactic,
        precision,
    )


def tensor(row: dict) -> TensorInfo:
    """A tensor of the inspector. Versions write dtype and format as one text or as two."""
    words = row.get("Format/Datatype") or " ".join(filter(None, (row.get("Format"), row.get("Datatype"))))
    shape = tuple(row["Dimensions"]) if "Dimensions" in row else None
    return TensorInfo(row.get("Name", ""), dtype_name(words), shape, words)


def dtype_name(words: str) -> str:
    """The dtype in a description such as "Channel major FP16 format where channel % 8 == 0"; "" if none."""
    found = _DTYPE.findall(words)
    return _DTYPES.get(found[-1].lower(), found[-1].lower()) if found else ""


def _nodes_in_name(name: str) -> tuple[str, ...]:
    """The ONNX nodes in a fused layer's name, where no metadata lists them: "a + b", "PWN(a, b)"."""
    if name.startswith(("Reformatting CopyNode", "{ForeignNode", "__my")):
        return ()
    parts = re.split(r" \+ | \|\| |, ", re.sub(r"PWN\(|\)$", "", name))
    return tuple(dict.fromkeys(part.strip("() ") for part in parts if part.strip("() ")))
