"""Milestones of stage 1, the converter."""

from __future__ import annotations

from autograder.artifacts.onnx import Onnx
from autograder.checks.accuracy import Accuracy
from autograder.checks.base import Ramp
from autograder.checks.detection import Detection
from autograder.checks.dynamic_batch import DynamicBatch
from autograder.checks.dynamic_shape import DynamicShape
from autograder.checks.speed import Speed
from autograder.milestones.declare import Check, Milestone
from autograder.tasks.detector import Detector

AGREEMENT = Ramp(zero=0.90, full=0.98, dead_band=0.01)
DROP = Ramp(zero=0.05, full=0.01, dead_band=0.01)

LIMITS_S = {"build": 600.0, "run": 100.0, "all": 900.0}
"""Seconds. On two cores with five processes at work, our own file of milestone 1 took less than 10 for its longest run, and 206
for all that was asked of it."""

RESNET50_FP16 = Milestone(
    id="s1.m1",
    stage="stage1_converter",
    notebook="07_resnet50_fp16",
    grade_id="m-s1-m1",
    title="ResNet-50 to FP16",
    artifacts=(Onnx("artifacts/resnet50.onnx", max_mb=128),),
    limits_s=LIMITS_S,
    checks=(
        Check(
            id="dynamic-batch",
            title="The batch size is open",
            points=4,
            lanes={"cpu": DynamicBatch(), "gpu": DynamicBatch()},
            on_fail="The model must take a float32 batch [batch, 3, 224, 224] of any size.",
            hints=(
                "Which dimension of the input was a fixed number when you exported, and which should be a name?",
                "course.export.export has the argument `dynamic`. It says which axis of which input is open.",
                'Export with dynamic={"image": {0: "batch"}} and look at the input of the file again.',
            ),
        ),
        Check(
            id="answers",
            title="The ONNX file gives PyTorch's answers",
            points=4,
            lanes=dict.fromkeys(
                ("cpu", "gpu"),
                Accuracy("fp32", AGREEMENT, DROP, error=Ramp(zero=0.3, full=0.01), runtime="onnxruntime"),
            ),
            on_fail="The file's answers on new images are not those of the shipped ResNet-50.",
            hints=(
                "Compare a few logits of both networks on the same image. Are they close, or of another network?",
                "Did you export the shipped weights, in eval mode, and no preprocessing with them?",
                "Export course.models.resnet50() as it is; then check_parity says on real images how close it is.",
            ),
        ),
        Check(
            id="fp16",
            title="FP16 keeps the answers",
            points=4,
            lanes={
                "cpu": Accuracy("fp16", AGREEMENT, DROP, error=Ramp(zero=0.3, full=0.03), runtime="onnxruntime"),
                "gpu": Accuracy(
                    "fp16",
                    AGREEMENT,
                    DROP,
                    error=Ramp(zero=0.3, full=0.03),
                    min_float16=0.7,
                    images=256,
                    hidden_images=512,
                    batch=32,
                ),
            },
            on_fail="In FP16 the answers change, or the layers stay in FP32.",
            hints=(
                "FP16 has 11 bits and ends at 65504. Which values in the network may be too large or too fine for it?",
                "The grader makes FP16 itself. Does your file hold casts or constants that keep layers in FP32?",
                "Hand in the plain FP32 export: float32 weights, no Cast, no QuantizeLinear.",
            ),
        ),
        Check(
            id="speed",
            title="Faster than PyTorch eager",
            points=4,
            lanes={
                # docs/results/m1_cpu_threshold.json: an honest export reached 1.5 to 1.8 (two cores, six
                # other programs); twice the work would reach 0.9.
                "cpu": Speed(
                    "fp32",
                    batches=(1, 4),
                    ratio=Ramp(zero=1.0, full=1.25, dead_band=0.1),
                    rounds=16,
                    max_seconds=40.0,
                ),
                "gpu": Speed("fp16", batches=(8,), ratio=Ramp(zero=1.5, full=3.0, dead_band=0.2), rounds=200),
            },
            needs=("dynamic-batch", "answers"),
            on_fail="The engine is not as much faster than PyTorch as the exported network allows.",
            hints=(
                "How many nodes does your file have? How many layers has the network?",
                "A runtime folds batch normalisation into the convolution before it. Did something keep it from that?",
                "Export once more with simplify=True from the untouched network; compare the node counts.",
            ),
        ),
        Check(
            id="speed-64",
            title="Faster than PyTorch eager at batch 64",
            points=4,
            lanes={"gpu": Speed("fp16", batches=(64,), ratio=Ramp(zero=1.5, full=3.0, dead_band=0.2), rounds=100)},
            needs=("fp16",),
            on_fail="At batch 64 the FP16 engine is not three times as fast as PyTorch.",
            hints=(
                "At a large batch the GPU's arithmetic decides. What does FP16 change about it?",
                "Tensor cores run a layer only if nothing around it forces another precision.",
                "Look at Engine.layers(): each layer whose output is float32 is one that FP16 did not reach.",
            ),
        ),
    ),
)

