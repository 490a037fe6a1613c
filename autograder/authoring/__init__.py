"""From solutions/ to what learners and nbgrader get."""
