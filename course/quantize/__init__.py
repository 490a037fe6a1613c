"""INT8: calibrators, Q/DQ pairs and where they go, and what they cost in accuracy.

made = ptq("resnet50.onnx", images)                  # calibrate, write the pairs
made.save("resnet50_int8.onnx")
explain_placement("resnet50_int8.onnx")              # where a pair keeps TensorRT from fusing
parses_on("resnet50_int8.onnx")                      # what 8.6, 10, 11 and RTX would refuse
"""

from course.quantize.arithmetic import Noise, Parameters, Range, dequantize, fake_quantize, parameters, sqnr_db
from course.quantize.calibration import Calibration, Fingerprint, Histograms, calibrate, collect, fingerprint, scales
from course.quantize.calibrators import METHODS, entropy, entropy_onnxruntime, method, min_max, mse, percentile
from course.quantize.compare import Difference, FileRow, PrecisionRow, file_rows, file_table, paired, precision_table
from course.quantize.explain import KINDS, Finding, explain_placement
from course.quantize.histograms import Histogram, histogram
from course.quantize.layers import LayerNoise, layer_noise
from course.quantize.network import Network
from course.quantize.pairs import without_pairs
from course.quantize.placement import PLACEMENTS
from course.quantize.portable import Refusal, parses_on
from course.quantize.qdq import Quantized, ptq, quantize, tensors_to_calibrate
from course.quantize.recording import tensorrt_here, watched
from course.quantize.trt_cache import (
    Cache,
    cache_from,
    calibration_from,
    read_cache,
    recorded_cache,
    stamp,
    write_cache,
)
from course.quantize.trt_calibrators import entropy_calibrator, min_max_calibrator

__all__ = [
    "KINDS",
    "METHODS",
    "PLACEMENTS",
    "Cache",
    "Calibration",
    "Difference",
    "FileRow",
    "Finding",
    "Fingerprint",
    "Histogram",
    "Histograms",
    "LayerNoise",
    "Network",
    "Noise",
    "Parameters",
    "PrecisionRow",
    "Quantized",
    "Range",
    "Refusal",
    "cache_from",
    "calibrate",
    "calibration_from",
    "collect",
    "dequantize",
    "entropy",
    "entropy_calibrator",
    "entropy_onnxruntime",
    "explain_placement",
    "fake_quantize",
    "file_rows",
    "file_table",
    "fingerprint",
    "histogram",
    "layer_noise",
    "method",
    "min_max",
    "min_max_calibrator",
    "mse",
    "paired",
    "parameters",
    "parses_on",
    "percentile",
    "precision_table",
    "ptq",
    "quantize",
    "read_cache",
    "recorded_cache",
    "scales",
    "sqnr_db",
    "stamp",
    "tensorrt_here",
    "tensors_to_calibrate",
    "watched",
    "without_pairs",
    "write_cache",
]
