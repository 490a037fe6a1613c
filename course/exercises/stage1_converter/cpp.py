"""Checks of lesson 1.03, "The same in C++": names, lifetimes, owners, preprocessing, and infer.cpp itself.

C++ answers are compiled and run in a process of their own: a crash there is an answer, too.
"""

from __future__ import annotations

import mmap
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from course.by_hand import raw
from course.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from course.errors import BuildError, CourseError
from course.exercises import Wrong, exercise, reference
from course.native import compile as cpp_build
from course.native import programs as cpp_programs

NAMES = {  # Python -> C++; a test compares both sides with the real modules and with infer.cpp
    "Runtime": "createInferRuntime",
    "Runtime.deserialize_cuda_engine": "deserializeCudaEngine",
    "ICudaEngine.create_execution_context": "createExecutionContext",
    "ICudaEngine.num_io_tensors": "getNbIOTensors",
    "ICudaEngine.get_tensor_name": "getIOTensorName",
    "IExecutionContext.set_input_shape": "setInputShape",
    "IExecutionContext.get_tensor_shape": "getTensorShape",
    "IExecutionContext.set_tensor_address": "setTensorAddress",
    "IExecutionContext.execute_async_v3": "enqueueV3",
}
NEEDS = {"runtime": "logger", "engine": "runtime", "context": "engine", "buffer": "stream"}
HEADERS = Path("cpp")  # tensor_file.h, in the stage's folder
STAND_IN = Path(cpp_build.__file__).parent / "infer_stand_in"
"""Headers in which a program without TensorRT runs, as late as a GPU; see NvInferRuntime.h there."""


@exercise(
    "cpp-names",
    points=3,
    hints=(
        "set_input_shape became setInputShape. Which of the other names follow the same rule?",
        "Three do not: a property is a function in C++ and begins with get; the tensors are called IOTensors there; and "
        "running is called enqueue. Search cpp/infer.cpp for getNb, getIO and enqueue.",
        "Runtime: createInferRuntime. num_io_tensors: getNbIOTensors. get_tensor_name: getIOTensorName. "
        "execute_async_v3: enqueueV3. The others by the rule.",
    ),
)
def cpp_names(cpp_names):
    if not isinstance(cpp_names, Mapping):
        raise Wrong("`cpp_names` is no dict.", f"It is {type(cpp_names).__name__}.", "Keep the cell's form.")
    if len(cpp_names) == 1:
        raise NotImplementedError
    right = sum(cpp_names.get(python) == name for python, name in NAMES.items())
    for python, name in NAMES.items():
        given = cpp_names.get(python)
        if given == name:
            continue
        if not given or given is ...:
            raise Wrong(
                f"{python} has no C++ name yet.",
                f"{right} of {len(NAMES)} are right so far.",
                "Look for the same step in cpp/infer.cpp.",
            )
        given = str(given).split("::")[-1].removesuffix("()")
        if given == name:
            continue
        if "_" in given:
            cause = "C++ names of TensorRT have no underscores: each word but the first begins with a capital letter."
        elif (known := _in_library(given)) is False:
            cause = (
                f"{given} occurs nowhere in the library of {raw.module().__name__}. Not every name follows the rule."
            )
        else:
            cause = "There is such a name, and it does something else." if known else "Not every name follows the rule."
        raise Wrong(
            f"{python} is not {given} in C++.",
            cause,
            f"{right} of {len(NAMES)} are right. Search cpp/infer.cpp for this step.",
        )
    return f"All {len(NAMES)} are the names in TensorRT's C++ headers."


@exercise(
    "cpp-lifetime",
    points=2,
    hints=(
        "C++ destroys what was declared last first. Which object must be destroyed first here?",
        "Each object must be declared after the one that made it. The buffer is given back on the stream.",
        "logger, runtime, engine, context, stream, buffer is one right order.",
    ),
)
def cpp_lifetime(declared):
    names = {*NEEDS, *NEEDS.values()}
    if not isinstance(declared, (list, tuple)) or sorted(map(str, declared)) != sorted(names):
        raise Wrong(
            "`declared` does not hold the six names once each.",
            f"They are {', '.join(sorted(names))}.",
            "Write a list of these six strings.",
        )
    destroyed = cpp_build.call(cpp_build.program(cpp_programs.lifetime(declared), "lifetime")).split()
    for name, needed in NEEDS.items():
        if destroyed.index(needed) < destroyed.index(name):
            raise Wrong(
                f"C++ destroys in the order {', '.join(destroyed)}: {needed} before {name}.",
                f"The {name} still uses the {needed} when it is destroyed, and that is gone by then.",
                f"Declare {needed} before {name}. What is declared last is destroyed first.",
            )
    return f"A real program with this order destroyed {', '.join(destroyed)}: nothing before what needs it."


