"""The five ways of lesson 3.01 on a GPU, as `benchmarks.ways` recorded them."""

from __future__ import annotations

import json

from course.paths import RESULTS
from course.text import text_table

PLACES = tuple(RESULTS / card / "ways" / "summary.json" for card in ("h200", "h100"))


def ways() -> dict | None:
    """What summary.json holds, of the first card that was measured; None if none was."""
    return next((json.loads(path.read_text()) for path in PLACES if path.is_file()), None)


def show() -> dict | None:
    """Print the table for each batch size, and what the parser of that machine said about Col2Im; else that it is open."""
    found = ways()
    if found is None:
        print("Open: these ways have not been measured on a GPU yet (python -m benchmarks.ways).")
        return None
    print(f"TensorRT {found['tensorrt']}, FP16, {found['side']} x {found['side']} pixels, on a GPU:")
    for batch, rows in found["results"].items():
        lines = found["lines"]
        table = [
            (
                way,
                f"{row['p50_ms']:.3f}",
                f"{row['times'][0]:.2f} ({row['times'][1]:.2f} to {row['times'][2]:.2f})" if "times" in row else "1",
                f"{row['error']:.0e}",
                lines.get(way.split(",")[0], ""),
            )
            for way, row in rows.items()
        ]
        print(f"\nbatch {batch[1:]}")
        print(text_table(("", "ms", "times PyTorch", "largest error", "lines"), table))
    for line in found["messages"]["Col2Im"]:
        print(f"\nIts parser about Col2Im: {line}")
    return found
