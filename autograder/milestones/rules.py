"""What a milestone's declaration must be like; checked when it is made, so a mistake stops the import."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields

from autograder.milestones import KINDS, LANES, TASKS, Detection, Milestone, Params, Ramp, Speed
from course.errors import CourseError

_ID = re.compile(r"[a-z0-9][a-z0-9.\-]{0,63}")


def validate(milestone: Milestone) -> None:
    """Raises:
    CourseError: the declaration is wrong; names the milestone, the place and what it must be.
    """
    name = f"Milestone {milestone.id!r}"

    def require(good: bool, cause: str, fix: str) -> None:
        if not good:
            raise CourseError(f"{name} is declared wrongly.", cause, fix)

    require(
        bool(_ID.fullmatch(milestone.id)),
        "Its id is not usable.",
        "Use 1 to 64 lower-case letters, digits, '.' or '-'.",
    )
    require(bool(milestone.artifacts), "It has no artifact.", "Name at least one file that is handed in.")
    for artifact in milestone.artifacts:
        parts = artifact.path.split("/")
        require(
            all(part not in ("", ".", "..") for part in parts),
            f"The artifact {artifact.path!r} is no plain path.",
            "Give a path below the notebook's folder, such as artifacts/model.onnx.",
        )
        require(
            artifact.kind == "onnx" and artifact.max_mb > 0,
            f"The artifact {artifact.path!r} cannot be opened.",
            'Its kind must be "onnx" and max_mb above 0.',
        )
    require(milestone.task in TASKS, f"Its task is {milestone.task!r}.", f"Known tasks: {', '.join(TASKS)}.")
    require(bool(milestone.checks), "It has no check.", "Declare at least one.")
    require(
        milestone.optimization_level in range(6),
        f"Its optimization_level is {milestone.optimization_level!r}.",
        "TensorRT knows 0 to 5.",
    )
    seen: set[str] = set()
    for check in milestone.checks:
        place = f"Check {check.id!r}"
        require(
            bool(_ID.fullmatch(check.id)),
            f"{place}: its id is not usable.",
            "Use 1 to 64 lower-case letters, digits, '.' or '-'.",
        )
        require(check.id not in seen, f"{place} is declared twice.", "Give each check its own id.")
        require(
            set(check.needs) <= seen,
            f"{place} needs {sorted(set(check.needs) - seen)}, not declared before it.",
            "Put the checks in the order in which they are measured.",
        )
        seen.add(check.id)
        require(
            math.isfinite(check.points) and check.points > 0,
            f"{place} gives {check.points} points.",
            "Points must be above 0.",
        )
        require(
            len(check.hints) == 3,
            f"{place} has {len(check.hints)} hints.",
            "Write three, each more direct than the one before.",
        )
        require(
            bool(check.lanes) and set(check.lanes) <= set(LANES),
            f"{place} has the lanes {sorted(check.lanes)}.",
            f"Known lanes: {', '.join(LANES)}.",
        )
        kinds = {type(params) for params in check.lanes.values()}
        require(
            len(kinds) == 1 and kinds <= set(KINDS),
            f"{place} is of {len(kinds)} kinds.",
            f"Use one of {', '.join(kind.__name__ for kind in KINDS)} for all its lanes.",
        )
        require(
            kinds <= TASKS[milestone.task],
            f"{place} is of a kind that cannot judge a {milestone.task}.",
            f"Use one of {', '.join(sorted(kind.__name__ for kind in TASKS[milestone.task]))}.",
        )
        for lane, params in check.lanes.items():
            require(
                not hasattr(params, "sizes") or bool(params.sizes) == (milestone.task == "detector"),
                f"{place}, lane {lane}: sizes={getattr(params, 'sizes', None)}.",
                "A detector is judged at one size or more; a classifier has its own.",
            )
            _validate_params(params, f"{place}, lane {lane}", require)


def _validate_params(params: Params, place: str, require) -> None:
    for entry in fields(params):
        value = getattr(params, entry.name)
        for ramp in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(ramp, Ramp):
                _validate_ramp(ramp, f"{place}: {entry.name}", require)
        if entry.name == "batches":
            require(
                bool(value) and all(isinstance(n, int) and n > 0 for n in value),
                f"{place}: batches={value}.",
                "Give whole numbers above 0.",
            )
    if isinstance(params, Speed) and not isinstance(params.ratio, Ramp):
        require(
            set(params.ratio) == set(params.batches),
            f"{place}: ramps for batch {sorted(params.ratio)}, timed at {sorted(params.batches)}.",
            "Give each timed batch size its ramp, or one ramp for all.",
        )
    if isinstance(params, Detection):
        require(
            params.batch > 0 and all(n > 0 and n % params.batch == 0 for n in (params.scenes, params.hidden_scenes)),
            f"{place}: {params.scenes} and {params.hidden_scenes} scenes in batches of {params.batch}.",
            "Scenes must fill whole batches, so that an engine needs no other batch size.",
        )
        require(
            0 < params.least_map < 1,
            f"{place}: least_map={params.least_map}.",
            "Between 0 and 1: a reference that finds nothing could lose nothing.",
        )


def _validate_ramp(ramp: Ramp, place: str, require) -> None:
    numbers = (ramp.zero, ramp.full, ramp.dead_band)
    require(
        all(map(math.isfinite, numbers)) and ramp.zero != ramp.full and ramp.dead_band >= 0,
        f"{place}={ramp} is no ramp.",
        "zero and full must differ, dead_band must be 0 or more, all of them finite.",
    )
    require(
        ramp.dead_band <= abs(ramp.full - ramp.zero),
        f"{place} has too wide a dead band.",
        "It must not exceed the ramp, or noise alone would earn all points.",
    )
