"""A class through nbgrader: collect, run in a sandbox, mark, export."""

import sys

# jsonschema, which nbformat uses, would build the grammar of IRIs in each process, which takes seconds; no schema of notebooks
# has an IRI.
sys.modules.setdefault("rfc3987_syntax", None)
