"""nbgrader's settings for this course, read by every `nbgrader` command that runs in this folder, and by formgrader."""

import os
import sys

_ROOT = os.path.dirname(os.path.abspath(__file__)) if "__file__" in globals() else os.getcwd()
sys.path.insert(0, _ROOT)

from autograder.classroom.nbgrader_settings import configure  # noqa: E402

c = get_config()  # noqa: F821 - nbgrader defines it
configure(c, _ROOT)

# Change what your class needs; these are the values without a change:
# c.SandboxedExecute.timeout = 300        # seconds per cell
# c.SandboxedExecute.total_s = 1200       # seconds per notebook
# c.SandboxedExecute.mem_gb = 8           # GiB for a learner's kernel and all that it starts
# c.PerDay.share = 0.10                   # part of the score that each started day costs; 0 switches it off
# c.PerDay.most = 0.50                    # part of the score that lateness costs at most
