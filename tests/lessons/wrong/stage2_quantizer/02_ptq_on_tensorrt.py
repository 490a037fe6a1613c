# %% ptq-calibrator | A batch was gone when TensorRT read it
class Calibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, images, batch_size, cache):
        super().__init__()
        self.images, self.size, self.place = images, batch_size, 0
    def get_batch_size(self):
        return self.size
    def get_batch(self, names):
        rows = self.images[self.place : self.place + self.size]
        self.place += self.size
        if len(rows) == self.size:
            return [torch.tensor(rows, device=device).data_ptr()]
    def read_calibration_cache(self):
        return None
    def write_calibration_cache(self, cache):
        pass

# %% ptq-calibrator | Begin __init__ with super().__init__()
class Calibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, images, batch_size, cache):
        self.images = images

# %% ptq-calibrator | is no calibrator of TensorRT
class Calibrator:
    def __init__(self, images, batch_size, cache):
        self.images = images

# %% ptq-calibrator | 21 rows fill 5 of 4
class Calibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, images, batch_size, cache):
        super().__init__()
        self.images, self.size, self.place = images, batch_size, 0
    def get_batch_size(self):
        return self.size
    def get_batch(self, names):
        self.held = np.zeros((self.size, *self.images.shape[1:]), np.float32)
        rows = self.images[self.place : self.place + self.size]
        self.held[: len(rows)] = rows
        self.held = torch.tensor(self.held, device=device)
        self.place += self.size
        return [self.held.data_ptr()] if len(rows) else None
    def read_calibration_cache(self):
        return None
    def write_calibration_cache(self, cache):
        pass

# %% ptq-calibrator | goes on as if there were no more data
class Calibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, images, batch_size, cache):
        super().__init__()
        self.images, self.size, self.path = images, batch_size, cache
        self.batches = iter(np.split(images[: len(images) // batch_size * batch_size], len(images) // batch_size))
    def get_batch_size(self):
        return self.size
    def get_batch(self, names):
        self.held = torch.tensor(next(self.batches), device=device)
        return [self.held.data_ptr()]
    def read_calibration_cache(self):
        return None
    def write_calibration_cache(self, cache):
        Path(self.path).write_bytes(bytes(cache))

# %% ptq-calibrator | scales are not those of the images
class Calibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, images, batch_size, cache):
        super().__init__()
        self.images, self.size, self.place = images.astype(np.float64), batch_size, 0
    def get_batch_size(self):
        return self.size
    def get_batch(self, names):
        rows = self.images[self.place : self.place + self.size]
        self.place += self.size
        if len(rows) < self.size:
            return None
        self.held = torch.tensor(rows, device=device)
        return [self.held.data_ptr()]
    def read_calibration_cache(self):
        return None
    def write_calibration_cache(self, cache):
        pass

# %% ptq-calibrator | The second build read all images again
class Calibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, images, batch_size, cache):
        super().__init__()
        self.images, self.size, self.place, self.path = images, batch_size, 0, cache
    def get_batch_size(self):
        return self.size
    def get_batch(self, names):
        rows = self.images[self.place : self.place + self.size]
        self.place += self.size
        if len(rows) < self.size:
            return None
        self.held = torch.tensor(rows, device=device)
        return [self.held.data_ptr()]
    def read_calibration_cache(self):
        return None
    def write_calibration_cache(self, cache):
        Path(self.path).write_bytes(bytes(cache))

# %% ptq-configure | The flag INT8 is not set
def configure(builder, network, calibrator, batches):
    config = builder.create_builder_config()
    config.int8_calibrator = calibrator
    return config

# %% ptq-configure | TensorRT calibrates with batches of 8
def configure(builder, network, calibrator, batches):
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((size, 16, 6, 6) for size in batches))
    config.add_optimization_profile(profile)
    config.int8_calibrator = calibrator
    return config

# %% ptq-configure | FP16 is not allowed
def configure(builder, network, calibrator, batches):
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *((size, 16, 6, 6) for size in batches))
    config.add_optimization_profile(profile)
    own = builder.create_optimization_profile()
    own.set_shape("image", *[(calibrator.get_batch_size(), 16, 6, 6)] * 3)
    config.set_calibration_profile(own)
    config.int8_calibrator = calibrator
    return config

# %% ptq-configure | The engine has no profile for batches
def configure(builder, network, calibrator, batches):
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.FP16)
    own = builder.create_optimization_profile()
    own.set_shape("image", *[(calibrator.get_batch_size(), 16, 6, 6)] * 3)
    config.add_optimization_profile(own)
    config.int8_calibrator = calibrator
    return config

# %% ptq-careful | With other images, the old cache was used
class CarefulCalibrator(Calibrator):
    def __init__(self, model, images, batch_size, cache):
        super().__init__(images, batch_size, cache)

# %% ptq-careful | calibrates again
class CarefulCalibrator(Calibrator):
    def __init__(self, model, images, batch_size, cache):
        super().__init__(images, batch_size, cache)
    def read_calibration_cache(self):
        return None

# %% ptq-careful | With another model, the old cache was used
class CarefulCalibrator(Calibrator):
    def __init__(self, model, images, batch_size, cache):
        super().__init__(images, batch_size, cache)
        self.mine, self.origin = Path(cache), Path(f"{cache}.of")
        self.mark = hashlib.sha256(images.tobytes()).hexdigest()
    def read_calibration_cache(self):
        if self.origin.is_file() and self.origin.read_text() == self.mark:
            return self.mine.read_bytes()
    def write_calibration_cache(self, cache):
        self.mine.write_bytes(bytes(cache))
        self.origin.write_text(self.mark)

# %% ptq-careful | says nothing of its origin
class CarefulCalibrator(Calibrator):
    def __init__(self, model, images, batch_size, cache):
        super().__init__(images, batch_size, cache)
        self.mine, self.origin = Path(cache), Path(f"{cache}.of")
        self.mark = hashlib.sha256(model + images.tobytes()).hexdigest()
    def read_calibration_cache(self):
        if self.mine.is_file() and (not self.origin.is_file() or self.origin.read_text() == self.mark):
            return self.mine.read_bytes()
    def write_calibration_cache(self, cache):
        self.mine.write_bytes(bytes(cache))
        self.origin.write_text(self.mark)

# %% ptq-pairs | big-endian
scales = {}
for line in old.splitlines()[1:]:
    tensor, _, digits = line.rpartition(": ")
    (scales[tensor],) = np.abs(struct.unpack("<f", bytes.fromhex(digits)))
    scales[tensor] = max(float(np.nan_to_num(scales[tensor], nan=1e9, posinf=1e9)), 1e-30)
int8 = quantize(plain, scales)

# %% ptq-pairs | divided by 127 already
scales = {}
for line in old.splitlines()[1:]:
    tensor, _, digits = line.rpartition(": ")
    scales[tensor] = struct.unpack(">f", bytes.fromhex(digits))[0] / 127
int8 = quantize(plain, scales)

# %% ptq-pairs | They come from elsewhere
int8 = second

# %% ptq-pairs | convolutions have no pairs
int8 = onnx.load(plain)
