"""Kinds of artifact: what may be handed in, how it is taken, and what opens it inside the box."""
