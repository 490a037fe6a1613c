"""The given function, which does the work twelve times: an honest script that does it once is clearly faster."""

import numpy as np


def smooth(x):
    for _ in range(12):
        padded = np.pad(x.astype(np.float64), 1, mode="edge")
        answer = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return answer
