"""A class through nbgrader: collect, run in a sandbox, mark, export."""
