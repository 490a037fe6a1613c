"""Hints and checks of stage 3, one module a lesson; `_cuda` runs what learners write in CUDA C++."""
