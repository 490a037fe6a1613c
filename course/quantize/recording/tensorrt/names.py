"""What TensorRT 8.6 calls things: its enums with their numbers, and which names of TensorRT-RTX it has, too.

Read from the bindings of 8.6.1; a test compares them with those.
"""

from __future__ import annotations

import enum

SHARED = """
ActivationType AllocatorFlag BoundingBoxFormat DataType DeviceType Dims Dims2 Dims3 Dims4 DimsHW ElementWiseOperation
EngineCapability EngineInspector ErrorCode ErrorCodeTRT FallbackString FillOperation GatherMode
HardwareCompatibilityLevel IActivationLayer IAssertionLayer ICastLayer IConcatenationLayer IConditionLayer
IConstantLayer IConvolutionLayer ICudaEngine IDeconvolutionLayer IDequantizeLayer IEinsumLayer IElementWiseLayer
IErrorRecorder IExecutionContext IFillLayer IGatherLayer IGpuAllocator IGridSampleLayer IHostMemory IIdentityLayer
IIfConditional IIfConditionalBoundaryLayer IIfConditionalInputLayer IIfConditionalOutputLayer IIteratorLayer ILRNLayer
ILayer ILogger ILoop ILoopBoundaryLayer ILoopOutputLayer IMatrixMultiplyLayer INMSLayer INonZeroLayer
INormalizationLayer IOneHotLayer IOptimizationProfile IOutputAllocator IPaddingLayer IParametricReLULayer
IPluginCreator IPluginV2 IPluginV2Ext IPluginV2Layer IPoolingLayer IProfiler IQuantizeLayer
IRaggedSoftMaxLayer IRecurrenceLayer IReduceLayer IResizeLayer IReverseSequenceLayer IScaleLayer IScatterLayer
ISelectLayer IShapeLayer IShuffleLayer ISliceLayer ISoftMaxLayer ITensor ITopKLayer ITripLimitLayer IUnaryLayer
InterpolationMode LayerInformationFormat LayerType Logger LoopOutput MatrixOperation MemoryPoolType NodeIndices
OnnxParserFlag PaddingMode ParserError Permutation PluginField PluginFieldCollection PluginFieldType PoolingType
Profiler ProfilingVerbosity ReduceOperation Refitter ResizeCoordinateTransformation ResizeRoundMode ResizeSelector
SampleMode ScaleMode ScatterMode TempfileControlFlag TensorFormat TensorIOMode TensorLocation TopKOperation TripLimit
UnaryOperation Weights WeightsRole bool float16 float32 fp8 get_builder_plugin_registry get_nv_onnx_parser_version
init_libnvinfer_plugins int32 int8 uint8 volume
""".split()
"""Taken from TensorRT-RTX as they are."""


class Flag(enum.Enum):
    """As the bindings' enums: a number only by int(), so that `1 << flag` and `flag == 1` are what they are there."""

    def __int__(self) -> int:
        return self.value

    def __index__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"<{self}: {self.value}>"


def _enum(name: str, members: str) -> type[Flag]:
    made = Flag(name, {member: number for number, member in enumerate(members.split())}, module="tensorrt")
    return made


BuilderFlag = _enum(
    "BuilderFlag",
    "FP16 INT8 DEBUG GPU_FALLBACK STRICT_TYPES REFIT DISABLE_TIMING_CACHE TF32 SPARSE_WEIGHTS SAFETY_SCOPE "
    "OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS DIRECT_IO REJECT_EMPTY_ALGORITHMS "
    "ENABLE_TACTIC_HEURISTIC VERSION_COMPATIBLE EXCLUDE_LEAN_RUNTIME FP8",
)
NetworkDefinitionCreationFlag = _enum("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH EXPLICIT_PRECISION")
CalibrationAlgoType = _enum(
    "CalibrationAlgoType", "LEGACY_CALIBRATION ENTROPY_CALIBRATION ENTROPY_CALIBRATION_2 MINMAX_CALIBRATION"
)
QuantizationFlag = _enum("QuantizationFlag", "CALIBRATE_BEFORE_FUSION")
PreviewFeature = _enum(
    "PreviewFeature",
    "FASTER_DYNAMIC_SHAPES_0805 DISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805 PROFILE_SHARING_0806",
)
TacticSource = _enum("TacticSource", "CUBLAS CUBLAS_LT CUDNN EDGE_MASK_CONVOLUTIONS JIT_CONVOLUTIONS")
OWN = (
    BuilderFlag,
    NetworkDefinitionCreationFlag,
    CalibrationAlgoType,
    QuantizationFlag,
    PreviewFeature,
    TacticSource,
)
"""Enums that TensorRT-RTX lacks, or has with other members."""


def member(kind: type[Flag], value: object, call: str) -> Flag:
    """`value` if it is a member of `kind`.

    Raises:
        TypeError: it is none, as the bindings raise it.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{call}: incompatible function arguments. It takes a tensorrt.{kind.__name__}, not {value!r}.")
    return value
