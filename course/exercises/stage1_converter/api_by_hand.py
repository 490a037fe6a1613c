"""Checks of lesson 1.02, "The API by hand": networks, profiles and runs made with TensorRT's own objects."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import numpy as np
import torch

from course.by_hand import fakes, network_onnx, raw
from course.engine import BuildConfig, Profile, build, log
from course.errors import CourseError
from course.exercises import Wrong, exercise
from course.exercises import reference as course_answer
from course.export.parity import run_torch

SIDE = 224
MAKES = {
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "plan": "IHostMemory",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
}
TOLERANCE = 1e-4  # of the largest value; FP32 sums in another order differ by some 1e-6 of it


@exercise(
    "makers",
    points=2,
    hints=(
        'Look at the picture: an arrow means "makes". Which object stands at the other end of each arrow?',
        "help(trt.Builder) lists its calls. After -> stands the class of what each one gives back.",
        "The builder makes network, config, profile and plan. A runtime makes the engine, an engine makes the context.",
    ),
)
def makers(makers):
    if isinstance(makers, dict) and set(makers) == {"network"}:
        raise NotImplementedError
    trt = raw.module()
    if not isinstance(makers, dict) or set(makers) != set(MAKES):
        raise Wrong(
            "`makers` does not have the six names.",
            f"It must be a dict with {', '.join(MAKES)}.",
            'Write entries such as "network": "Builder.create_network".',
        )
    for name, wanted in MAKES.items():
        owner, _, method = str(makers[name]).partition(".")
        call = getattr(getattr(trt, owner, None), method, None) if method else None
        if call is None:
            there = f"a class {owner}, without {method}" if hasattr(trt, owner) else f"no class {owner}"
            raise Wrong(
                f'"{name}": {makers[name]!r} is no call of {trt.__name__}.',
                f"The module has {there}.",
                "Write Class.call as in help(trt.Builder), help(trt.Runtime), help(trt.ICudaEngine).",
            )
        found = re.findall(r"->\s*(?:[\w]+\.)*(\w+)", call.__doc__ or "")
        if wanted not in found:
            given = f"gives back {found[0]}" if found else "gives nothing back"
            raise Wrong(
                f'"{name}": {makers[name]} {given}, not {wanted}.',
                "A build gives bytes, the plan. Only a runtime makes an engine of them, and only an engine "
                "makes a context."
                if name in ("plan", "engine", "context")
                else "The first line of its help says what it makes.",
                f"Look for the call with -> {wanted}.",
            )
    return f"All six calls exist in {trt.__name__} {trt.__version__} and give back what you say."


@exercise(
    "define",
    points=4,
    hints=(
        "PyTorch's three modules say it all: print(stem). Which of their numbers has no place in your code yet?",
        "Each add_... call gives a layer; layer.get_output(0) is what the next one takes. Stride and padding are "
        "attributes of the layer: stride_nd, padding_nd.",
        "Convolution 7 x 7, stride 2, padding 3; RELU; MAX pooling 3 x 3, stride 2, padding 1. Name the last output "
        "features, then network.mark_output(it).",
    ),
)
def define(define):
    trt = raw.module()
    _builder, network = raw.new_builder(trt)
    _call(define, "define(network)", network)
    difference = _judge_network(trt, network)
    return (
        f"{network.num_layers} layers. At batch 1 and 3 the largest difference from PyTorch is {difference:.1e}; "
        "ONNX Runtime computed what your network says."
    )


@exercise(
    "configure",
    points=3,
    hints=(
        "Three things are asked: a limit, a profile, and that the config knows the profile. Which call does the third?",
        "set_memory_pool_limit takes trt.MemoryPoolType.WORKSPACE and bytes. profile.set_shape takes the input's name and "
        "three shapes: smallest, usual, largest.",
        'profile.set_shape("image", (1, 3, 224, 224), (4, 3, 224, 224), (8, 3, 224, 224)), then '
        "config.add_optimization_profile(profile).",
    ),
)
def configure(configure):
    trt = raw.module()
    builder, network = raw.new_builder(trt)
    reference(trt, network)
    answer = _call(configure, "configure(builder)", builder)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise Wrong(
            f"configure(builder) gave back {type(answer).__name__}.",
            "Two things were asked for.",
            "End it with: return config, profile",
        )
    config: trt.IBuilderConfig = answer[0]
    profile: trt.IOptimizationProfile = answer[1]
    limit = config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
    with log.capture() as lines:
        plan = builder.build_serialized_network(network, config)
    if config.num_optimization_profiles == 0:
        raise Wrong(
            "The config holds no profile.",
            f"A profile belongs to a build only after it was added, and only if it is valid. TensorRT says: "
            f'"{raw.first_error(lines)}"',
            "Call config.add_optimization_profile(profile) last; it gives -1 for a profile it refuses "
            "(smallest <= usual <= largest).",
        )
    if limit != 256 << 20:
        raise Wrong(
            f"The workspace limit is {limit:,} bytes.",
            "The limit counts bytes. 256 MiB are 256 * 1024 * 1024 of them."
            + ("" if plan else f' The build failed: "{raw.first_error(lines)}"'),
            "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 256 << 20)",
            share=0.5 if plan else 0.0,
        )
    if plan is None:
        raise Wrong(
            "This config builds no plan.",
            f'TensorRT says: "{raw.first_error(lines)}"',
            "Compare the profile's name and shapes with the network's input, image [-1, 3, 224, 224].",
        )
    shapes = tuple(tuple(shape) for shape in profile.get_shape("image"))
    wanted = tuple((n, 3, SIDE, SIDE) for n in (1, 4, 8))
    if shapes != wanted:
        raise Wrong(
            f"The profile takes batch {shapes[0][0]}, usually {shapes[1][0]}, at most {shapes[2][0]}.",
            "Batch 1, usually 4, at most 8 was asked. TensorRT tunes for the usual one and refuses what lies outside.",
            "Change the three shapes in set_shape.",
            share=0.5,
        )
    return f"{trt.__name__} built a plan of {plan.nbytes / 1e3:.0f} kB for batch 1 to 8 with it."


@exercise(
    "repair",
    points=3,
    hints=(
        "Build, read the first error in the log, change one thing, build again. How many rounds until a plan comes out?",
        "The errors name a count of weights, an input without dimensions in the profile, a missing output. Each belongs to "
        "one line of broken().",
        'Give trt.Weights the whole kernel; mark the output; the profile must be for "image", the name of the input.',
    ),
)
def repair(repaired):
    trt = raw.module()
    builder, first = raw.new_builder(trt)
    answer = _call(repaired, "repaired(builder)", builder)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise Wrong(
            f"repaired(builder) gave back {type(answer).__name__}.",
            "It must give what broken gave.",
            "End it with: return network, config",
        )
    network, config = answer
    with log.capture() as lines:
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Wrong(
            "It still builds no plan.",
            f'The first error is now: "{raw.first_error(lines)}"',
            "Find the line that this message is about, change it, run both cells again.",
        )
    difference = _judge_network(trt, network)
    return f"It builds ({plan.nbytes / 1e3:.0f} kB), and differs from PyTorch by {difference:.1e} at most."


@exercise(
    "bytes",
    points=3,
    hints=(
        "How many numbers does the tensor hold at this batch size, and how many bytes is one of them?",
        "tensor.shape holds -1 where the batch goes; tensor.dtype.itemsize is the size of one number in bytes.",
        "Multiply batch * shape[1] * shape[2] * ... * itemsize; math.prod(tensor.shape[1:]) is the middle part.",
    ),
)
def buffer_bytes(buffer_bytes):
    trt = raw.module()
    _builder, network = raw.new_builder(trt)
    tried = []
    for number, (dtype, item, shape) in enumerate(
        ((trt.float32, 4, (-1, 3, 5, 7)), (trt.float16, 2, (-1, 9)), (trt.int32, 4, (-1, 6)), (trt.int8, 1, (-1, 1000)))
    ):
        tensor = network.add_input(f"input_{number}", dtype, shape)
        for batch in (1, 6):
            given = _call(buffer_bytes, "buffer_bytes(tensor, batch)", tensor, batch)
            wanted = raw.size_in_bytes((batch, *shape[1:]), item)
            if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
                raise Wrong(f"It gave {given!r}.", "An allocation takes a whole number of bytes.", "Return an int.")
            if given != wanted:
                raise _wrong_bytes(int(given), wanted, batch, item, shape, dtype.name)
            tried.append(wanted)
    return f"Right for {len(tried)} buffers from {min(tried)} to {max(tried)} bytes, of 1, 2 and 4 bytes a number."


def _wrong_bytes(given: int, wanted: int, batch: int, item: int, shape, dtype: str) -> Wrong:
    if given < 0:
        cause = "The open dimension is -1, and it went into the product."
    elif given * item == wanted and item > 1:
        cause = f"That is the number of values. Each {dtype} takes {item} bytes."
    elif given == wanted // item * 4:
        cause = f"That counts 4 bytes for each value; {dtype} takes {item}."
    elif given * batch == wanted:
        cause = "That is one item of the batch, not the whole batch."
    else:
        cause = "A buffer holds batch x all other sides x bytes of one value."
    return Wrong(
        f"For {dtype} {list(shape)} at batch {batch} it gave {given} bytes; {wanted} are needed.",
        cause,
        "Use batch in place of -1, and tensor.dtype.itemsize.",
    )


@exercise(
    "by-hand",
    points=4,
    hints=(
        "For each call ask: what must already be there? A run needs every address, and the image on the GPU.",
        "Copies and the run only join the stream's queue. The stream keeps their order; what must Python do before it "
        "reads?",
        "set_tensor_address for both; memcpy_htod_async(gpu_in, host_in, stream); execute_async_v3(stream.handle); "
        "memcpy_dtoh_async(host_out, gpu_out, stream); stream.synchronize().",
    ),
)
def by_hand(run_by_hand):
    for count in (2, 5):  # two sizes, so that a shape set once for all is found
        driver = fakes.Driver()
        context = fakes.Context(
            driver,
            ("image", "features"),
            lambda image: run_torch(stem(), [image])[0],
            lambda shape: (shape[0], 64, SIDE // 4, SIDE // 4),
            largest=8,
        )
        image = random_images(count)
        given = np.asarray(_call(run_by_hand, "run_by_hand(cuda, context, image)", driver, context, image))
        if np.isnan(given).any():
            raise Wrong(
                "The answer holds values that nobody has computed.",
                _never_arrived(driver.calls),
                "The order is: addresses, copy to the GPU, run, copy back, wait; then read.",
            )
        largest = compare(given, image)
    verdict = (
        f"On the course's stand-in, whose stream does its work only when you wait, it differs from PyTorch by "
        f"{largest:.1e} at most, at batch 2 and 5."
    )
    trt = raw.module()
    if not raw.can_run(trt):
        return verdict + " A real GPU: open, it needs TensorRT."
    try:
        cuda = raw.pycuda_driver()
    except CourseError as error:
        return f"{verdict} A real GPU: open. {error}"
    runtime = trt.Runtime(log.trt_logger(trt))
    engine = runtime.deserialize_cuda_engine(reference_plan())
    context = engine.create_execution_context()
    largest = 0.0
    for count in (2, 5):
        image = random_images(count)
        given = _call(run_by_hand, "run_by_hand(cuda, context, image)", cuda, context, image, share=0.5)
        largest = max(largest, compare(np.asarray(given), image, share=0.5))
    return f"{verdict} On the GPU it differs by {largest:.1e}."


def _never_arrived(calls: list[str]) -> str:
    """Why the answer is not there, from what was called."""
    place = {call: index for index, call in reversed(list(enumerate(calls)))}
    run = place.get("execute_async_v3")
    if run is None:
        return "execute_async_v3 was never called, so the GPU computed nothing."
    copies = {
        "memcpy_htod": "the image was never copied to the GPU",
        "memcpy_dtoh": "the features were never copied back",
    }
    for name, text in copies.items():
        if name not in place and f"{name}_async" not in place:
            return f"It ran, but {text}."
    if min(place.get("memcpy_htod", 1 << 30), place.get("memcpy_htod_async", 1 << 30)) > run:
        return "The image was copied to the GPU only after the run."
    if "synchronize" not in calls[max(place.get("memcpy_dtoh", 0), place.get("memcpy_dtoh_async", 0)) :]:
        return "Nobody waited after the copy back: the calls return at once, and the work is done later."
    return "Some call stood on another stream or in another order than the one before it needs."


@functools.cache
def stem() -> torch.nn.Sequential:
    """The first three layers of ResNet-50: convolution with its batch norm folded in, ReLU, max pooling."""
    from course.models import resnet50

    model = resnet50()
    convolution = torch.nn.utils.fuse_conv_bn_eval(model.conv1, model.bn1)
    return torch.nn.Sequential(convolution, torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2, 1)).eval()


def reference(trt, network) -> None:
    """Fill `network` with the three layers, as the exercises ask."""
    convolution = stem()[0]
    image = network.add_input("image", trt.float32, (-1, 3, SIDE, SIDE))
    layer = network.add_convolution_nd(
        image,
        64,
        (7, 7),
        trt.Weights(convolution.weight.detach().numpy()),
        trt.Weights(convolution.bias.detach().numpy()),
    )
    layer.stride_nd, layer.padding_nd = (2, 2), (3, 3)
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.MAX, (3, 3))
    layer.stride_nd, layer.padding_nd = (2, 2), (1, 1)
    layer.get_output(0).name = "features"
    network.mark_output(layer.get_output(0))


@functools.cache
def reference_plan() -> bytes:
    trt = raw.module()
    builder, network = raw.new_builder(trt)
    reference(trt, network)
    config = builder.create_builder_config()
    raw.plain_settings(trt, config)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((n, 3, SIDE, SIDE) for n in (1, 4, 8)))
    config.add_optimization_profile(profile)
    with log.capture() as lines:
        plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise CourseError("The check's own network could not be built.", raw.first_error(lines), "Run `course doctor`.")
    return bytes(plan)


def _judge_network(trt, network) -> float:
    """The largest difference from PyTorch; raises Wrong for what is missing or different."""
    inputs, outputs = raw.tensors(network)
    if [(spec.name, spec.shape) for spec in inputs] != [("image", (-1, 3, SIDE, SIDE))]:
        found = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs) or "none"
        fixed = [spec for spec in inputs if -1 not in spec.shape]
        raise Wrong(
            f"The inputs are: {found}.",
            "The batch size is fixed, so that the engine would take no other."
            if fixed
            else "One input was asked for: image [-1, 3, 224, 224].",
            'network.add_input("image", trt.float32, (-1, 3, 224, 224)); -1 leaves the batch open.',
        )
    if not outputs:
        raise Wrong(
            "No output is marked.",
            "A network without an output computes nothing that anybody could see, so TensorRT refuses it.",
            "Call network.mark_output(tensor) with the last layer's output.",
        )
    if [spec.name for spec in outputs] != ["features"]:
        raise Wrong(
            f"The outputs are called {', '.join(repr(spec.name) for spec in outputs)}.",
            "Whoever runs the engine asks for its tensors by name, here for features.",
            'Set tensor.name = "features" on the last output and mark only this one.',
            share=0.5,
        )
    if outputs[0].shape[1:] != (64, 56, 56):
        shape = " x ".join(map(str, outputs[0].shape[1:]))
        raise Wrong(
            f"Your features are {shape}, PyTorch's 64 x 56 x 56.",
            "A side becomes (side + 2 * padding - kernel) // stride + 1, in the convolution and again in the "
            "pooling. TensorRT starts with stride 1 and padding 0.",
            "Compare kernel, stride_nd and padding_nd of both layers with print(stem).",
        )
    model = network_onnx.to_onnx(trt, network)
    largest = 0.0
    with build(model, BuildConfig(runtime="onnxruntime", profiles=(Profile.batch(model, 1, 2, 3),))) as engine:
        for count in (1, 3):
            image = random_images(count)
            largest = max(largest, compare(engine.run({"image": image})["features"], image))
    return largest


def compare(given: np.ndarray, image: np.ndarray, share: float = 0.0) -> float:
    """Largest difference; raises Wrong, and names the mistake whose result this is."""
    given = np.asarray(given)
    pixels, (convolution, relu, pool) = torch.from_numpy(image), stem()
    with torch.inference_mode():
        inner = convolution(pixels)
        wanted = pool(relu(inner)).numpy()
        no_bias = pool(relu(inner - convolution.bias[:, None, None])).numpy()
        averaged = torch.nn.AvgPool2d(3, 2, 1, count_include_pad=False)(relu(inner)).numpy()
        mirrored = pool(
            relu(
                torch.nn.functional.conv2d(
                    pixels, convolution.weight.transpose(2, 3).contiguous(), convolution.bias, 2, 3
                )
            )
        ).numpy()
        unclipped = pool(inner).numpy()
    if given.shape != wanted.shape:
        raise Wrong(
            f"The answer has shape {list(given.shape)}, PyTorch's {list(wanted.shape)}.",
            f"The batch was {len(image)}.",
            "Use the shape of the image that came in.",
            share,
        )
    scale = float(np.abs(wanted).max())
    difference = float(np.abs(given - wanted).max())
    if np.isfinite(difference) and difference <= TOLERANCE * scale:
        return difference
    names = {
        "The bias is missing": no_bias,
        "The pooling takes the average, not the maximum": averaged,
        "There is no ReLU": unclipped,
        "Height and width of the kernel are swapped": mirrored,
    }
    cause = next(
        (
            f"{name}: with that mistake PyTorch gives exactly your answer."
            for name, other in names.items()
            if np.abs(given - other).max() <= TOLERANCE * scale
        ),
        "Some layer computes something else.",
    )
    raise Wrong(
        f"The answer differs from PyTorch by up to {difference:.2g}; its largest value is {scale:.2g}.",
        cause,
        "Compare layer by layer with print(stem).",
        share,
    )


def random_images(count: int) -> np.ndarray:
    """Fresh random images with the mean and spread that the network is used to."""
    return np.random.default_rng().normal(size=(count, 3, SIDE, SIDE)).astype(np.float32)


def _call(function: Callable, words: str, *arguments, share: float = 0.0):
    if not callable(function):
        raise Wrong(f"`{words.partition('(')[0]}` is no function.", f"It is {function!r}.", f"Define {words}.")
    try:
        return function(*arguments)
    except CourseError:
        raise
    except NotImplementedError:
        raise Wrong(
            f"{words} is not written yet.",
            "It still raises NotImplementedError.",
            "Write your code in its place, run the cell, then this one again.",
            share,
        ) from None
    except Exception as error:
        text = str(error).strip().splitlines()
        raise Wrong(
            f"{words} stopped.",
            f"{type(error).__name__}: {text[0] if text else ''}",
            "Call it in a cell of its own to see where.",
            share,
        ) from error


@course_answer("define")
def _define():
    return lambda network: reference(raw.module(), network)


def configured(builder):
    """The course's answer: TensorRT's builder in, its config with one profile and that profile out."""
    trt = raw.module()
    config = builder.create_builder_config()
    raw.plain_settings(trt, config)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 256 << 20)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((n, 3, SIDE, SIDE) for n in (1, 4, 8)))
    config.add_optimization_profile(profile)
    return config, profile


@course_answer("configure")
def _configure():
    return configured


def ran_by_hand(cuda, context, image: np.ndarray):
    """The course's answer: what the context makes of image, float32 [N, 3, 224, 224], with the calls of PyCUDA."""
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = (cuda.pagelocked_empty(sides, np.float32) for sides in (image.shape, shape))
    gpu_in, gpu_out = (cuda.mem_alloc(4 * int(np.prod(sides))) for sides in (image.shape, shape))
    stream = cuda.Stream()
    host_in[...] = image
    context.set_tensor_address("image", int(gpu_in))
    context.set_tensor_address("features", int(gpu_out))
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    if not context.execute_async_v3(stream.handle):
        raise RuntimeError("TensorRT refused to run; read its log.")
    cuda.memcpy_dtoh_async(host_out, gpu_out, stream)
    stream.synchronize()
    return host_out.copy()


@course_answer("by-hand")
def _run_by_hand():
    return ran_by_hand
