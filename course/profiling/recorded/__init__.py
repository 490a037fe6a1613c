"""Excerpts of real runs of trtexec 8.6.0 on an NVIDIA H200, November 2026; nothing in them is invented.

| file | condition | what |
| --- | --- | --- |
| fp16_b8_load, fp16_b8_nodata, fp16_b8_graph (.log) | A | ResNet-50, FP16, batch 8, from a plan: plain, --noDataTransfers, --useCudaGraph |
| mlp_b1_nodata, mlp_b1_nodata_graph (.log) | B | an MLP of three layers, batch 1, --noDataTransfers, without and with --useCudaGraph |
| mlp_b65536 (.log) | B | the same MLP at batch 65536 |
| fp16_b8.times.json | A | --exportTimes of fp16_b8_load: its first 60 queries |
| fp16_b8_tactics.log | A | the lines about tactics of three convolutions in the --verbose build |

A: the process had the card to itself. B: other builds ran on the card, so that times vary. Of the logs the command, the
number of queries and the summary are kept. trtexec was compiled from NVIDIA/TensorRT v8.6.0 (samples/trtexec).
"""

from __future__ import annotations

from pathlib import Path

RUNS = ("fp16_b8_load", "fp16_b8_nodata", "fp16_b8_graph", "mlp_b1_nodata", "mlp_b1_nodata_graph", "mlp_b65536")
"""The recorded runs with a summary."""


def text(name: str) -> str:
    """The text of a recording, such as "fp16_b8_load.log"."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
