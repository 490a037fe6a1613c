"""Findings about a plugin: what, where, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

ADVICE = {
    # the creator
    "not-registered": "Write REGISTER_TENSORRT_PLUGIN(YourCreator); or export getPluginCreators (TensorRT 8) or getCreators "
    "(10 and 11).",
    "wrong-name": "getPluginName returns the name of the ONNX node's operator, letter by letter.",
    "wrong-version": "getPluginVersion returns the version that the node asks for; without an attribute plugin_version that "
    'is "1".',
    "wrong-namespace": "getPluginNamespace returns what setPluginNamespace got, or the namespace that the node asks for.",
    "fields-die": "Keep the collection, the fields and their names in members of the creator: TensorRT reads them later.",
    "field-missing": "Put every attribute, with its PluginFieldType, into what getFieldNames returns: the ONNX parser passes no "
    "others.",
    "no-plugin": "Return a new object; nullptr only if the attributes make no sense.",
    "fields-by-position": "Look for a field by its name: their order is the caller's.",
    "not-dynamic": "Derive the class from IPluginV2DynamicExt.",
    # the plugin's words
    "identity": "getPluginType and getPluginVersion return the creator's name and version: with them the engine finds the creator "
    "again.",
    "output-count": "getNbOutputs returns how many outputs the node has.",
    "namespace-lost": "Copy the text (std::string) in setPluginNamespace, and return it in getPluginNamespace.",
    # shapes and formats
    "output-rank": "Set nbDims and every d[i] of what getOutputDimensions returns.",
    "output-shape": "Build the side from the inputs' sides with exprBuilder.operation and exprBuilder.constant.",
    "unknown-side": "A side may be unknown (-1) when this is called: use exprBuilder.operation, and getConstantValue only behind "
    "isConstant().",
    "output-type": "getOutputDataType returns the type that supportsFormatCombination takes for this output.",
    "format-missing": "Return true for this combination, and let enqueue look at the types.",
    "format-looks-ahead": "Look at inOut[0] to inOut[pos] only: what lies behind pos is not filled in yet.",
    "format-too-wide": "Return true only for what enqueue can compute: check type and format (kLINEAR) of every position.",
    # running
    "wrong-output": "Compare the kernel with the reference on a small input.",
    "half-ignored": "In enqueue look at inputDesc[0].type and launch the kernel for __half.",
    "stale-shape": "Take the shape from inputDesc in enqueue: it changes from call to call.",
    "stream-ignored": "Pass enqueue's stream to every launch (<<<grid, block, bytes, stream>>>) and every Async call.",
    "enqueue-blocks": "Take memory from the workspace or in initialize, copy with the Async functions on enqueue's stream, and do "
    "not wait: TensorRT waits itself, and a CUDA graph cannot hold such a call.",
    "enqueue-status": "Return 0 if all went well.",
    "error-hidden": "Return what cudaGetLastError() says after the launch: 0 is success.",
    "initialize-status": "Return 0 if all went well.",
    "workspace-overrun": "getWorkspaceSize counts bytes, for the shapes that it gets; use no more in enqueue.",
    "kernel": "course.kernels.check shows it in the kernel alone.",
    "shared-state": "Keep what belongs to one plugin in members, not in static or global variables.",
    # the plan
    "serialize-short": "getSerializationSize and serialize count the same bytes: sizeof of each member that is written.",
    "serialize-overrun": "getSerializationSize and serialize count the same bytes: sizeof of each member that is written.",
    "deserialize-overrun": "Read what serialize wrote, in the same order and with the same types; compare the length first.",
    "deserialize-loses": "Write every attribute in serialize and read every one in the constructor from bytes, in the same order.",
    "clone-loses": "Copy every member: return new YourPlugin(*this), or pass each to the constructor.",
    "clone-namespace": "Call setPluginNamespace on the copy with the own namespace.",
    # memory and the rest
    "keeps-pointer": "Copy what you need: names, values, descriptions and bytes are the caller's, and are gone after the call.",
    "leak": "Give back in destroy (delete this), in terminate, or with a smart pointer what was taken.",
    "device-leak": "cudaFree in terminate what initialize took with cudaMalloc.",
    "double-free": "Only one may give it back: destroy deletes the plugin, a copied pointer must not be freed by both copies.",
    "use-after-free": "Something is used after delete, free or the end of its scope: copy it, or keep the owner alive.",
    "out-of-bounds": "Check the index against the number that the call got (nbInputs, nbOutputs, nbFields, length).",
    "host-access": "Host code cannot read memory of the device: do it in a kernel, or copy it.",
    "exception": "Catch it inside the method and return an error: these functions are noexcept, so it ends the process.",
    "assert": "An assert ends the process of whoever uses the plugin: return false, nullptr or a status instead.",
    "crash": "Check every pointer before it is used: attributes may be missing.",
    "timeout": "Look for a loop without an end.",
}
"""Kind of a finding -> what to do."""


@dataclass(frozen=True)
class Finding:
    """One breach of the contract.

    kind: a key of ADVICE. method: of the plugin or its creator. message: what was seen. file, line: of the learner's
    source, or "" and 0. details: what the examination saw.
    """

    kind: str
    method: str
    message: str
    file: str = ""
    line: int = 0
    details: dict = field(default_factory=dict, compare=False, repr=False)

    @property
    def advice(self) -> str:
        """What to do."""
        return self.details.get("advice") or ADVICE[self.kind]

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else ""
        method = f"{self.method}: " if self.method else ""
        return f"{where}{method}{self.message} [{self.kind}]\n    -> {self.advice}"


@dataclass(frozen=True)
class Report:
    """What the examination found.

    plugin: name and version. headers: what it was compiled with. combinations: types and formats that were run, in words.
    seconds: of the examination, without the compiler. finished: no part of it was cut off by a crash.
    """

    plugin: str
    findings: tuple[Finding, ...]
    headers: str = ""
    combinations: tuple[str, ...] = ()
    seconds: float = 0.0
    finished: bool = True
    printed: str = ""

    @property
    def ok(self) -> bool:
        """Nothing was found, and all was looked at."""
        return self.finished and not self.findings

    @property
    def kinds(self) -> set[str]:
        """Kinds of the findings."""
        return {finding.kind for finding in self.findings}

    def __str__(self) -> str:
        if self.ok:
            return f"{self.plugin}: nothing found ({len(self.combinations)} combinations of types and formats were run)"
        number = len(self.findings)
        lines = [f"{self.plugin}: {number} finding{'' if number == 1 else 's'}"]
        lines += [f"{index}. {finding}" for index, finding in enumerate(self.findings, 1)]
        if not self.finished:
            lines.append("It ended there, so not everything was looked at: repair this and examine it again.")
        return "\n".join(lines)


def once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each kind once for a method and a line: the first."""
    first: dict[tuple, Finding] = {}
    for finding in findings:
        first.setdefault((finding.kind, finding.method, finding.file, finding.line), finding)
    return tuple(first.values())
