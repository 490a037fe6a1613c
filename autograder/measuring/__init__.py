"""Measuring a milestone, and the report of it."""
