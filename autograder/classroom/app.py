"""The command nbgrader, as the grader calls it: `python -m autograder.classroom.app COMMAND …` starts three seconds sooner."""

from nbgrader.apps.nbgraderapp import main

if __name__ == "__main__":
    main()
