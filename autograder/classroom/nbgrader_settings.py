"""nbgrader's configuration for this course. `nbgrader_config.py` calls `configure`; change settings there, below it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from traitlets.config import Config

from autograder.authoring.release import SOURCE, stage_names, student_editable
from autograder.milestones import Milestone, all_milestones
from course.update import read_manifest


def configure(c: Config, root: Path, milestones: Iterable[Milestone] | None = None) -> None:
    """Fill `c`. Everything that a class produces lies below `root/.grading`, which git ignores."""
    from nbconvert.preprocessors import ClearMetadataPreprocessor
    from nbgrader.preprocessors import (
        AssignLatePenalties,
        CheckCellMetadata,
        ClearOutput,
        DeduplicateIds,
        IgnorePattern,
        LimitOutput,
        OverwriteCells,
        OverwriteKernelspec,
        SaveAutoGrades,
    )

    from autograder.classroom.kernel import SandboxedExecute
    from autograder.classroom.late import PerDay
    from autograder.classroom.pages import SAFE_EXPORT, CleanOutputs, OnlyErrorsCount, guard_formgrader
    from autograder.classroom.preprocessors import FreshArtifacts, PendingMilestones, RestoreMaster, drop_links

    root = Path(root).resolve()
    c.CourseDirectory.course_id = "trt-course"
    c.CourseDirectory.root = str(root)
    c.CourseDirectory.source_directory = SOURCE
    for step in ("release", "submitted", "autograded", "feedback"):
        c.CourseDirectory[f"{step}_directory"] = f".grading/{step}"
    c.CourseDirectory.db_url = f"sqlite:///{root}/.grading/gradebook.db?timeout=120"  # several graders write at once
    c.Autograde.exclude_overwriting = {stage: list(_editable(root, stage)) for stage in stage_names(root)}
    c.Autograde.pre_convert_hook = drop_links
    c.Autograde.sanitize_preprocessors = [
        RestoreMaster,
        ClearOutput,
        DeduplicateIds,
        OverwriteKernelspec,
        OverwriteCells,
        CheckCellMetadata,
    ]
    c.Autograde.autograde_preprocessors = [
        FreshArtifacts,
        SandboxedExecute,
        IgnorePattern,
        ClearMetadataPreprocessor,
        LimitOutput,
        PendingMilestones,
        OnlyErrorsCount,
        SaveAutoGrades,
        AssignLatePenalties,
        CheckCellMetadata,
        CleanOutputs,
    ]
    c.HTMLExporter.update(SAFE_EXPORT)
    if "nbgrader.server_extensions.formgrader.handlers" in sys.modules:  # this is the server that shows submissions
        guard_formgrader()
    c.GenerateAssignment.preprocessors = release_steps()
    c.SandboxedExecute.timeout = 300
    c.AssignLatePenalties.plugin_class = PerDay
    c.RestoreMaster.source = str(root / SOURCE)
    artifacts: dict[str, list[str]] = {}
    cells: dict[str, list[str]] = {}
    for milestone in all_milestones() if milestones is None else milestones:
        place = f"{milestone.stage}/{milestone.notebook}"
        artifacts.setdefault(place, []).extend(artifact.path for artifact in milestone.artifacts if artifact.built)
        cells.setdefault(place, []).append(milestone.grade_id)
    c.FreshArtifacts.paths, c.PendingMilestones.cells = artifacts, cells


def release_steps() -> list[type]:
    """nbgrader's own steps of a release, with the stubs of `autograder.authoring`."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.preprocessors import ClearSolutions

    from autograder.authoring.clear import QuietStubs

    steps = GenerateAssignment.preprocessors.default()
    return [QuietStubs if step is ClearSolutions else step for step in steps]


def _editable(root: Path, stage: str) -> tuple[str, ...]:
    """Helper files that are the learners' to edit; from the released stage, which is quicker to read."""
    manifest = read_manifest(root / stage)
    return tuple(manifest["editable"]) if manifest and "editable" in manifest else student_editable(root, stage)
