"""Hints and checks of stage 4, one module a lesson; `_triton` serves what learners write with the real Triton."""
