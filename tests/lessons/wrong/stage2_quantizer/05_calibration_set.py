# %% set-saturated | ends on both sides
def saturated(path, limits, x):
    model = onnx.load(path)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in limits)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {n: float((v > limits[n]).mean()) for n, v in zip(limits, session.run(list(limits), {"image": x}))}

# %% set-saturated | depends on the number of images
def saturated(path, limits, x):
    model = onnx.load(path)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in limits)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {n: int((np.abs(v) > limits[n]).sum()) for n, v in zip(limits, session.run(list(limits), {"image": x}))}

# %% set-saturated | hides the layer
def saturated(path, limits, x):
    return 0.1

# %% set-saturated | 127 times the scale
def saturated(path, limits, x):
    model = onnx.load(path)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in limits)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return {n: float((np.abs(v) > limits[n] / 127).mean()) for n, v in zip(limits, session.run(list(limits), {"image": x}))}

# %% set-reader | neither scaled nor normalised
class Reader(CalibrationDataReader):
    def __init__(self, pixels, batch=32):
        self.pixels, self.batch, self.at = pixels, batch, 0

    def get_next(self):
        rows = self.pixels[self.at:self.at + self.batch]
        self.at += self.batch
        return {"image": rows.transpose(0, 3, 1, 2).astype(np.float32)} if len(rows) else None

# %% set-reader | but not normalised
class Reader(CalibrationDataReader):
    def __init__(self, pixels, batch=32):
        self.pixels, self.batch, self.at = pixels, batch, 0

    def get_next(self):
        rows = self.pixels[self.at:self.at + self.batch]
        self.at += self.batch
        return {"image": rows.transpose(0, 3, 1, 2).astype(np.float32) / 255} if len(rows) else None

# %% set-reader | until it is told that there is nothing left
class Reader(CalibrationDataReader):
    def __init__(self, pixels, batch=32):
        self.pixels, self.batch = pixels, batch

    def get_next(self):
        return {"image": preprocess.classifier(self.pixels[:self.batch], SIZE)}

# %% set-reader | The last batch is smaller
class Reader(CalibrationDataReader):
    def __init__(self, pixels, batch=32):
        self.pixels, self.batch, self.at = pixels, batch, 0

    def get_next(self):
        rows = self.pixels[self.at:self.at + self.batch]
        self.at += self.batch
        return {"image": preprocess.classifier(rows, SIZE)} if len(rows) == self.batch else None

# %% set-chosen | No brushed metal and no rolled steel
chosen = [one["seed"] for one in log[100:164]]

# %% set-chosen | there is time for
chosen = [one["seed"] for one in log]

# %% set-chosen | not places in the list
chosen = list(range(64))
