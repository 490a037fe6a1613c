# %% [markdown]
# # A small lesson for tests of the grader
# Two practice tests, a written answer, and a milestone that hands in one file.

# %%
import numpy as np

# %% nbgrader={"grade_id": "fold", "solution": true}
def fold(matrices):
    """Product of all the matrices."""
    ### BEGIN SOLUTION
    out = matrices[0]
    for matrix in matrices[1:]:
        out = out @ matrix
    return out
    ### END SOLUTION

# %% nbgrader={"grade_id": "fold-test", "grade": true, "points": 4}
a, b = 2 * np.eye(3), np.ones((3, 3))
assert np.allclose(fold([a, b]), a @ b)
### BEGIN HIDDEN TESTS
assert np.allclose(fold([a, a, b]), 4 * b)
### END HIDDEN TESTS

# %% nbgrader={"grade_id": "partial-test", "grade": true, "points": 2}
sum(np.allclose(fold([a] * n), 2**n * np.eye(3)) for n in (2, 3)) * 1.0

# %% nbgrader={"grade_id": "build", "solution": true}
from pathlib import Path

Path("artifacts").mkdir(exist_ok=True)
### BEGIN SOLUTION
Path("artifacts/answer.bin").write_bytes(fold([a, a, b]).astype("float32").tobytes())
### END SOLUTION

# %% nbgrader={"grade_id": "m-box", "grade": true, "points": 20}
from autograder import selfcheck

selfcheck("box.m1")

# %% [markdown] nbgrader={"grade_id": "why", "grade": true, "solution": true, "points": 5}
# Why is folding legal here?
#
# ### BEGIN SOLUTION
# The matrix product is associative.
# ### END SOLUTION