@exercise(
    "cpp-owner",
    points=3,
    hints=(
        "Where does the memory go when a function throws in the middle? Which function does C++ call in every case?",
        "The destructor gives the memory back. And what happens to a copy of a Buffer, which holds the same pointer?",
        "~Buffer() { release(memory_); }  Buffer(const Buffer&) = delete;  Buffer& operator=(const Buffer&) = delete;",
    ),
)
def cpp_owner(owner):
    _written(owner, "owner", "class Buffer")
    path = _program(cpp_programs.owner(owner), "owner")
    copyable, movable, *counts = map(int, cpp_build.call(path).split())
    cases = (
        "a Buffer at the end of its block",
        "a Buffer in a function that throws",
        "a copy of a Buffer",
        "a Buffer that was assigned to another",
        "a Buffer that was moved",
    )
    for case, (taken, given, foreign) in zip(cases, zip(*[iter(counts)] * 3)):
        if foreign:
            raise Wrong(
                f"With {case}, {taken} piece(s) of memory were taken, and release() was called {foreign} "
                "time(s) for memory that was no longer there.",
                "Two Buffers held the same pointer, and both gave it back. To copy a pointer copies no memory.",
                "Forbid copies: Buffer(const Buffer&) = delete; and the same for operator=.",
            )
        if given < taken:
            raise Wrong(
                f"With {case}, {taken} piece(s) of memory were taken and {given} given back.",
                "Nobody called release() for the rest. On a GPU it is lost until the program ends.",
                "Call release(memory_) in the destructor ~Buffer(), which C++ calls in every case.",
            )
    how = (
        "can be moved, not copied"
        if movable and not copyable
        else "copies its memory"
        if copyable
        else "can be neither copied nor moved"
    )
    return f"Memory came back once in every case, also after an exception. Your Buffer {how}."


@exercise(
    "cpp-preprocess",
    points=4,
    hints=(
        "At which index does the green value of row 2, column 5 stand in pixels, and at which in the result?",
        "In pixels: (row * width + column) * 3 + channel. In the result: (channel * height + row) * width + column.",
        "result[(c * height + y) * width + x] = (pixels[(y * width + x) * 3 + c] / 255.0f - MEAN[c]) / STD[c], in three "
        "loops.",
    ),
)
def cpp_preprocess(preprocess):
    _written(preprocess, "preprocess", "preprocess(")
    path = _program(cpp_programs.preprocess(preprocess), "preprocess", include=[HEADERS])
    rng, largest = np.random.default_rng(), 0.0
    for height, width in ((4, 4), (5, 9), (64, 48)):  # not square, so that swapped sides show
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            source, result = Path(folder) / "pixels.u8", Path(folder) / "image.f32"
            pixels.tofile(source)
            cpp_build.call(path, source, f"{height}x{width}", result)
            given = np.fromfile(result, np.float32)
        largest = max(largest, _same_image(given, pixels))
    return f"Three random images came out as NumPy makes them; the largest difference is {largest:.1e}."


@exercise(
    "cpp-infer",
    points=4,
    hints=(
        "It is the run of lesson 02. Which C++ call stands for each of its steps, and what does each give back?",
        "Every call that gives false or a status can fail: throw then. Lower severities are worse, so compare with <=.",
        "run_once: two setTensorAddress, cudaMemcpyAsync up, enqueueV3(stream), cudaMemcpyAsync down, "
        "cudaStreamSynchronize(stream), each looked at; log: drop what is > kWARNING, keep what is <= kERROR.",
    ),
)
def cpp_infer(infer_cpp):
    if isinstance(infer_cpp, Path):
        infer_cpp = infer_cpp.read_text()
    if not isinstance(infer_cpp, str) or "int main(" not in infer_cpp:
        raise Wrong(
            "`infer_cpp` is not the text of cpp/infer.cpp.",
            f"It is {type(infer_cpp).__name__}, without a main().",
            'Write infer_cpp = Path("cpp/infer.cpp").read_text().',
        )
    if left := infer_cpp.count("YOUR CODE HERE"):
        raise Wrong(
            f"cpp/infer.cpp still has {left} of 3 places to write.",
            "The lines YOUR CODE HERE are still there.",
            "Replace each by what the comment above it asks for, save the file, and run both cells again.",
        )
    program = _program(infer_cpp, "infer-stand-in", include=[HEADERS, STAND_IN], fast=False)
    with tempfile.TemporaryDirectory() as folder:
        _judge_infer(program, Path(folder))
    verdict = (
        "Compiled against the course's stand-in headers, it computes three batches rightly, waits for its answer, and "
        "stops with a message at five provoked failures."
    )
    tools = cpp_build.find()
    if tools.missing(link=False):
        return verdict + " TensorRT's own headers: open, they are not here."
    try:
        cpp_build.syntax(HEADERS / "infer.cpp", tools)
    except BuildError as error:
        raise Wrong(error.what, error.cause, error.next_step, share=0.5) from error
    verdict += f" cpp/infer.cpp compiles with the headers of TensorRT {tools.headers_version}."
    if not raw.can_run(raw.module()) or tools.missing():
        return verdict + " A real GPU: open, it needs TensorRT."
    return f"{verdict} {_run_infer(tools)}"


