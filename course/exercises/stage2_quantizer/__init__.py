"""Hints and checks of stage 2, one module a lesson."""
