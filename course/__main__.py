"""`python -m course`: the same as the command `course`."""

from course import installed

installed.require()

from course.cli import main  # noqa: E402 - it needs the packages

main()