def _judge_infer(program: Path, folder: Path) -> None:
    """Run the program on the stand-in's engine: right batches, then a batch and calls that are refused."""
    source, result = folder / "in.f32", folder / "out.f32"

    def run(batch: int, plan: str = "stand-in plan") -> tuple[int, str]:
        (folder / "net.plan").write_text(plan)
        image = np.random.default_rng().normal(size=(batch, 3, 16)).astype(np.float32)
        image.tofile(source)
        result.unlink(missing_ok=True)
        words = [str(program), str(folder / "net.plan"), str(source), f"{batch}x3x4x4", str(result)]
        try:
            done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", timeout=60)
        except subprocess.TimeoutExpired:
            raise Wrong(
                "infer did not end within 60 s.", "It loops for ever.", "Look for a loop without an end."
            ) from None
        if done.returncode == 0 and plan == "stand-in plan" and batch <= 8:
            wanted = np.stack([image[:, 0] - image[:, 2], 2 * image[:, 1] - image[:, 2]], 1)
            given = np.fromfile(result, np.float32) if result.is_file() else np.zeros(0, np.float32)
            if given.size != wanted.size or np.isnan(given).any() or np.abs(given - wanted.ravel()).max() > 1e-5:
                lost = int(np.isnan(given).sum())
                raise Wrong(
                    f"At batch {batch} the answer is wrong"
                    + (f": {lost} of {given.size} values were never written." if lost else "."),
                    "The work of a stream is done when somebody waits for it; what is read before is what was there.",
                    "Addresses, copy to the GPU, enqueueV3, copy back, cudaStreamSynchronize, in this order.",
                )
        return done.returncode, done.stderr

    for batch in (2, 5, 1):
        status, said = run(batch)
        if status:
            raise Wrong(
                f"infer does not run batch {batch} (status {status}).", said.strip()[-300:] or "It said nothing.",
                "Complete set_shape and run_once.",
            )  # fmt: skip
    if "stand-in warning" not in said or "stand-in info" in said or "stand-in verbose" in said:
        raise Wrong(
            "Logger::log prints " + ("too much." if "stand-in info" in said else "no warning."),
            "Warnings and errors go to std::cerr, the rest is dropped. Lower severities are worse.",
            "if (severity > Severity::kWARNING) return;",
            share=0.75,
        )
    status, said = run(9)
    if status == 0 or "9x3x4x4" not in said or "infer:" not in said:
        raise Wrong(
            "Batch 9 lies outside the profile, and infer "
            + ("went on." if status == 0 else "does not name the shape."),
            "setInputShape gave false, and nobody looked at it." if status == 0 else f"It said: {said.strip()[-200:]}",
            "Throw a Failure in set_shape with to_text(shape) and logger.last_error.",
            share=0.5,
        )
    if "Runtime dimension" not in said.split("infer:")[-1]:
        raise Wrong(
            "The reason is missing in the message about batch 9.",
            "TensorRT's text went to the logger, and last_error does not hold it.",
            "Keep the text in Logger::log (<= kERROR), and add logger.last_error to the Failure.",
            share=0.5,
        )
    for call in ("setTensorAddress", "enqueueV3", "cudaMemcpyAsync", "cudaStreamSynchronize"):
        status, said = run(2, f"stand-in plan fail={call}")
        if status == 0:
            raise Wrong(
                f"{call} failed, and infer went on as if nothing had happened.",
                "What it gave back was not looked at.",
                "TensorRT's calls give false: throw a Failure. CUDA's give a status: check(..., what it did).",
                share=0.5,
            )


