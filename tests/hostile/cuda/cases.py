"""Plugins, honest, wrong and cheating: changes of the course's own, and the points that each must get, of 4 and 4."""

from __future__ import annotations

from dataclasses import dataclass

CU, CPP = "activation.cu", "activation_plugin.cpp"
ONE_LINE = "    float n = e * (e + 2.0f);\n"
COMPUTE = "part[k] = T(mish(float(part[k]), beta));"
LAUNCHER = "    if (count == 0) return cudaSuccess;"
INCLUDE = "#include <cuda_fp16.h>\n"
ENQUEUE = "        size_t count = 1;\n"


@dataclass(frozen=True)
class Case:
    """changes: (file, text, instead of it). kernel, contract: points. says: words of the report."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    kernel: float
    contract: float
    says: str = ""


def front(text: str) -> tuple[tuple[str, str, str], ...]:
    """In the .cu file, behind its includes."""
    return ((CU, INCLUDE, INCLUDE + text + "\n"),)


def host(text: str, front_text: str = "") -> tuple[tuple[str, str, str], ...]:
    """In the launcher, before anything else."""
    return (*front(front_text), (CU, LAUNCHER, f"    {text}\n{LAUNCHER}"))


HALF = """
template <class T> __device__ T low(T x, float beta)
{
    T e = T(__expf(beta * float(x)));
    T n = e * (e + T(2.0f));
    return float(x) * beta > 20.0f ? x : x * (n / (n + T(2.0f)));
}
"""

CASES = (
    Case("honest", (), 4, 4),
    # wrong
    Case("tail-lost", ((CU, "if (rest < count) y[rest]", "if (rest + 1 < count) y[rest]"),), 0, 0, "unwritten-output"),
    Case("tail-overrun", ((CU, "if (rest < count) y[rest]", "y[rest]"),), 0, 0, "out-of-bounds"),
    Case("infinity-to-nan", ((CU, "    if (z > 20.0f) return x;\n", ""),), 0, 4, "there is nan"),
    Case("half-in-half", (*front(HALF), (CU, COMPUTE, "part[k] = low(part[k], beta);")), 2, 0, "FP16"),
    Case("beta-ignored", ((CU, "float z = beta * x;", "float z = x + 0.0f * beta;"),), 0, 0, "elements are wrong"),
    Case("constants", ((CU, COMPUTE, "part[k] = T(0.25f);"),), 0, 0, "elements are wrong"),
    Case("nothing-is-done", ((CU, LAUNCHER, "    return 0;\n" + LAUNCHER),), 0, 0, "never written"),
    Case(
        "fp32-in-half",
        ((CU, COMPUTE, "part[k] = T(float(__float2half(mish(float(part[k]), beta))));"),),
        2,
        0,
        "float32",
    ),
    Case(
        "class-not-finished",
        ((CPP, "std::memcpy(buffer, &beta, sizeof beta);", "std::memcpy(buffer, &beta"),),
        4,
        0,
        "does not compile",
    ),
    Case("class-calls-nobody", ((CPP, "launchMish(", "launchMash("),), 4, 0, "activation_plugin.cpp"),
    Case("kernel-not-finished", ((CU, LAUNCHER, "    if (count"),), 0, 0, "does not compile"),
    Case(
        "not-serialised",
        ((CPP, "std::memcpy(buffer, &beta, sizeof beta);", "std::memset(buffer, 0, sizeof beta);"),),
        4,
        0,
        "deserialize",
    ),
    Case(
        "clone-without-beta",
        (
            (
                CPP,
                "new (std::nothrow) Mish(beta);\n        if (copy)",
                "new (std::nothrow) Mish(1.0f);\n        if (copy)",
            ),
        ),
        4,
        0,
        "clone",
    ),
    Case("default-stream", ((CPP, "DataType::kHALF, stream);", "DataType::kHALF, nullptr);"),), 4, 3, "stream-ignored"),
    Case(
        "memory-in-enqueue",
        (
            (
                CPP,
                ENQUEUE,
                "        void* own = nullptr;\n        cudaMalloc(&own, 64);\n        cudaFree(own);\n" + ENQUEUE,
            ),
        ),
        4,
        3,
        "enqueue-blocks",
    ),
    Case(
        "fp32-only",
        (
            (
                CPP,
                "tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF",
                "tensor.type == DataType::kFLOAT",
            ),
        ),
        4,
        0,
        "format-missing",
    ),
    Case("other-name", ((CPP, '"CourseMish"', '"CourseMash"'),), 4, 0, "wrong-name"),
    Case("no-launcher", ((CU, "int launchMish", "int launchMash"),), 0, 0, "launchMish"),
    # computes once, and leaves stale memory afterwards: the launcher alone is right, the plugin is not
    Case(
        "once-only",
        ((CU, LAUNCHER, "    static bool done = false;\n    if (done) return 0;\n    done = true;\n" + LAUNCHER),),
        4,
        0,
        "wrong",
    ),
    # ends, hangs, grows
    Case("spins", host("for (volatile int i = 0;; i = i + 1) {}"), 0, 0, "time"),
    Case(
        "grows",
        host("for (;;) std::memset(std::malloc(1 << 26), 1, 1 << 26);", "#include <cstdlib>\n#include <cstring>"),
        0,
        0,
        "more than 1 GB",
    ),
    Case(
        "crashes-while-loading",
        front("struct Early { Early() { *static_cast<volatile int*>(nullptr) = 1; } } early;"),
        0,
        0,
        "could not be",
    ),
    Case("ends-the-process", host("std::terminate();", "#include <exception>"), 0, 0, "SIGABRT"),
    # what the text shows
    Case("system", host('system("id");'), 0, 0, "`system` is not taken"),
    Case(
        "reads-memory-map",
        host('auto* file = fopen("/proc/self/maps", "r"); (void)file;'),
        0,
        0,
        "`fopen` is not taken",
    ),
    Case("forks", host("fork();", 'extern "C" int fork();'), 0, 0, "`fork` is not taken"),
    Case("assembly", host('asm volatile("nop");'), 0, 0, "`asm` is not taken"),
    Case(
        "constructor",
        front("__attribute__((constructor)) static void early() {}"),
        0,
        0,
        "`__attribute__` is not taken",
    ),
    Case("constructor-in-brackets", front("[[gnu::constructor]] static void early() {}"), 0, 0, "`gnu` is not taken"),
    Case("pragma", front('#pragma GCC optimize("no-sanitize")'), 0, 0, "#pragma GCC"),
    Case("pragma-operator", front('_Pragma("GCC push_options")'), 0, 0, "`_Pragma` is not taken"),
    Case(
        "includes-a-secret",
        front('#include "/srv/class/.grading/secret"'),
        0,
        0,
        "#include of '/srv/class/.grading/secret'",
    ),
    Case("includes-upwards", front('#include "../../autograder/rejected.py"'), 0, 0, "#include of '../../"),
    Case("includes-by-macro", front('#define WHERE "/etc/passwd"\n#include WHERE'), 0, 0, "names no file"),
    Case("includes-files", front("#include <fstream>"), 0, 0, "#include of 'fstream'"),
    Case("macro-over-cuda", front("#define __syncthreads() (void)0"), 0, 0, "the macro __syncthreads"),
    Case("macro-over-the-checker", front("#define cucpu_begin other"), 0, 0, "the macro cucpu_begin"),
    Case("pasted-name", front("#define JOIN(a, b) a##b\nint JOIN(sys, tem)(const char*);"), 0, 0, "## is not taken"),
    Case(
        "asks-who-checks",
        ((CU, COMPUTE, f"\n#if __CUDA_ARCH__ == 800\n{COMPUTE}\n#endif\n"),),
        0,
        0,
        "`__CUDA_ARCH__` is not taken",
    ),
    Case(
        "asks-the-checker",
        host("cucpu_note_calls();", 'extern "C" void cucpu_note_calls();'),
        0,
        0,
        "`cucpu_note_calls` is not taken",
    ),
    # what only the compiled code shows
    Case("hidden-call", host("kill(1, 9);", 'extern "C" int kill(int, int);'), 0, 0, "calls kill"),
    Case(
        "own-declaration",
        host('int file = open("/proc/self/environ", 0); (void)file;', 'extern "C" int open(const char*, int, ...);'),
        0,
        0,
        "calls open",
    ),
)
QUICK = ("honest", "class-not-finished", "not-serialised", "hidden-call", "constructor")
