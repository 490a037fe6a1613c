"""The given function, which does the work forty times: an honest script is clearly faster, though both are sent as much."""

import numpy as np


def smooth(x):
    for _ in range(40):
        padded = np.pad(x.astype(np.float64), 1, mode="edge")
        answer = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return answer
