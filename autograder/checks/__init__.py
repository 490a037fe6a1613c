"""Kinds of check: one module a kind."""
