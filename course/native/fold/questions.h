int32_t Fold::getNbOutputs() const noexcept { return 1; }
DataType Fold::getOutputDataType(int32_t, const DataType* types, int32_t) const noexcept
{
    return types[0];
}
DimsExprs Fold::getOutputDimensions(int32_t, const DimsExprs* in, int32_t, IExprBuilder& build) noexcept
{
    DimsExprs out = in[0];
    const IDimensionExpr& area = *build.constant(window.kernel * window.kernel);
    out.d[1] = build.operation(DimensionOperation::kFLOOR_DIV, *in[0].d[1], area);
    for (int side : {2, 3}) {   // (h - 1) * stride + kernel - 2 * padding
        const IDimensionExpr* grown =
            build.operation(DimensionOperation::kPROD, *in[0].d[side], *build.constant(window.stride));
        int32_t rest = window.kernel - window.stride - 2 * window.padding;
        out.d[side] = build.operation(DimensionOperation::kSUM, *grown, *build.constant(rest));
    }
    return out;
}
bool Fold::supportsFormatCombination(int32_t pos, const PluginTensorDesc* inOut, int32_t,
                                     int32_t) noexcept
{
    const PluginTensorDesc& tensor = inOut[pos];
    bool number = tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;
    return tensor.format == TensorFormat::kLINEAR && number && tensor.type == inOut[0].type;
}
