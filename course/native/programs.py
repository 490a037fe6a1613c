"""The C++ around a learner's C++: small programs that run it and say what happened."""

from __future__ import annotations

from collections.abc import Sequence

from course.data.preprocess import IMAGENET_MEAN, IMAGENET_STD


def lifetime(declared: Sequence[str]) -> str:
    """A program that declares objects in this order; each prints its name when C++ destroys it."""
    return (
        "#include <cstdio>\n#include <memory>\n"
        "struct Object { const char* name; ~Object() { std::puts(name); } };\nint main() {\n"
        + "".join(f'    std::unique_ptr<Object> {name}(new Object{{"{name}"}});\n' for name in declared)
        + "}\n"
    )


def owner(code: str) -> str:
    """The learner's class Buffer as a program. It prints whether Buffer can be copied and moved, then for each of five
    cases how much memory was taken, given back, and given back wrongly."""
    return _OWNER_BEFORE + code + _OWNER_AFTER


def preprocess(code: str) -> str:
    """The learner's `preprocess` as a program: PIXELS HEIGHTxWIDTH RESULT."""
    return (
        f'#include "tensor_file.h"\n#include <iostream>\n{_constants()}\n{code}\n'
        + """
int main(int count, char** words) try {
    if (count != 4) throw Failure("Usage: preprocess PIXELS HEIGHTxWIDTH RESULT");
    const std::vector<char> bytes = read_bytes(words[1]);
    const Shape sides = parse_shape(words[2]);
    if (sides.size() != 2 || volume(sides) * 3 != bytes.size()) throw Failure("The file has another size.");
    const std::vector<float> result = preprocess(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                                 static_cast<int>(sides[0]), static_cast<int>(sides[1]));
    write_floats(words[3], result.data(), result.size());
} catch (const std::exception& error) {
    std::cerr << error.what() << "\\n";
    return 1;
}
"""
    )


def preprocess_library(code: str) -> str:
    """The learner's `preprocess` as a shared library for ctypes: run(pixels, height, width, result)."""
    return (
        f'#include "tensor_file.h"\n{_constants()}\n{code}\n'
        + """
extern "C" void run(const std::uint8_t* pixels, int height, int width, float* result) {
    const std::vector<float> made = preprocess(pixels, height, width);
    std::copy(made.begin(), made.end(), result);
}
"""
    )


def _constants() -> str:
    def values(numbers):
        return ", ".join(f"{number}f" for number in numbers)

    return (
        f"constexpr float MEAN[3] = {{{values(IMAGENET_MEAN)}}};\nconstexpr float STD[3] = {{{values(IMAGENET_STD)}}};"
    )


_OWNER_BEFORE = """
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <stdexcept>
#include <type_traits>
#include <utility>

static std::set<void*> held;
static int taken, given, foreign;
void* allocate(std::size_t bytes) { void* memory = std::malloc(bytes); held.insert(memory); ++taken; return memory; }
void release(void* memory) {
    if (memory == nullptr) return;
    if (held.erase(memory)) ++given; else ++foreign;   // the memory stays: a wrong release must be countable
}
"""
_OWNER_AFTER = """
template <class Buffer> void use(Buffer& buffer) { static_cast<char*>(buffer.get())[0] = 1; }
template <class Case> void count(Case run) {
    taken = given = foreign = 0;
    held.clear();
    try { run(); } catch (const std::runtime_error&) {}
    std::printf("%d %d %d ", taken, given, foreign);
}
template <class Buffer> void copies() {
    if constexpr (std::is_copy_constructible_v<Buffer>) { Buffer a(8); Buffer b(a); use(b); }
}
template <class Buffer> void assigns() {
    if constexpr (std::is_copy_assignable_v<Buffer>) { Buffer a(8); Buffer b(8); b = a; use(b); }
}
template <class Buffer> void moves() {
    if constexpr (std::is_move_constructible_v<Buffer>) { Buffer a(8); Buffer b(std::move(a)); use(b); }
}
int main() {
    std::printf("%d %d ", std::is_copy_constructible_v<Buffer>, std::is_move_constructible_v<Buffer>);
    count([] { Buffer a(8); Buffer b(16); use(a); use(b); });
    count([] { Buffer a(8); use(a); throw std::runtime_error("in the middle"); });
    count([] { copies<Buffer>(); });
    count([] { assigns<Buffer>(); });
    count([] { moves<Buffer>(); });
}
"""
