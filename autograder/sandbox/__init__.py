"""Boxes for what is not trusted, and the way to talk to them."""
