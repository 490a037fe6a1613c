"""Milestones of stage 3, the plugin developer."""

from __future__ import annotations

from autograder.artifacts.cuda_plugin import CudaPlugin
from autograder.artifacts.onnx import Onnx
from autograder.artifacts.script import Script
from autograder.checks.base import Ramp
from autograder.checks.custom_nodes import CustomNodes
from autograder.checks.kernel_right import KernelRight
from autograder.checks.plugin_build import PluginBuild
from autograder.checks.plugin_contract import PluginContract
from autograder.checks.plugin_engine import PluginEngine
from autograder.checks.plugin_speed import PluginSpeed
from autograder.milestones.declare import Check, Milestone
from autograder.tasks.operator import Operator

PLUGIN, NETWORK, BUILD = "m3a", "artifacts/mish_net.onnx", "m3a/build_engine.py"
NODES, SAMPLE = 4, (3, 64, 64)
MISH = Operator(
    "course.models.mish:mish",
    node="CourseMish",
    launcher="launchMish",
    attributes=(("beta", 0.5, 2.0),),
    model="course.models.mish:mish_net",
    onnx="course.models.mish:onnx_function",
)

ACTIVATION = Milestone(
    id="s3.m3a",
    stage="stage3_plugins",
    notebook="06_activation_milestone",
    grade_id="m-s3-m3a",
    title="An activation as a plugin",
    task=MISH,
    artifacts=(
        CudaPlugin(PLUGIN, stem="activation"),
        Onnx(NETWORK, max_mb=4, allow_ops=("course.CourseMish",)),
        Script(BUILD),
    ),
    memory_gb=6.0,
    checks=(
        Check(
            id="kernel",
            title="The kernels are right at every size",
            points=4,
            lanes=dict.fromkeys(("cpu", "gpu"), KernelRight()),
            artifact=PLUGIN,
            on_fail="The kernels do not compute the activation everywhere.",
            hints=(
                "Which sizes did you try that are no multiple of the block, and which values beyond 90?",
                "Look at the last elements, at a size of 1 and of 0, and at what e^z is for a large z in FP32 and in FP16.",
                "Guard the tail, compute in float for both types, and use that tanh(softplus(z)) is 1 where e^z would overflow.",
            ),
        ),
        Check(
            id="contract",
            title="The plugin keeps TensorRT's contract",
            points=4,
            lanes=dict.fromkeys(("cpu", "gpu"), PluginContract()),
            artifact=PLUGIN,
            on_fail="The class does not do all that TensorRT relies on.",
            hints=(
                "In which order does TensorRT call the methods, and which of them see a shape that will not be the real one?",
                "Run course.native.plugin.examine in the notebook: each finding names the method and says what to do.",
                "The shape comes from inputDesc in enqueue; serialize, clone and createPlugin each carry beta; the type of the first "
                "tensor decides about the others.",
            ),
        ),
        Check(
            id="network",
            title="The network uses the node",
            points=3,
            lanes=dict.fromkeys(("cpu", "gpu"), CustomNodes(nodes=NODES, sample=SAMPLE)),
            artifact=NETWORK,
            on_fail="The network with your nodes is not the network.",
            hints=(
                "Which nodes of the exported file does one activation consist of, and where does its beta stand?",
                "Look for the Softplus, then for what comes before and behind it; keep the names of the tensors at both ends.",
                "One node CourseMish of the domain course for each Mul, Softplus, Tanh, Mul, with beta as a float attribute; the "
                "domain course stands in opset_import.",
            ),
        ),
        Check(
            id="build-script",
            title="The build script",
            points=3,
            lanes=dict.fromkeys(("cpu", "gpu"), PluginBuild()),
            artifact=BUILD,
            on_fail="The build script does not ask TensorRT for all that it was told to.",
            hints=(
                "What must TensorRT know before its parser comes to a node of yours, and how do you learn that it did not?",
                "Follow one build: library, parser, config, profile, plan. Which of these calls fail without an error?",
                "Open the library first; raise when parse_from_file gives False or build_serialized_network None; the flag FP16 "
                "only if it is asked for; one profile with the three shapes.",
            ),
        ),
        Check(
            id="engine",
            title="An engine with the plugin, saved and read again",
            points=2,
            lanes={"gpu": PluginEngine(NETWORK, BUILD, nodes=NODES, sample=SAMPLE)},
            artifact=PLUGIN,
            needs=("kernel", "contract", "network"),
            on_fail="TensorRT does not run the network with the plugin as it must.",
            hints=(
                "What does a new process know of your plugin when it reads the engine?",
                "Compare what serialize writes with what deserializePlugin reads, and the creator's name with the node's.",
                "Run build_engine.py with your network and your library on the GPU, and read TensorRT's log.",
            ),
        ),
        Check(
            id="faster",
            title="Faster than the unfused layers",
            points=2,
            lanes={"gpu": PluginSpeed(Ramp(zero=1.0, full=2.0, dead_band=0.05), "unfused")},
            artifact=PLUGIN,
            needs=("kernel", "contract"),
            on_fail="The plugin is not as much faster than four layers as one pass over memory allows.",
            hints=(
                "How often does each of the two versions read and write every element?",
                "Look at how many bytes a thread reads at once: nvcc.inspect shows it.",
                "Read and write 16 bytes a thread, and compute the activation in registers.",
            ),
        ),
        Check(
            id="bandwidth",
            title="Near the speed of a copy",
            points=2,
            lanes={"gpu": PluginSpeed(Ramp(zero=0.40, full=0.85, dead_band=0.02), "copy")},
            artifact=PLUGIN,
            needs=("kernel", "contract"),
            on_fail="The kernel does not keep the memory busy.",
            hints=(
                "How many bytes are on their way at a time, with your grid and your loads?",
                "In FP16 a thread that handles one element moves 2 bytes: a warp then asks for 64 bytes at once.",
                "Loads and stores of 16 bytes, a grid that fills the GPU, __expf, and one division.",
            ),
        ),
    ),
)

MILESTONES = (ACTIVATION,)
