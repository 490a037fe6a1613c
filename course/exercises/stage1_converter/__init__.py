"""Hints and checks of stage 1, one module a lesson."""
