"""What ended the learner's code, or what the simulated GPU saw, as findings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from course.kernels.compiler import Notes
from course.kernels.explain import explained
from course.native.plugins.report import Finding
from course.native.plugins.session import Answers
from course.native.plugins.sources import Sources

_METHODS = {
    "creators": "getPluginCreators",
    "fields": "getFieldNames",
    "create": "createPlugin",
    "clone": "clone",
    "deserialize": "deserializePlugin",
    "destroy": "destroy",
    "identity": "getPluginType",
    "set_namespace": "setPluginNamespace",
    "output_type": "getOutputDataType",
    "shape": "getOutputDimensions",
    "formats": "supportsFormatCombination",
    "configure": "configurePlugin",
    "workspace": "getWorkspaceSize",
    "initialize": "initialize",
    "terminate": "terminate",
    "enqueue": "enqueue",
    "serialize": "serialize",
}
"""Step of the loader -> the method that it calls."""


def of_end(answers: Answers, steps: Sequence[Mapping], sources: Sources, notes: Notes) -> Finding | None:
    """Why the process did not come to its end; None if it did."""
    if answers.done:
        return None
    step = steps[answers.last]["do"] if answers.last >= 0 else ""
    method = answers.ended.get("method") or _METHODS.get(step, step)
    how = answers.ended.get("ended")
    if how == "exception":
        file, line = _place(answers.ended["places"], sources)
        what = f": {answers.ended['what']}" if answers.ended["what"] else ""
        kind = f"A {answers.ended['type']} was thrown" if answers.ended["type"] else "The code called terminate"
        return Finding("exception", method, f"{kind}, and left the method{what}", file, line, answers.ended)
    if how == "assert":
        where = Path(answers.ended["file"]).name, answers.ended["line"]
        return Finding("assert", method, f"the assertion {answers.ended['what']} failed", *where, answers.ended)
    if how == "memory":
        return _memory(answers.ended, method, sources)
    for found in answers.crash.get("findings", [])[-1:]:
        finding = explained(found, notes, 0, {})
        if finding.kernel:
            return Finding(
                "kernel", method, f"in kernel {finding.kernel}: {finding.message}", finding.file, finding.line
            )
        if finding.kind == "timeout":
            return Finding("timeout", method, "it did not come back in time")
        return Finding("crash", method, f"it crashed: {finding.message}")
    if answers.status is None:
        return Finding("timeout", method, "it did not come back in time")
    said = answers.printed.strip().splitlines()
    return Finding(
        "crash", method, f"the process ended with status {answers.status}. {said[-1] if said else ''}".strip()
    )


def of_kernel(found: Mapping, notes: Notes, sizes: Mapping[str, int]) -> Finding:
    """What the simulated GPU saw while enqueue ran."""
    finding = explained(found, notes, 0, sizes)
    where = f"in kernel {finding.kernel}: " if finding.kernel else ""
    kind, message = "kernel", f"{where}{finding.message}"
    if finding.buffer == "the workspace" and finding.kind == "out-of-bounds":
        kind = "workspace-overrun"
    elif finding.kind == "host-access":
        kind = "host-access"
    details = {**finding.details, "kernel_kind": finding.kind}
    if kind == "kernel":
        details["advice"] = finding.advice
    return Finding(kind, "enqueue", message, finding.file, finding.line, details)


def _memory(ended: Mapping, method: str, sources: Sources) -> Finding:
    """A report of AddressSanitizer."""
    report, memory = ended["report"], ended["memory"]
    title = re.search(r"AddressSanitizer: (attempting double-free|\S+)", report)
    name = title[1].removeprefix("attempting ") if title else "error"
    access = re.search(r"^(READ|WRITE) of size (\d+)", report, re.M)
    what = f"a {access[1].lower()} of {access[2]} bytes" if access else "an access"
    file, line = _place(re.findall(r"#\d+ 0x\w+ in .*? (\S+:\d+)(?::\d+)?$", report.split("\n\n")[0], re.M), sources)
    lent = f" {memory}" if memory else ""
    gone = "use-after" in name and "poison" not in name
    if (
        "double-free" in name
        or "bad-free" in name
        or "bad-malloc" in name
        or "mismatch" in name
        or "not-malloc" in name
    ):
        kind, message = "double-free", f"memory is given back that is not to be given back ({name})"
    elif "poison" in name:
        kind, message = "host-access", f"host code makes {what} in memory of the device"
    elif gone and method == "getFieldNames":
        kind, message = "fields-die", f"{what} in memory that is gone: the fields do not live as long as the creator"
    elif gone and memory:
        kind, message = "keeps-pointer", f"{what} in {memory}, which is gone since an earlier call came back"
    elif gone:
        kind, message = "use-after-free", f"{what} in memory that is gone ({name})"
    elif method == "serialize":
        kind, message = "serialize-overrun", f"{what} behind the bytes that getSerializationSize asked for"
    elif method == "deserializePlugin" and memory == "the serialised data":
        kind, message = "deserialize-overrun", f"{what} behind the serialised bytes"
    else:
        kind, message = "out-of-bounds", f"{what} outside{lent or ' its memory'} ({name})"
    return Finding(kind, method, message, file, line, dict(ended))


def _place(places: Sequence[str], sources: Sources) -> tuple[str, int]:
    """The first of a stack's places that lies in the learner's files. "function|file|line" or "file:line"."""
    own = {path.name for path in (sources.plugin, sources.kernels, *sources.headers)}
    for place in places:
        file, _, line = place.rpartition(":") if "|" not in place else (place.split("|")[1], "", place.split("|")[2])
        if Path(file).name in own and line.isdigit():
            return Path(file).name, int(line)
    return "", 0


def place_of(block: Mapping, sources: Sources) -> tuple[str, int]:
    """Where memory was taken."""
    return _place(block["places"], sources)
