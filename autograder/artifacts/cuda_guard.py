"""A plugin's sources, judged as text before a compiler sees them: what no kernel needs, and what would hide from the checker.

None of it makes the boxes unnecessary; it gives who tries it a message that names the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from autograder.sandbox.serve import Refused
from course.kernels.tokens import Token, cut

HEADERS = frozenset(
    """
    cuda_runtime.h cuda_runtime_api.h cuda_fp16.h cuda_bf16.h math_constants.h vector_types.h device_launch_parameters.h
    NvInfer.h NvInferRuntime.h NvInferRuntimePlugin.h NvInferRuntimeCommon.h NvInferPlugin.h NvInferVersion.h
    algorithm array cassert cfloat climits cmath cstddef cstdint cstdio cstdlib cstring exception functional initializer_list
    iterator limits map memory new numeric optional sstream stdexcept string string_view tuple type_traits unordered_map utility
    variant vector
    assert.h float.h limits.h math.h stddef.h stdint.h stdio.h stdlib.h string.h
    """.split()
)
"""What may be included with <>. Files, processes, threads and signals are not among them."""

_WORDS = {
    **dict.fromkeys(("asm", "__asm", "__asm__"), "Assembly goes past the checker."),
    **dict.fromkeys(
        ("__attribute__", "__attribute", "__declspec"),
        "An attribute can run code while the library is loaded, or keep the checker from a function.",
    ),
    **dict.fromkeys(
        ("__SANITIZE_ADDRESS__", "__SANITIZE_THREAD__", "COURSE_TENSORRT", "__CUDA_ARCH__", "__has_include"),
        "Code that asks where it runs is not the code that is used elsewhere.",
    ),
}
"""Words that are not taken, and why."""
_CALLS = {
    **dict.fromkeys(
        """system popen fork vfork posix_spawn posix_spawnp exit _exit _Exit quick_exit abort atexit sigaction setitimer alarm execl execlp execle execv execve execvp""".split(),
        "A plugin neither starts nor ends a process.",
    ),
    **dict.fromkeys(
        "fopen freopen openat creat opendir socket tmpfile getenv setenv readlink".split(),
        "A plugin reads nothing but its inputs, and writes nothing but its outputs.",
    ),
    **dict.fromkeys(
        """dlopen dlsym dlmopen syscall ptrace mmap mremap mprotect memfd_create shm_open setjmp longjmp sigsetjmp siglongjmp
        pthread_create process_vm_readv""".split(),
        "A plugin has no use for it.",
    ),
}
"""Functions that are not called, and why."""
_OURS = re.compile(r"^(?:cucpu|plug_|__tsan|__asan|__sanitizer|__interceptor|_dl_|__libc)", re.I)
_PRAGMAS = re.compile(r"once|(?:unroll|nounroll)\b[\s\w()]*")
_TEXT = re.compile(
    r"""//[^\n]*|/\*.*?\*/|(?P<kept>R"(?P<mark>[^()\s\\"]{0,16})\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])+')""",
    re.S,
)
_INCLUDE = re.compile(r'(?:<(?P<system>[^>]*)>|"(?P<own>[^"]*)")\s*')


def refuse(sources: Mapping[str, str]) -> None:
    """Look at all files. sources: name -> text.

    Raises:
        Refused: names the file, the line and what is not taken there.
    """
    for name, text in sources.items():
        plain = _without_comments(_joined(text))
        for number, line in enumerate(plain.splitlines(), 1):
            if directive := re.match(r"\s*(?:#|%:)\s*(\w*)\s*(.*)", line):
                _directive(name, number, directive[1], directive[2].strip(), sources)
        code = "\n".join("" if re.match(r"\s*(?:#|%:)", line) else line for line in plain.splitlines()) + "\n"
        for token, following in _pairs(cut(f'# 1 "{name}"\n{code}', lambda *_: False)):
            _word(name, token.line, token.text, token.kind, following.text)


