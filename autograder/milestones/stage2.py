"""Milestones of stage 2, the quantizer."""

from __future__ import annotations

from autograder.artifacts.onnx import Onnx
from autograder.artifacts.script import Script
from autograder.checks.accuracy import Accuracy
from autograder.checks.base import Ramp
from autograder.checks.build_script import BuildScript
from autograder.checks.calibrator import CalibratorScales
from autograder.checks.engine_speed import EngineSpeed
from autograder.checks.int8_layers import Int8Layers
from autograder.milestones.declare import Check, Milestone

MODEL, CALIBRATOR, BUILD = "artifacts/resnet50_int8.onnx", "m2a/calibrator.py", "m2a/build_engine.py"

# docs/results/m2a_accuracy.json, 1 024 images, calibrated with 64: entropy loses 0.0 points of accuracy and min-max 0.7; among
# 200 draws of 512 the loss has a standard deviation of 0.3 points, which is what the dead band is for. Noise in place of
# images loses 3.3 points, scales that are half as large 4.9. PyTorch's class says nothing that these two do not: it comes
# at least 97.5 % of the time in good files, 92.8 % with noise, so it is not asked for.
# The error of the logits is there for what the classes do not show. Good files are 8 to 12 % off. With
# the scales of the last block a tenth of what they should be, nearly all of its values saturate: on 192 images no accuracy
# is lost, and the logits are 36 % off, which costs two of five points.
DROP = Ramp(zero=0.03, full=0.01, dead_band=0.005)
ERROR = Ramp(zero=0.6, full=0.2)
FAR = "The logits are far from the network's: its scales clip nearly all values or are far too coarse, or it is another one."

INT8 = Milestone(
    id="s2.m2a",
    stage="stage2_quantizer",
    notebook="06_int8_milestone",
    grade_id="m-s2-m2a",
    title="ResNet-50 in INT8",
    artifacts=(Onnx(MODEL, max_mb=128), Script(CALIBRATOR), Script(BUILD)),
    checks=(
        Check(
            id="int8",
            title="The network runs in INT8",
            points=4,
            lanes=dict.fromkeys(("cpu", "gpu"), Int8Layers(part=Ramp(zero=0.5, full=0.9))),
            artifact=MODEL,
            on_fail="Too much of the network is left in float.",
            hints=(
                "A convolution runs in INT8 only if both its operands come in INT8. Which two are they?",
                "Look for a pair of Q and DQ on the input of each convolution, and one on its weights.",
                "Activations have one scale, weights one for each output channel: axis 0 of a Conv's weights.",
            ),
        ),
        Check(
            id="accuracy",
            title="At most one point of accuracy is lost",
            points=5,
            lanes={
                "cpu": Accuracy(
                    "int8", None, DROP, ERROR, images=128, hidden_images=512, runtime="onnxruntime", far=FAR
                ),
                "gpu": Accuracy("int8", None, DROP, ERROR, images=512, hidden_images=512, batch=32, far=FAR),
            },
            artifact=MODEL,
            needs=("int8",),
            on_fail="In INT8 the network gives other classes than in FP32.",
            hints=(
                "INT8 has 255 steps for each tensor. What decides how wide they are?",
                "Were the images of your calibration preprocessed like those of the test, and are they of its kind?",
                "Compare the scales of two methods, and the noise of each layer: one of them is far off.",
            ),
        ),
        Check(
            id="calibrator",
            title="The calibrator",
            points=4,
            lanes=dict.fromkeys(("cpu", "gpu"), CalibratorScales()),
            artifact=CALIBRATOR,
            on_fail="The calibrator does not do all that TensorRT relies on.",
            hints=(
                "When does TensorRT read the memory whose address get_batch returned, and who holds it until then?",
                "Follow one build: read_calibration_cache, get_batch until None, write_calibration_cache. What comes "
                "in the next build?",
                "Keep the batch in self; return None before a batch that is not full; write a hash of the images beside "
                "the cache, and compare it before you give the cache back.",
            ),
        ),
        Check(
            id="build-script",
            title="The build script",
            points=3,
            lanes=dict.fromkeys(("cpu", "gpu"), BuildScript()),
            artifact=BUILD,
            on_fail="The build script does not ask TensorRT for all that it was told to.",
            hints=(
                "Which settings of a builder config does INT8 need, and which the layers that stay in float?",
                "The calibrator reads batches of its own size: it has a profile of its own. Where is it set?",
                "Besides a plan, four things are asked for: the flags INT8 and FP16, a profile of `batches`, a calibration "
                "profile of get_batch_size, and an error when parse_from_file gives False or build_serialized_network None.",
            ),
        ),
        Check(
            id="speed-64",
            title="Faster than FP16 at batch 64",
            points=4,
            # docs/results/h200/int8 (level 1, engines for batch 64 only): the course's placement 1.43, the default's 0.95.
            lanes={
                "gpu": EngineSpeed(
                    "int8", batches=(64,), ratio=Ramp(zero=1.0, full=1.3, dead_band=0.02), max_error=0.4, rounds=200
                )
            },
            artifact=MODEL,
            needs=("int8", "accuracy"),
            on_fail="INT8 is not as much faster than FP16 as this network allows.",
            hints=(
                "Which kernels does INT8 add, and which fusions does it break?",
                "explain_placement names each pair that keeps a residual Add out of its convolution's kernel.",
                "Pairs on the inputs of convolutions and on the skip side of each Add; none on outputs.",
            ),
        ),
    ),
)

MILESTONES = (INT8,)
