"""Hints and checks of stage 4, one module a lesson."""
