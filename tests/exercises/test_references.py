"""What `solved` falls back to is right: the course's own CUDA kernels, which repeat those of the solutions."""

from __future__ import annotations

import pytest

from course import exercises
from course.exercises.stage3_plugins import cuda_kernels_1, cuda_kernels_2  # noqa: F401 - they declare the exercises

KERNELS = ("kernel-first", "kernel-stride", "kernel-wide", "kernel-softmax", "kernel-layernorm")


@pytest.mark.parametrize("identity", KERNELS)
def test_a_reference_earns_all_points_of_its_own_judge(identity):
    found = exercises.find(identity)
    (name,) = found.names
    share, words = exercises._judge(found, {name: exercises._references[identity]()})
    assert share == 1, words


def test_the_racy_softmax_of_the_lesson_lacks_a_barrier():
    assert cuda_kernels_2.racy_softmax().count("__syncthreads") == cuda_kernels_2._softmax().count("__syncthreads") - 1
