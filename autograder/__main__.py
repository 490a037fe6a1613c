"""`python -m autograder COMMAND`: each command lives in its own module, imported when it is called."""

from __future__ import annotations

import importlib
import sys

from course import installed

installed.require()

import typer  # noqa: E402 - only now is it clear that it is there

from course.errors import CourseError  # noqa: E402

COMMANDS = {
    "release": ("autograder.authoring.release", "Generate the stage folders from solutions/, or check them."),
    "measure": ("autograder.measuring.measure", "Measure one submission against a milestone."),
    "grade": ("autograder.classroom.grade", "Grade a class: run what was collected, measure the milestones."),
    "feedback": ("autograder.classroom.feedback", "Make the feedback pages of a class, those that changed."),
    "export": ("autograder.classroom.export", "Export the grades: CSV, Canvas, Gradescope."),
    "sandbox": ("autograder.sandbox.look", "Say what confines learners' code on this machine."),
    "milestones": ("autograder.milestones", "List the milestones, their checks and points."),
}
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def run(module: str, argv: list[str]) -> int:
    """Call `main(argv)` of a module; an error that names its way out is printed without a traceback."""
    try:
        return importlib.import_module(module).main(argv) or 0
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept: the same command goes on from there.", file=sys.stderr)
        return 130


def _add(name: str, module: str, text: str) -> None:
    options = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    @app.command(name, help=text, context_settings=options)
    def command(context: typer.Context) -> None:
        raise typer.Exit(run(module, context.args))


for _name, (_module, _text) in COMMANDS.items():
    _add(_name, _module, _text)

if __name__ == "__main__":
    app(prog_name="python -m autograder")
