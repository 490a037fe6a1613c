"""Programs for Triton's Python backend. They are copied into model repositories and run there, never imported here."""
