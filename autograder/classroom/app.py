"""The command nbgrader, as the grader calls it: `python -m autograder.classroom.app COMMAND …`.

It starts sooner than `python -m nbgrader`: this package (`autograder.classroom`) leaves out what takes long and is not used.
"""

from nbgrader.apps.nbgraderapp import main

if __name__ == "__main__":
    main()