def _directive(name: str, number: int, kind: str, rest: str, sources: Mapping[str, str]) -> None:
    place = f"{name}:{number}: "
    if kind == "include":
        found = _INCLUDE.fullmatch(rest)
        if not found:
            raise Refused(
                f"{place}#include {rest[:60]} names no file.", "A macro may hide any path.", "Name the header itself."
            )
        own, system = found["own"], found["system"]
        if system is not None and system not in HEADERS or own is not None and own not in {*sources, *HEADERS}:
            raise Refused(
                f"{place}#include of {(own or system or '')[:80]!r} is not taken.",
                "Only your own files beside it, and headers of C++, CUDA and TensorRT that a plugin needs, can be included: "
                "none for files, processes or threads, and no other path.",
                f"Leave it out. Your own files here: {', '.join(sorted(sources))}.",
            )
    elif kind == "pragma":
        if not _PRAGMAS.fullmatch(rest):
            raise Refused(
                f"{place}#pragma {rest[:60]} is not taken.",
                "It can change how the file is compiled, and so what the checker sees.",
                "`#pragma once` and `#pragma unroll` are.",
            )
    elif kind in ("define", "undef"):
        if "##" in rest or "%:%:" in rest:
            raise Refused(
                f"{place}## is not taken.", "Names that are pasted together can hide any other.", "Write the name out."
            )
        defined = re.match(r"\w*", rest)[0]
        if defined.startswith("__") or _OURS.match(defined) or defined in _RESERVED:
            raise Refused(
                f"{place}the macro {defined} is not taken.",
                "It would change CUDA's words, or the checker's.",
                "Give it a name of your own, without underscores in front.",
            )
        for token, following in _pairs(cut(f'# 1 "{name}"\n{rest[len(defined) :]}\n', lambda *_: False)):
            _word(name, number, token.text, token.kind, following.text)
    elif kind in ("line", "embed", "include_next", "import"):
        raise Refused(f"{place}#{kind} is not taken.", "A plugin does not need it.", "Leave it out.")
    elif kind in ("if", "ifdef", "ifndef", "elif"):
        for word in re.findall(r"\w+", rest):
            _word(name, number, word, "name", "")


def _word(name: str, line: int, text: str, kind: str, following: str) -> None:
    if kind != "name":
        return
    if _OURS.match(text):
        why = "This name is the checker's."
    elif text == "_Pragma":
        why = "It can change how the file is compiled, and so what the checker sees."
    elif text == "gnu" and following == "::":
        why = "An attribute can run code while the library is loaded, or keep the checker from a function."
    elif text in _WORDS:
        why = _WORDS[text]
    elif text in _CALLS and following == "(":
        why = _CALLS[text]
    else:
        return
    raise Refused(f"{name}:{line}: `{text}` is not taken.", why, "Write the kernel and the class without it.")


_RESERVED = frozenset(
    "threadIdx blockIdx blockDim gridDim warpSize for if while return const volatile static float double int "
    "unsigned char bool void class struct private public protected noexcept override sizeof".split()
)


def _pairs(tokens: list[Token]) -> Iterator[tuple[Token, Token]]:
    return zip(tokens, tokens[1:])


def _joined(text: str) -> str:
    """Lines that end in a backslash joined with the next; their number stays."""
    lines, waiting, made = text.replace("\r\n", "\n").split("\n"), 0, []
    for line in lines:
        if waiting:
            made[-1] = made[-1].rstrip()[:-1] + line
        else:
            made.append(line)
        if line.rstrip().endswith("\\"):
            waiting += 1
        elif waiting:
            made += [""] * waiting
            waiting = 0
    return "\n".join(made)


def _without_comments(text: str) -> str:
    """Comments as spaces and line breaks; strings and characters stay."""
    return _TEXT.sub(lambda match: match[0] if match["kept"] else " " + "\n" * match[0].count("\n"), text)
