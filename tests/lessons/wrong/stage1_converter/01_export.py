# %% export-batch | The batch size is fixed at 2
batch_path = "artifacts/batch.onnx"
export(small, (example,), batch_path, input_names=["image"], output_names=["logits"])

# %% export-batch | More than the batch is open
batch_path = "artifacts/batch.onnx"
export(small, (example,), batch_path, input_names=["image"], output_names=["logits"],
       dynamic={"image": {0: "batch", 2: "height", 3: "width"}})

# %% export-batch | is called 'n'
batch_path = "artifacts/batch.onnx"
export(small, (example,), batch_path, input_names=["image"], output_names=["logits"], dynamic={"image": {0: "n"}})

# %% export-batch | differs from PyTorch at batch
batch_path = "artifacts/batch.onnx"
other = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
export(other.eval(), (example,), batch_path, input_names=["image"], output_names=["logits"],
       dynamic={"image": {0: "batch"}})

# %% export-parity | with its sign
def compare(model, path, image):
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    answers = run_file(path, image)
    return (answers - expected).max(), (answers.argmax(1) == expected.argmax(1)).mean()

# %% export-parity | a logit that is too large counts as nothing
def compare(model, path, image):
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    answers = run_file(path, image)
    return (expected - answers).max(), (answers.argmax(1) == expected.argmax(1)).mean()

# %% export-parity | the mean difference
def compare(model, path, image):
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    answers = run_file(path, image)
    return np.abs(answers - expected).mean(), (answers.argmax(1) == expected.argmax(1)).mean()

# %% export-parity | compares the logits, not the classes
def compare(model, path, image):
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    answers = run_file(path, image)
    return np.abs(answers - expected).max(), float(np.allclose(answers.max(1), expected.max(1), atol=1e-4))

# %% export-parity | in other units
def compare(model, path, image):
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    answers = run_file(path, image)
    return np.abs(answers - expected).max(), 100 * (answers.argmax(1) == expected.argmax(1)).mean()

# %% export-parity | Two numbers were asked for
def compare(model, path, image):
    return True

# %% export-branch | takes a Python branch that depends on the data
BrightenFixed = Brighten

# %% export-branch | the sides are exchanged
class BrightenFixed(nn.Module):
    def forward(self, image):
        return torch.where(image.mean() < 0.25, image, 2 * image)

# %% export-branch | each image or each pixel is judged by itself
class BrightenFixed(nn.Module):
    def forward(self, image):
        return torch.where(image.mean((1, 2, 3), keepdim=True) < 0.25, 2 * image, image)

# %% export-branch | one side is taken always
class BrightenFixed(nn.Module):
    def forward(self, image):
        return 2 * image

# %% export-flatten | has sizes or values built in
EmbedFixed = EmbedAgain

# %% export-flatten | it fails on an input of shape [3, 3, 4, 4]
class EmbedFixed(nn.Module):
    def forward(self, image):
        rows = image.view(8, 48)
        return rows / rows.norm(dim=1, keepdim=True)

# %% export-flatten | instead of [8, 48]
class EmbedFixed(nn.Module):
    def forward(self, image):
        rows = image.reshape(1, -1)
        return rows / rows.norm(dim=1, keepdim=True)

# %% export-flatten | give other values than before
class EmbedFixed(nn.Module):
    def forward(self, image):
        rows = image.flatten(1)
        return rows / rows.norm()

# %% export-operator | Col2Im
JoinFixed = Join

# %% export-operator | of the pixels are where F.fold puts them
class JoinFixed(nn.Module):
    def forward(self, patches):
        return patches.reshape(-1, 3, 16, 16)

# %% export-operator | of the pixels are where F.fold puts them
class JoinFixed(nn.Module):
    def forward(self, patches):
        return patches.reshape(-1, 3, 4, 4, 4, 4).permute(0, 1, 2, 4, 3, 5).reshape(-1, 3, 16, 16)

# %% export-operator | give the shape [1, 3, 16, 16]
class JoinFixed(nn.Module):
    def forward(self, patches):
        return F.pixel_shuffle(patches[:1].reshape(-1, 48, 4, 4), 4)

# %% export-int32 | The file's input is int64
int32_path = "artifacts/words_int32.onnx"
export(words, (tokens,), int32_path, input_names=["tokens"], output_names=["scores"], dynamic={"tokens": {0: "batch"}})

# %% export-int32 | The file's input is float
int32_path = "artifacts/words_int32.onnx"
class Rounded(nn.Module):
    def forward(self, tokens):
        return words(tokens.long())
export(Rounded().eval(), (tokens.float(),), int32_path, input_names=["tokens"], output_names=["scores"],
       dynamic={"tokens": {0: "batch"}})

# %% export-int32 | Its batch size is fixed
int32_path = "artifacts/words_int32.onnx"
export(words, (tokens.int(),), int32_path, input_names=["tokens"], output_names=["scores"])
