"""Where the course keeps its files."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""The course's folder: a clone, in which `course` and `autograder` lie."""

ASSETS = ROOT / "course" / "assets"
"""Weights and images that ship with the course; listed with their hashes in `manifest.json`."""

RESULTS = ROOT / "docs" / "results"
"""What was measured and recorded on other machines. Lessons read it, so the grader shows it to submissions."""


def cache_dir() -> Path:
    """Folder for what can be made again: engines, timing caches, downloads. `COURSE_CACHE` moves it."""
    path = Path(os.environ.get("COURSE_CACHE") or Path.home() / ".cache" / "trt-course")
    path.mkdir(parents=True, exist_ok=True)
    return path


def reports_dir() -> Path:
    """Folder for reports, below the current folder."""
    return Path("reports")