# docs/results/m1b_map_noise.json: on a CPU, 16 draws of 64 scenes of 320 px, and as many of 416 px. The mAP itself varies
# by 1.3 to 1.5 points (standard deviation), the loss of one and the same detector far less: FP32 in another runtime lost
# 0.00 points, FP16 arithmetic 0.01 at most (deviation 0.03, worst draw 0.07), bfloat16 0.02 (0.19), weights of 8 bits
# 0.07 to 0.09 (0.28), of 6 bits 3.0 to 3.6 (0.7). So half a point is out of FP16's reach on 64 scenes, and the dead band
# covers most of one deviation of a coarser engine. On an H100 TensorRT's FP16 lost 0.06 to 0.09 points at 320 px and
# none at 416 px, of 128 scenes (docs/results/h100/m1b).
MAP_DROP = Ramp(zero=0.02, full=0.005, dead_band=0.002)


def _detector_speed(size: int) -> Check:
    return Check(
        id=f"speed-{size}",
        title=f"Faster than PyTorch eager at {size} px",
        points=4,
        lanes={
            # docs/results/m1b_cpu_threshold.json: at batch 1 an honest export reached 1.56 to 2.05 (two busy cores), at
            # batch 4 and 8 as little as 1.30; twice the work would reach 0.8 to 1.0.
            "cpu": Speed(
                "fp32",
                batches=(1,),
                sizes=(size,),
                ratio=Ramp(zero=1.0, full=1.25, dead_band=0.1),
                rounds=24,
                max_seconds=30.0,
            ),
            # docs/results/h100/m1b: at batch 8 an honest export reached 3.30 to 4.18 times PyTorch eager, at batch 64
            # 1.77 to 1.98, with the quick build below. Three times is out of its reach at batch 64, so that batch has
            # a threshold of its own; twice the work would reach 0.9 to 1.0 there.
            "gpu": Speed(
                "fp16",
                batches=(8, 64),
                sizes=(size,),
                ratio={8: Ramp(zero=1.5, full=3.0, dead_band=0.2), 64: Ramp(zero=1.0, full=1.5, dead_band=0.1)},
                rounds=100,
            ),
        },
        needs=("dynamic-shape", "answers", "fp16"),
        on_fail="The engine is not as much faster than PyTorch as the exported detector allows.",
        hints=(
            "How many nodes does your file have? The plain export has about 230 without decoding, 320 with it.",
            "Does the file do anything twice, or in float64? Is something in it that PyTorch does not do?",
            "Export course.models.yolo() once more, untouched, with simplify=True; compare the node counts.",
        ),
    )


YOLO = Milestone(
    id="s1.m1b",
    stage="stage1_converter",
    notebook="08_yolo",
    grade_id="m-s1-m1b",
    title="YOLO detector at two resolutions",
    task=Detector("course.models:yolo"),
    # docs/results/h100/m1b: TensorRT 8.6 built the FP16 engine in 69 s. At level 1 and 2 it had not ended after 140 s.
    artifacts=(Onnx("artifacts/yolo.onnx", max_mb=32, max_elements=16_000_000, optimization_level=0),),
    limits_s=LIMITS_S,
    checks=(
        Check(
            id="dynamic-shape",
            title="Batch, height and width are open",
            points=4,
            lanes={"cpu": DynamicShape(), "gpu": DynamicShape()},
            on_fail="The file must take float32 images [batch, 3, height, width] of any size that 32 divides.",
            hints=(
                "Which three dimensions of the input may change from one call to the next?",
                "The argument `dynamic` of course.export.export names open axes by their number: 0 is the batch.",
                'Export with dynamic={"image": {0: "batch", 2: "height", 3: "width"}}.',
            ),
        ),
        Check(
            id="answers",
            title="The ONNX file finds what PyTorch finds",
            points=4,
            lanes=dict.fromkeys(
                ("cpu", "gpu"),
                Detection("fp32", MAP_DROP, error=Ramp(zero=0.3, full=0.01), runtime="onnxruntime"),
            ),
            on_fail="On new scenes the file does not give the boxes and scores of the shipped detector.",
            hints=(
                "Take one scene through PyTorch and through the file, and compare the first boxes and scores.",
                "Did you export the shipped weights, in eval mode? The image has values from 0 to 1, in RGB.",
                "Export course.models.yolo() as it is, with decode=True or decode=False; then use check_parity.",
            ),
        ),
        Check(
            id="fp16",
            title="FP16 keeps the mAP",
            points=4,
            lanes={
                "cpu": Detection("fp16", MAP_DROP, error=Ramp(zero=0.3, full=0.03), runtime="onnxruntime"),
                # as many scenes as FP32 gets: their reference answers are there already, and FP16's loss hardly varies
                "gpu": Detection("fp16", MAP_DROP, error=Ramp(zero=0.3, full=0.03), min_float16=0.7),
            },
            needs=("answers",),
            on_fail="In FP16 the boxes or scores change, or the layers stay in FP32.",
            hints=(
                "FP16 has 11 bits. Between 256 and 512 it knows every quarter only. Which numbers are that large?",
                "Coordinates in pixels are. With raw output the file has none of them: decoding comes after it.",
                "Hand in the plain FP32 export with decode=False: float32 weights, no Cast, no QuantizeLinear.",
            ),
        ),
        _detector_speed(320),
        _detector_speed(416),
    ),
)

MILESTONES = (RESNET50_FP16, YOLO)
