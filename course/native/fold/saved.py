"""What a plugin writes into a plan: read from the compiled class, on a CPU."""

from __future__ import annotations

from pathlib import Path

from course.errors import CourseError
from course.native.plugins import headers, session, sources
from course.native.plugins.compiler import compile_for_examination
from course.native.plugins.contract import encoded


def plan_bytes(folder: str | Path, **attributes: int) -> bytes:
    """The bytes that `serialize` of the plugin in this folder writes, made with these attributes.

    Raises:
        KernelError, BuildError: it does not compile.
        CourseError: it has no creator of CourseFold, or stopped before it had written.
    """
    compiled = compile_for_examination(sources.find(folder), headers.best(), tell=lambda line: None)
    steps = [
        {"do": "creators", "name": "CourseFold", "version": "1"},
        {"do": "create", "as": "a", "attributes": encoded(attributes)},
        {"do": "serialize", "of": "a"},
    ]
    answers = session.run(compiled, steps, session.Arrays())
    if not answers.done or not answers.steps[2]["plans"]:
        raise CourseError(
            "The plugin wrote nothing.",
            str(answers.ended or answers.printed)[-400:],
            "Examine it: plugin.examine(folder, …).",
        )
    return bytes.fromhex(answers.steps[2]["plans"][0])
