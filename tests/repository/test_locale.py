"""In a locale without UTF-8, what our own programs and tools print is read all the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from course.paths import ROOT

CODE = r"""
import sys
import autograder.selfcheck  # noqa: F401
from autograder.classroom import grade
from course.machine import look
from course.native import compile as cpp_build
from course.profiling import trtexec_command, trtexec_sample

said = "\u00d7 2, gr\u00f6\u00dfer"
python = lambda code: [sys.executable, "-c", code]
utf8 = lambda text: python(f"import sys; sys.stdout.buffer.write({text.encode()!r})")

assert look._run(utf8(said), 60).output == said
assert cpp_build.call(*utf8(said)) == said
log = trtexec_sample.log(seed=4, generation="10")
assert trtexec_command.run(utf8(log + said)).throughput > 0
selfcheck = sys.modules["autograder.selfcheck"]
quiet = selfcheck._run(python(f"print({ascii(said)})"))          # a child of ours in the same locale
assert quiet == [said], ascii(quiet)
assert grade.environment()["PYTHONIOENCODING"] == "utf-8"
print("all read")
"""


def test_output_is_read_as_utf8_in_the_c_locale():
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    plain.pop("PYTHONIOENCODING", None)
    done = subprocess.run([sys.executable, "-c", CODE], env=plain, cwd=ROOT, capture_output=True, timeout=120)
    assert done.stdout.endswith(b"all read\n"), done.stderr.decode(errors="replace")


def test_no_program_is_read_in_the_encoding_of_the_locale():
    found = [
        f"{path.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}"
        for folder in ("course", "autograder", "solutions")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in [path.read_text(encoding="utf-8")]
        for match in re.finditer(r"\b(text|universal_newlines)=True", text)
    ]
    assert not found, f'write encoding="utf-8", errors="replace" in {found}'
