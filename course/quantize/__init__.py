"""INT8: calibrators, Q/DQ pairs and where they go, and what they cost in accuracy."""
