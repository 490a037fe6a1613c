"""A helper file without a region: the grader puts the instructor's one back."""

LIMIT = 3
