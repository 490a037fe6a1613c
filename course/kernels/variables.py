"""`__shared__`, `__device__` and `__constant__` variables as C++: references into the simulated GPU's memory.

__shared__ float tile[16][17];      ->  typedef float T [16][17]; T& tile = ::cucpu::shared<T, 1>("tile", file,
line);
extern __shared__ float row[];      ->  float* const row = static_cast<float*>(::cucpu::dynamicShared());
__device__ int counter = 3;         ->  static int initial = 3; static decltype(initial)& counter =
::cucpu::variable(...);
"""

from __future__ import annotations

from course.kernels.source import ATTRIBUTES, MARKS, STORAGE, Source, quoted, refuse, without_attributes
from course.kernels.tokens import CLOSERS, OPENERS, Token, close, spelled, split

Declarator = tuple[str, str, str, str]
"""What stands before the name (* and the like), the name, its dimensions, its value."""


def shared(source: Source, index: int) -> None:
    """Rewrite the declaration that holds the `__shared__` at `index`."""
    token = source.tokens[index]
    start, end = _statement(source.tokens, index)
    if index in source.in_class:
        refuse(token, "a __shared__ member of a class", "declare it in the kernel")
    all_words = source.tokens[start:end]
    dynamic = any(word.text == "extern" for word in all_words)
    words = without_attributes([word for word in all_words if word.text not in MARKS | STORAGE])
    base, declarators = _declarators(words, token)
    text = ""
    for front, name, dimensions, value in declarators:
        source.shared_names.add(name)
        if value:
            refuse(
                token,
                f"a value for the __shared__ variable {name}",
                "nvcc refuses it, too: let the threads write it, then __syncthreads()",
            )
        if dynamic:
            if dimensions.replace(" ", "") != "[]":
                refuse(token, f"extern __shared__ {name} without []", "write `extern __shared__ type name[];`")
            text += f"{base} {front}* const {name} = static_cast<{base} {front}*>(::cucpu::dynamicShared()); "
        else:
            number = source.number()
            text += (
                f"typedef {base} {front} cucpu_type_{number} {dimensions}; cucpu_type_{number}& {name} = "
                f'::cucpu::shared<cucpu_type_{number}, {number}>("{name}", {quoted(token.file)}, {token.line}); '
            )
    source.replace(start, end, text)


def device(source: Source, index: int) -> None:
    """Rewrite what the `__device__` or `__constant__` at `index` belongs to: a function, a lambda or a variable."""
    token = source.tokens[index]
    before = index - 1
    while before >= 0 and source.tokens[before].text in MARKS:
        before -= 1
    if before >= 0 and source.tokens[before].text == "]":  # of a lambda
        token.out = ""
        return
    if token.text == "__device__" and _declares_function(source.tokens, index):
        token.out = "__attribute__((always_inline))"
        return
    start, end = _statement(source.tokens, index)
    words = [word for word in source.tokens[start:end] if word.text not in MARKS]
    texts = {word.text for word in words}
    if "constexpr" in texts or ("const" in texts and token.text == "__device__"):
        token.out = ""  # a constant of the compiler
        return
    if "extern" in texts:
        refuse(token, f"extern {token.text}", "one file is one program here; define the variable in it")
    if "template" in texts or index in source.in_class or index not in source.in_namespace:
        refuse(token, f"a {token.text} variable inside a class, a function or a template", "declare it at file scope")
    base, declarators = _declarators(without_attributes([word for word in words if word.text not in STORAGE]), token)
    text = ""
    for front, name, dimensions, value in declarators:
        initial = f"cucpu_initial_{source.number()}"
        constant = "true" if token.text == "__constant__" else "false"
        text += (
            f"static {base} {front} {initial} {dimensions} {value}; static decltype({initial})& {name} = "
            f'::cucpu::variable({initial}, "{name}", {constant}); '
        )
    source.replace(start, end, text)


def lambda_capture(source: Source, index: int) -> None:
    """Refuse the `[=` at `index` if its lambda uses a __shared__ array: it would be copied here, though not by nvcc."""
    tokens = source.tokens
    if index and (tokens[index - 1].kind == "name" or tokens[index - 1].text in (")", "]")):
        return  # an index, not a lambda
    at = index
    while at < len(tokens) and tokens[at].text not in ("{", ";"):
        at += 1
    for inside in tokens[at : close(tokens, at)]:
        if inside.kind == "name" and inside.text in source.shared_names:
            refuse(tokens[index], f"[=] in a lambda that uses the __shared__ variable {inside.text}", "write [&]")


def _statement(tokens: list[Token], index: int) -> tuple[int, int]:
    """First token of the declaration that holds `index`, and its `;`."""
    start = index
    while start and tokens[start - 1].text not in (";", "{", "}", ":"):
        start -= 1
    end = index
    while end < len(tokens) and tokens[end].text != ";":
        end = close(tokens, end) if tokens[end].text in OPENERS else end
        end += 1
    return start, min(end, len(tokens) - 1)


def _declarators(words: list[Token], token: Token) -> tuple[str, list[Declarator]]:
    """The type, and each declared name with what belongs to it."""
    result: list[Declarator] = []
    base = ""
    for number, part in enumerate(split(words)):
        name_at = _name(part)
        if name_at is None or (number == 0 and name_at == 0):
            refuse(token, f"this declaration of a {token.text} variable", "write it as `type name[size];`")
            raise AssertionError
        at = name_at + 1
        while at < len(part) and part[at].text == "[":
            at = close(part, at) + 1
        stars = name_at
        while stars and part[stars - 1].text in ("*", "&", "const", "__restrict__"):
            stars -= 1
        front = part[:name_at]
        if number == 0:
            base, front = spelled(front[:stars]), front[stars:]
        result.append((spelled(front), part[name_at].text, spelled(part[name_at + 1 : at]), spelled(part[at:])))
    return base, result


def _name(part: list[Token]) -> int | None:
    """Index of the declared name: the last one in front of [, = and {. None if the declaration has another form."""
    depth = angle = 0
    found = None
    for at, word in enumerate(part):
        if depth == angle == 0 and word.text in ("=", "{", "["):
            return found
        if word.text in OPENERS:
            depth += 1
        elif word.text in CLOSERS:
            depth -= 1
        elif word.text == "<" and at and part[at - 1].kind == "name":
            angle += 1
        elif word.text == ">" and angle:
            angle -= 1
        elif depth == angle == 0 and word.kind == "name":
            found = at
    return found if depth == angle == 0 and part[-1].text != ")" else None


def _declares_function(tokens: list[Token], index: int) -> bool:
    """Whether a bracket of parameters comes in front of what would end a variable's name."""
    angle, at = 0, index + 1
    while at < len(tokens):
        text = tokens[at].text
        if text == "operator":
            return True
        if text in ATTRIBUTES | {"decltype"}:
            if tokens[at + 1].text == "(":
                at = close(tokens, at + 1)
        elif text == "<" and tokens[at - 1].kind == "name":
            angle += 1
        elif text == ">" and angle:
            angle -= 1
        elif not angle and text == "(":
            return True
        elif not angle and text in (";", "=", "{", "["):
            return False
        at += 1
    return False
