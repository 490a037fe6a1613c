"""CUDA C++ as C++: the words that need more than a declaration, replaced after the preprocessor.

The preprocessor has run, so macros are expanded and comments are gone; each token knows its file and line. Every line
stays where it was. What cannot be rewritten is refused with its line.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field

from course.kernels import supported
from course.kernels.tokens import CLOSERS, OPENERS, Token, angle_opening, close, opening, spelled, split
from course.kernels.words import RefusedError

_STORAGE = {"static", "extern", "inline", "__inline__", "__inline"}
_ATTRIBUTES = {"__attribute__", "alignas", "__align__", "__launch_bounds__", "__maxnreg__"}
VARIANT = "cucpu_variant"
"""Stands in the epilogue for the number of the variant (see `compiler.py`)."""
_PLAIN = '__attribute__((no_sanitize("thread")))'
_MARKS = {"__shared__", "__device__", "__constant__", "__host__", "__global__"}


@dataclass
class Rewritten:
    """What is known of a file after `rewrite`.

    kernels, device_functions: names of the __global__ and the __device__ functions. exports: name -> parameter names of each extern "C" function.
    """

    kernels: list[str] = field(default_factory=list)
    device_functions: list[str] = field(default_factory=list)
    exports: dict[str, list[str]] = field(default_factory=dict)
    prologue: str = ""
    epilogue: str = ""


def rewrite(tokens: list[Token], checked: bool) -> Rewritten:
    """Say for each token what is written in its place.

    Args:
        checked: the file will be compiled with the checker's instrumentation.

    Raises:
        RefusedError: names the word, its file and line, and what to do instead.
    """
    work = _Rewriter(tokens, checked)
    work.find_functions()
    work.refuse_names()
    for index in range(len(tokens)):
        work.at(index)
    return work.result()


class _Rewriter:
    def __init__(self, tokens: list[Token], checked: bool):
        self.tokens, self.checked = tokens, checked
        self.kernels: list[str] = []
        self.device_functions: list[str] = ["operator()"]
        self.without_address: set[str] = set()  # templates and overloaded kernels
        self.templates: dict[str, int] = {}  # kernel -> number of its template parameters
        self.exports: dict[str, list[str]] = {}
        self.sites: list[str] = []
        self.shared_names: set[str] = set()
        self.count = 0
        self.scopes: list[str] = []
        self.in_class: set[int] = set()
        self.in_namespace: set[int] = set()

    # ------------------------------------------------------------ what is declared where
    def find_functions(self) -> None:
        """Scopes, kernels, and the extern "C" functions that can be called from outside."""
        c_names, definitions = set(), []
        start = 0
        for index, token in enumerate(self.tokens):
            scope = self.scopes[-1] if self.scopes else "namespace"
            if scope in ("namespace", "C"):
                self.in_namespace.add(index)
            if scope == "class":
                self.in_class.add(index)
            if token.text == "{":
                head = self.tokens[start:index]
                kind = self._scope(head, scope)
                if kind == "function" and scope in ("namespace", "C"):
                    definitions.append((head, self._is_c(head) or scope == "C"))
                self.scopes.append(kind)
            elif token.text == "}" and self.scopes:
                self.scopes.pop()
            elif token.text == ";" and scope in ("namespace", "C"):
                head = self.tokens[start:index]
                if (self._is_c(head) or scope == "C") and (name := self._function_name(head)):
                    c_names.add(name[0])
            if token.text in (";", "{", "}"):
                start = index + 1
        for head, is_c in definitions:
            named = self._function_name(head)
            if not named:
                continue
            words = {token.text for token in head}
            if "__global__" in words:
                if named[0] in self.kernels:
                    self.without_address.add(named[0])
                self.kernels.append(named[0])
                if head[0].text == "template":
                    self.templates[named[0]] = len(split(head[2:_angle_close(head, 1)]))
            elif "__device__" in words:
                self.device_functions.append(named[0])
            elif (is_c or named[0] in c_names) and "static" not in words:
                self.exports[named[0]] = named[1]

    @staticmethod
    def _is_c(head: list[Token]) -> bool:
        return any(a.text == "extern" and b.text == '"C"' for a, b in zip(head, head[1:]))

    @staticmethod
    def _scope(head: list[Token], outer: str) -> str:
        """What the brace behind `head` opens."""
        words = [token.text for token in _without_attributes(head)]
        if words[:2] == ["template", "<"]:
            depth = 0
            for at, word in enumerate(words):
                depth += (word == "<") - (word == ">")
                if at and depth == 0 and word == ">":
                    words = words[at + 1:]
                    break
        while words and words[0] in ("typedef", "static", "const", "constexpr", "inline"):
            words = words[1:]
        if outer in ("function", "block") or "=" in words:
            return "block"
        if "namespace" in words:
            return "namespace"
        if words == ["extern", '"C"']:
            return "C"
        if words[:1] and words[0] in ("class", "struct", "union", "enum") and "(" not in words:
            return "class"
        return "function" if ")" in words else "block"

    @staticmethod
    def _function_name(head: list[Token]) -> tuple[str, list[str]] | None:
        """The name in front of the parameters, and the parameters' names."""
        angle = index = 0
        while index < len(head):
            text = head[index].text
            if text in _ATTRIBUTES | {"decltype"} and index + 1 < len(head) and head[index + 1].text == "(":
                index = close(head, index + 1)
            elif text == "<" and index and (head[index - 1].kind == "name"):
                angle += 1
            elif text == ">" and angle:
                angle -= 1
            elif text == "=" and not angle:
                return None
            elif text == "(" and not angle:
                if not index or head[index - 1].kind != "name":
                    return None
                names = []
                for part in split(head[index + 1:close(head, index)]):
                    declared = [t.text for t in _until(part, "=") if t.kind == "name"]
                    names.append(declared[-1] if len(declared) > 1 else "")
                return head[index - 1].text, names
            index += 1
        return None

    def refuse_names(self) -> None:
        """End with an error at the first word that the checker does not know how to run."""
        for index, token in enumerate(self.tokens):
            if token.kind != "name" or (index and self.tokens[index - 1].text in (".", "->")):
                continue
            advice = supported.advice_for(token.text)
            if advice is None or (token.text == "cuda" and self.tokens[index + 1].text != "::"):
                continue
            if token.text in ("all", "any", "clock") and self.tokens[index + 1].text != "(":
                continue
            self._refuse(token, token.text, advice)

    def _refuse(self, token: Token, what: str, advice: str) -> None:
        raise RefusedError(f"{token.file}:{token.line}: {what} is not supported by the CPU checker.",
                           f"{advice[0].upper()}{advice[1:]}.", "docs/cuda_on_cpu.md lists what is supported.")

    # ------------------------------------------------------------ one token
    def at(self, index: int) -> None:
        """Rewrite what begins at this token."""
        token = self.tokens[index]
        text = token.text
        if token.out is not None:
            return  # a part of what was rewritten before
        if text in supported.SYNC and self.tokens[index + 1].text == "(":
            self._sync(index)
        elif text == "__global__":
            self._kernel(index)
        elif text == "__shared__":
            self._shared(index)
        elif text in ("__device__", "__constant__"):
            self._device(index)
        elif text in ("__host__", "__noinline__", "__grid_constant__"):
            token.out = ""
        elif text == "__forceinline__":
            token.out = "inline __attribute__((always_inline))"
        elif text in ("__launch_bounds__", "__maxnreg__"):
            self._blank(index, close(self.tokens, index + 1) + 1)
        elif text == "<" and self._triple(index, "<"):
            self._launch(index)
        elif text == "[" and self.tokens[index + 1].text == "=":
            self._capture(index)

    def _site(self, token: Token) -> str:
        """A place in the table that the runtime reads."""
        self.sites.append(f'{{"{token.text}", {_quoted(token.file)}, {token.line}, {len(self.sites)}}}')
        return f"&cucpu_where[{len(self.sites) - 1}]"

    def _sync(self, index: int) -> None:
        token, bracket = self.tokens[index], self.tokens[index + 1]
        site = self._site(token)
        token.out = f"::cucpu::{supported.SYNC[token.text]}"
        empty = self.tokens[index + 2].text == ")"
        bracket.out = f"({site}" + ("" if empty else ", ")

    def _kernel(self, index: int) -> None:
        """`__global__`: a function of its own. __launch_bounds__ is looked at when a thread begins."""
        token = self.tokens[index]
        site = self._site(token)
        token.out = "__attribute__((noinline))"
        at, bound = index, ""
        while self.tokens[at].text not in ("{", ";") and at + 1 < len(self.tokens):
            if self.tokens[at].text == "__launch_bounds__":
                inside = self.tokens[at + 2:close(self.tokens, at + 1)]
                bound = spelled(split(inside)[0])
            at = close(self.tokens, at) if self.tokens[at].text in ("(", "[") else at + 1
        if bound and self.tokens[at].text == "{":
            self.tokens[at].out = f"{{ ::cucpu::launchBounds({site}, {bound});"

    # ------------------------------------------------------------ variables
    def _statement(self, index: int) -> tuple[int, int]:
        """First token of the declaration that holds `index`, and its `;`."""
        start = index
        while start and self.tokens[start - 1].text not in (";", "{", "}", ":"):
            start -= 1
        end = index
        while end < len(self.tokens) and self.tokens[end].text != ";":
            end = close(self.tokens, end) if self.tokens[end].text in OPENERS else end
            end += 1
        return start, min(end, len(self.tokens) - 1)

    def _declarators(self, words: list[Token], token: Token) -> tuple[str, list[tuple[str, str, str, str]]]:
        """The type, and for each declared name: what stands before the name, the name, its dimensions, its value."""
        result, base = [], ""
        for number, part in enumerate(split(words)):
            value = ""
            depth = angle = 0
            name_at = None
            for at, word in enumerate(part):
                if depth == angle == 0 and word.text in ("=", "{", "["):
                    break
                if word.text in OPENERS:
                    depth += 1
                elif word.text in CLOSERS:
                    depth -= 1
                elif word.text == "<" and at and part[at - 1].kind == "name":
                    angle += 1
                elif word.text == ">" and angle:
                    angle -= 1
                elif depth == angle == 0 and word.kind == "name":
                    name_at = at
            if name_at is None or (number == 0 and name_at == 0) or (depth or angle):
                self._refuse(token, f"this declaration of a {token.text} variable", "write it as `type name[size];`")
                raise AssertionError
            at = name_at + 1
            while at < len(part) and part[at].text == "[":
                at = close(part, at) + 1
            dimensions, value = spelled(part[name_at + 1:at]), spelled(part[at:])
            front = part[:name_at]
            stars = len(front)
            while stars and front[stars - 1].text in ("*", "&", "const", "__restrict__"):
                stars -= 1
            if number == 0:
                base, front = spelled(front[:stars]), front[stars:]
            result.append((spelled(front), part[name_at].text, dimensions, value))
        return base, result

    def _replace(self, start: int, end: int, text: str) -> None:
        """One text in place of tokens; their line breaks stay, behind it."""
        self._blank(start, end + 1)
        self.tokens[start].out = text

    def _blank(self, start: int, end: int) -> None:
        for token in self.tokens[start:end]:
            token.out = ""

    def _shared(self, index: int) -> None:
        token = self.tokens[index]
        start, end = self._statement(index)
        if index in self.in_class:
            self._refuse(token, "a __shared__ member of a class", "declare it in the kernel")
        words = _without_attributes([t for t in self.tokens[start:end] if t.text not in _MARKS | _STORAGE])
        extern = any(t.text == "extern" for t in self.tokens[start:end])
        base, names = self._declarators(words, token)
        text = ""
        for front, name, dimensions, value in names:
            if value:
                self._refuse(token, f"a value for the __shared__ variable {name}",
                             "nvcc refuses it, too: let the threads write it, then __syncthreads()")
            self.shared_names.add(name)
            if extern:
                if dimensions.replace(" ", "") != "[]":
                    self._refuse(token, f"extern __shared__ {name} without []", "write `extern __shared__ type name[];`")
                text += f"{base} {front}* const {name} = static_cast<{base} {front}*>(::cucpu::dynamicShared()); "
                continue
            self.count += 1
            kind = f"cucpu_type_{self.count}"
            text += (f"typedef {base} {front} {kind} {dimensions}; {kind}& {name} = ::cucpu::shared<{kind}, {self.count}>"
                     f'("{name}", {_quoted(token.file)}, {token.line}); ')
        self._replace(start, end, text)

    def _device(self, index: int) -> None:
        """`__device__` or `__constant__`: a function, a lambda or a variable."""
        token = self.tokens[index]
        before = index - 1
        while before >= 0 and self.tokens[before].text in _MARKS:
            before -= 1
        if before >= 0 and self.tokens[before].text == "]":  # of a lambda
            token.out = ""
            return
        if token.text == "__device__" and self._declares_function(index):
            token.out = "__attribute__((always_inline))"
            return
        start, end = self._statement(index)
        words = [t for t in self.tokens[start:end] if t.text not in _MARKS]
        texts = {t.text for t in words}
        if "constexpr" in texts or ("const" in texts and token.text == "__device__"):
            token.out = ""  # a constant of the compiler
            return
        if "extern" in texts:
            self._refuse(token, f"extern {token.text}", "one file is one program here; define the variable in it")
        if "template" in texts or index in self.in_class or index not in self.in_namespace:
            self._refuse(token, f"a {token.text} variable inside a class, a function or a template", "declare it at file scope")
        base, names = self._declarators(_without_attributes([t for t in words if t.text not in _STORAGE]), token)
        text = ""
        for front, name, dimensions, value in names:
            self.count += 1
            initial = f"cucpu_initial_{self.count}"
            text += (f"static {base} {front} {initial} {dimensions} {value}; static decltype({initial})& {name} = "
                     f'::cucpu::variable({initial}, "{name}", {"true" if token.text == "__constant__" else "false"}); ')
        self._replace(start, end, text)

    def _declares_function(self, index: int) -> bool:
        angle, at = 0, index + 1
        while at < len(self.tokens):
            text = self.tokens[at].text
            if text == "operator":
                return True
            if text in _ATTRIBUTES | {"decltype"}:
                if self.tokens[at + 1].text == "(":
                    at = close(self.tokens, at + 1)
            elif text == "<" and self.tokens[at - 1].kind == "name":
                angle += 1
            elif text == ">" and angle:
                angle -= 1
            elif not angle and text == "(":
                return True
            elif not angle and text in (";", "=", "{", "["):
                return False
            at += 1
        return False

    def _capture(self, index: int) -> None:
        """[=] would copy a __shared__ array here (it does not under nvcc)."""
        if index and (self.tokens[index - 1].kind == "name" or self.tokens[index - 1].text in (")", "]")):
            return  # an index, not a lambda
        at = index
        while at < len(self.tokens) and self.tokens[at].text not in ("{", ";"):
            at += 1
        for inside in self.tokens[at:close(self.tokens, at)]:
            if inside.kind == "name" and inside.text in self.shared_names:
                self._refuse(self.tokens[index], f"[=] in a lambda that uses the __shared__ variable {inside.text}", "write [&]")

    # ------------------------------------------------------------ launches
    def _triple(self, index: int, mark: str) -> bool:
        words = self.tokens[index:index + 3]
        return len(words) == 3 and all(t.text == mark for t in words) and not words[1].before and not words[2].before

    def _launch(self, index: int) -> None:
        """kernel<<<grid, block, bytes, stream>>>(arguments)"""
        token = self.tokens[index]
        start = self._kernel_expression(index)
        end = index + 3
        while end < len(self.tokens) and not self._triple(end, ">"):
            end = close(self.tokens, end) if self.tokens[end].text in ("(", "[", "{") else end
            if self.tokens[min(end, len(self.tokens) - 1)].text in (";", "}"):
                break
            end += 1
        if not (end + 3 < len(self.tokens) and self._triple(end, ">") and self.tokens[end + 3].text == "("):
            self._refuse(token, "this <<<", "write the launch as kernel<<<grid, block>>>(...) in one statement")
        last = close(self.tokens, end + 3)
        kernel = self.tokens[start:index]
        expression, given = spelled(kernel), 0
        name = kernel[-1].text
        if name == ">":  # explicit template arguments; those that are left out are deduced
            opens = angle_opening(kernel, len(kernel) - 1)
            name, given = kernel[opens - 1].text, len(split(kernel[opens + 1:-1]))
        hidden = given < self.templates.get(name, 0) or name in self.without_address
        address = "nullptr" if hidden else f"::cucpu::address({expression})"
        arguments = self.tokens[end + 4:last]
        for part in split(arguments):
            if part[0].text == "{":
                self._refuse(token, "{...} as a kernel's argument", "name its type: Type{...}")
            if len(part) == 1 and part[0].text in ("0", "__null", "nullptr") and not hidden:
                part[0].out = "::cucpu::Zero()"
        shown = expression.replace(" ", "")
        self._blank(start, index)
        self.tokens[start].out = f"::cucpu::Launch({_quoted(shown)}, {_quoted(token.file)}, {token.line}, {address}, "
        self._blank(index, index + 3)
        self._blank(end, end + 4)
        self.tokens[end].out = (f")([&](auto... cucpu_a) {_PLAIN} {{ {expression}(cucpu_a...); }}"
                                 + (", " if arguments else ""))

    def _kernel_expression(self, index: int) -> int:
        """Index of the first token of what stands in front of <<<."""
        at = index - 1
        while True:
            text = self.tokens[at].text if at >= 0 else ""
            if text == ">":
                at = angle_opening(self.tokens, at) - 1
                continue
            if text in (")", "]"):
                at = opening(self.tokens, at) - 1
                if at >= 0 and (self.tokens[at].kind == "name" and self.tokens[at].text not in ("else", "do", "return") or self.tokens[at].text == ">"):
                    continue
                at += 1
                break
            if at < 0 or self.tokens[at].kind != "name":
                self._refuse(self.tokens[index], "this <<<", "a launch begins with a kernel's name")
            if self.tokens[at - 1].text == "template":
                at -= 1
            if self.tokens[at - 1].text in (".", "->"):
                at -= 2
                continue
            if self.tokens[at - 1].text != "::":
                break
            at -= 1
            if self.tokens[at - 1].kind != "name" and self.tokens[at - 1].text != ">":
                break
            at -= 1
        front = self.tokens[at - 1].text if at else ";"
        if front not in (";", "{", "}", ")", "else", "do", ":"):
            self._refuse(self.tokens[index], f"a launch behind `{front}`", "write each launch as a statement of its own")
        return at

    # ------------------------------------------------------------ the rest of the file
    def result(self) -> Rewritten:
        """What goes in front of the learner's code and behind it."""
        table = ",\n".join(self.sites) or '{"", "", 0, 0}'
        exports = "".join(f'\nstatic ::cucpu::Export cucpu_export_{number}("{name}", "{",".join(names)}", '
                          f"::cucpu::callerOf(&{name}).types(), ::cucpu::callerOf(&{name}).entry<&{name}>(), {VARIANT});"
                          for number, (name, names) in enumerate(self.exports.items()))
        return Rewritten(self.kernels, self.device_functions, self.exports, "extern const ::cucpu::Where cucpu_where[];\n",
                         f'\nconst ::cucpu::Where cucpu_where[] = {{{table}}};\n'
                         f"namespace cucpu {{ bool checked = {'true' if self.checked else 'false'}; }}{exports}\n")


def _angle_close(words: list[Token], index: int) -> int:
    """Index of the `>` that closes the `<` at `index`."""
    depth = 0
    for at in range(index, len(words)):
        depth += (words[at].text == "<") - (words[at].text == ">")
        if depth == 0:
            return at
    return len(words)


def _until(words: list[Token], stop: str) -> list[Token]:
    texts = [word.text for word in words]
    return words[:texts.index(stop)] if stop in texts else words


def _without_attributes(words: list[Token]) -> list[Token]:
    """The declaration without alignment: the simulated GPU gives every variable at least 16 bytes of it."""
    kept, at = [], 0
    while at < len(words):
        if words[at].text in _ATTRIBUTES and at + 1 < len(words) and words[at + 1].text == "(":
            at = close(words, at + 1)
        else:
            kept.append(words[at])
        at += 1
    return kept


def _quoted(text: str) -> str:
    return json.dumps(text)