def _run_infer(tools: cpp_build.Toolchain) -> str:
    """Build infer, run it on a fresh input, compare with PyTorch; try a shape that the engine must refuse."""
    from course.exercises.stage1_converter import api_by_hand

    folder = cpp_build.FOLDER
    program = cpp_build.build(HEADERS, tools, tell=lambda line: None)
    plan, source, result = (folder / name for name in ("check.plan", "check-in.f32", "check-out.f32"))
    plan.write_bytes(api_by_hand.reference_plan())
    largest = 0.0
    try:
        for count in (2, 5):
            image = api_by_hand.random_images(count)
            image.tofile(source)
            cpp_build.call(program, plan, source, f"{count}x3x224x224", result)
            given = np.fromfile(result, np.float32).reshape(count, 64, 56, 56)
            largest = max(largest, api_by_hand.compare(given, image, share=0.5))
    except Wrong:
        raise
    except (CourseError, ValueError) as error:
        raise Wrong(
            "infer did not give an answer.", str(error), "Complete the three places in cpp/infer.cpp.", share=0.5
        ) from error
    np.zeros((9, 3, 224, 224), np.float32).tofile(source)
    try:
        cpp_build.call(program, plan, source, "9x3x224x224", result)
    except CourseError as error:
        if "9x3x224x224" in str(error):
            return f"On the GPU it differs from PyTorch by {largest:.1e} at most, and refuses batch 9 with a message."
        raise Wrong(
            "For batch 9, which the profile does not take, the message does not name the shape.",
            str(error),
            "Throw a Failure in set_shape with to_text(shape) when setInputShape gives false.",
            0.75,
        ) from error
    raise Wrong(
        "infer took batch 9, which the profile does not take.",
        "Nobody looked at what setInputShape gave back.",
        "Throw a Failure in set_shape when it gives false.",
        share=0.75,
    )


@reference("cpp-preprocess")
def _preprocess():
    return r"""
std::vector<float> preprocess(const std::uint8_t* pixels, int height, int width) {
    std::vector<float> result(static_cast<std::size_t>(3) * height * width);
    for (int c = 0; c < 3; ++c)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x)
                result[(c * height + y) * width + x] =
                    (pixels[(y * width + x) * 3 + c] / 255.0f - MEAN[c]) / STD[c];
    return result;
}
"""


def _written(code: object, name: str, words: str) -> None:
    if not isinstance(code, str) or "YOUR CODE HERE" in code:
        raise Wrong(
            f"`{name}` is not written yet.",
            "Its C++ code is still missing.",
            "Replace the line YOUR CODE HERE by C++.",
        )
    if words not in code:
        raise Wrong(
            f"`{name}` does not define {words.rstrip('(')}.",
            "The check calls it by this name.",
            "Keep the first lines of the cell.",
        )


def _program(code: str, name: str, include=(), fast=True) -> Path:
    try:
        return cpp_build.program(code, name, include=include, fast=fast)
    except BuildError as error:
        raise Wrong("Your C++ does not compile.", error.cause, error.next_step) from error


def _same_image(given: np.ndarray, pixels: np.ndarray) -> float:
    height, width, _ = pixels.shape
    mean, std = np.float32(IMAGENET_MEAN), np.float32(IMAGENET_STD)
    unit = pixels.astype(np.float32) / 255
    wanted = ((unit - mean) / std).transpose(2, 0, 1)
    if given.size != wanted.size:
        raise Wrong(
            f"For {height} x {width} pixels your result has {given.size} values; {wanted.size} are needed.",
            "Three channels of height x width each.",
            "Make the vector with 3 * height * width values.",
        )
    difference = float(np.abs(given - wanted.ravel()).max())
    if difference <= 1e-5:
        return difference
    others = {
        "The values still stand as RGB, RGB, …: channel last. The network wants all red values first.": (unit - mean)
        / std,
        "The values were not divided by 255.": ((pixels.astype(np.float32) - mean) / std).transpose(2, 0, 1),
        "Mean and deviation are missing: these are values from 0 to 1.": unit.transpose(2, 0, 1),
        "Red and blue are swapped.": ((unit[..., ::-1] - mean) / std).transpose(2, 0, 1),
        "Rows and columns are swapped.": ((unit - mean) / std).transpose(2, 1, 0),
        "The division pixels / 255 was made with whole numbers, which gives 0 or 1.": (
            ((pixels // 255).astype(np.float32) - mean) / std
        ).transpose(2, 0, 1),
    }
    cause = next(
        (text for text, other in others.items() if np.abs(given - other.ravel()).max() <= 1e-4),
        "Some index or number is off.",
    )
    first = int(np.abs(given - wanted.ravel()).argmax())
    raise Wrong(
        f"For {height} x {width} pixels value {first} is {given[first]:.3f}, NumPy's {wanted.ravel()[first]:.3f}.",
        cause,
        "Write down the index of one value in both arrays, and compare with your loops.",
    )


def _in_library(word: str) -> bool | None:
    """Whether TensorRT's own library holds the word; None where it cannot be looked at."""
    try:
        raw.module()
        with open("/proc/self/maps") as maps:
            files = {
                line.split(None, 5)[5].strip()
                for line in maps
                if "libnvinfer.so" in line or "libtensorrt_rtx.so" in line
            }
        for file in files:
            with open(file, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if data.find(word.encode()) >= 0:
                    return True
        return False if files else None
    except (OSError, CourseError):
        return None
