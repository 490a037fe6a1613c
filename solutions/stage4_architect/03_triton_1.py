# %% [markdown]
# # Triton I: a model behind a port
#
# Between a network and its users stands a server: it takes requests, shares out work, counts, and changes to a new
# version while it runs. NVIDIA's is the Triton Inference Server. Here you run the real one and write both files
# that a model needs: `config.pbtxt` and `model.py`.
#
# **Afterwards you can** describe a model to Triton, write one for its Python backend that survives a bad request,
# put a new version into service under load, and read the server's counters.
#
# **Time:** 40 minutes. The cells together run for about half a minute on two CPU cores.
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | the server, its files, versions, counters | all of it: Triton 2.51 from PyPI, which has the Python backend | nothing here |
# | other backends (`tensorrt`, `onnxruntime`, `dali`) | read only | NVIDIA's container `nvcr.io/nvidia/tritonserver` has them |
#
# Triton has an environment of its own (320 MB). Get it once in a terminal: `course serve setup`. Without it the
# lesson runs as well, and says what stays open.

# %%
import json
import shutil
import urllib.request
from pathlib import Path

import numpy as np
import torch

from course.exercises import check, choice, hint, solved
from course.export import export
from course.serving import closed_loop, with_triton

# %% [markdown]
# ## 1. A folder, two files
#
# A *model repository* is a folder. Each model is a folder in it, and each version a folder with a number:
#
#     models/grey/config.pbtxt       what goes in and out, how it is run
#     models/grey/1/model.py         version 1: what it computes
#
# Which program reads the version's folder is the *backend*: `tensorrt` reads a `model.plan`, `onnxruntime` a
# `model.onnx`, `python` a `model.py` with a class `TritonPythonModel`. The one below turns colour images into grey
# ones.
#
# **Exercise 1.** Write its `config.pbtxt`, in protobuf's text format: fields are `name: value`, groups `name { …
# }`, lists `name [ …, … ]`. You need `backend`, `max_batch_size`, `input` and `output` (each a list of groups with
# `name`, `data_type` such as `TYPE_INT32`, `dims`) and `instance_group` (a list of groups with `count` and `kind:
# KIND_CPU`). It takes 1 to 8 uint8 images of any one size in a request, and two instances of it work at the same
# time.

# %%
grey = '''
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):                      # once for each instance
        self.weights = np.float32([0.299, 0.587, 0.114]) / 255

    def execute(self, requests):                     # requests in, as many responses out
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            tensor = pb_utils.Tensor("grey", image @ self.weights)   # [n, h, w, 3] -> [n, h, w]
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
'''

def write(model, config, version, program):
    """models/MODEL/config.pbtxt and models/MODEL/VERSION/model.py"""
    folder = Path("models", model, str(version))
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "config.pbtxt").write_text(config)
    (folder / "model.py").write_text(program)

shutil.rmtree("models", ignore_errors=True)

# %% nbgrader={"grade_id": "triton-config", "solution": true}
grey_config = None   # the text of config.pbtxt
### BEGIN SOLUTION
grey_config = """
backend: "python"
max_batch_size: 8
input  [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "grey"  data_type: TYPE_FP32  dims: [ -1, -1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""
### END SOLUTION

# %% nbgrader={"grade_id": "triton-config-test", "grade": true, "points": 3}
check("triton-config")

# %% [markdown]
# ## 2. Ask it
#
# `with_triton` starts `tritonserver --model-repository=models` on a free port, calls your function, and stops the
# server. The protocol is HTTP with JSON, called KServe v2, so any language can talk to it. Fast clients append
# tensors to the JSON as bytes; that is what `closed_loop`, further down, does.

# %%
def post(address, path, content):
    request = urllib.request.Request(f"http://{address}{path}", json.dumps(content).encode())
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")

def ask(triton):
    image = np.uint8([[[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]])          # one image, 1 x 3 pixels
    answer = post(triton.address, "/v2/models/grey/infer", {"inputs": [
        {"name": "image", "shape": image.shape, "datatype": "UINT8", "data": image.ravel().tolist()}]})
    print(json.dumps(answer, indent=1))
    with urllib.request.urlopen(f"http://{triton.address}/v2/models/grey/config") as full:
        print("You left out version_policy; Triton took", json.load(full)["version_policy"])

grey_config = solved("triton-config", grey_config)
write("grey", grey_config, 1, grey)
with_triton("models", ask)

# %% [markdown]
# The commonest mistake in this file: `dims: [ -1, -1, -1, 3 ]`, as the array has it, with the batch in front.
#
# **Predict:** with `max_batch_size: 8` and these dims, Triton
# - `"refuses the model"`: it does not start
# - `"refuses requests"`: it starts, and each request with images fails
# - `"answers"`: -1 fits everything

# %%
guess = None   # one of the three

# %%
def wrong_dims(triton):
    with triton.client() as client:
        try:
            client.infer("grey", {"image": np.zeros((1, 4, 4, 3), np.uint8)})
            happened = "answers"
        except Exception as error:
            print(error.cause)
            happened = "refuses requests"
    choice(guess, happened, "The file itself is sound, so a start proves nothing. The error appears when the "
           "first client comes. Send a request in the test of every deployment.")

write("grey", grey_config.replace("dims: [ -1, -1, 3 ]", "dims: [ -1, -1, -1, 3 ]"), 1, grey)
with_triton("models", wrong_dims)
write("grey", grey_config, 1, grey)

# %% [markdown]
# ## 3. What an instance is
#
# `instance_group` with `count: 2` lets two batches be computed at the same time.
#
# **Predict:** for the Python backend, the second instance is
# - `"a thread"`: it shares the first one's memory
# - `"a process"`: with an interpreter and weights of its own
# - `"a queue"`: the same program, asked twice

# %%
guess = None   # one of the three

# %%
def look(triton):
    inside = [pid for pid in triton.processes() if pid != triton.pid]
    for pid in inside:
        program = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]
        print(f"process {pid}: {Path(program).name}")
    choice(guess, "a process" if len(inside) == 2 else "a thread",
           "Python runs one thread at a time, so the backend starts a process for each instance. Every one loads "
           "the weights again; on a GPU each also needs a CUDA context.")

with_triton("models", look)

# %% [markdown]
# The C++ backends differ: their instances are threads of one process. `tensorrt` makes one execution context for
# each instance and keeps one engine, so weights are there once.
#
# ## 4. Write the model
#
# Now a network behind the port. It is small on purpose, so that you can check its answer in your head: the mean
# colour of an image. Pixels arrive as uint8: a quarter of the bytes that float32 would send.

# %%
class Pool(torch.nn.Module):
    """image [n, 3, h, w] from 0 to 1 -> colour [n, 3]: the mean of all pixels, or the largest value."""
    def __init__(self, pool):
        super().__init__()
        self.pool = pool
    def forward(self, image):
        return self.pool(image, (2, 3))

for name, pool in (("mean", torch.mean), ("max", torch.amax)):
    export(Pool(pool).eval(), (torch.rand(2, 3, 8, 8),), f"artifacts/{name}.onnx", input_names=["image"],
           output_names=["colour"], dynamic={"image": {0: "n", 2: "h", 3: "w"}}, exporter="torchscript",
           target="onnxruntime")

# %% [markdown]
# **Exercise 2.** Write `model.py`.
#
# - `initialize`: a session of `model.onnx`, which lies in the version's folder. `args["model_repository"]` is the
#   model's folder, `args["model_version"]` the number, as a string.
# - `execute`: for each request, turn uint8 [n, h, w, 3] into what the network wants, run it, return `colour` [n,
#   3].
# - A camera that is covered sends zeros only. Such a request gets the error `the image is black`, and no other
#   request suffers: `pb_utils.InferenceResponse(error=pb_utils.TritonError("…"))`.
#
# The check sends requests that Triton hands over together, some of them black.

# %% nbgrader={"grade_id": "triton-model", "solution": true}
colour = r'''
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        ### BEGIN SOLUTION
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        ### END SOLUTION

    def execute(self, requests):
        ### BEGIN SOLUTION
        return [self.answer(request) for request in requests]

    def answer(self, request):
        image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        if not image.any():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("the image is black"))
        pixels = image.transpose(0, 3, 1, 2).astype(np.float32) / 255
        (result,) = self.session.run(None, {"image": pixels})
        return pb_utils.InferenceResponse([pb_utils.Tensor("colour", result)])
        ### END SOLUTION
'''

# %% nbgrader={"grade_id": "triton-model-test", "grade": true, "points": 4}
check("triton-model")

# %% [markdown]
# ## 5. Count
#
# Triton counts on a port of its own, at `/metrics`, in the format of Prometheus. All values only ever grow. What
# happened in a minute is therefore a difference, and times are sums over requests, in microseconds.

# %%
colour = solved("triton-model", colour)
colour_config = """
backend: "python"
max_batch_size: 16
input  [ { name: "image"  data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "colour" data_type: TYPE_FP32  dims: [ 3 ] } ]
version_policy { all { } }
"""
write("colour", colour_config, 1, colour)
shutil.copyfile("artifacts/mean.onnx", "models/colour/1/model.onnx")
image = np.random.default_rng(0).integers(1, 256, (1, 32, 32, 3), np.uint8)

def count(triton):
    with urllib.request.urlopen(f"http://{triton.metrics_address}/metrics") as page:
        print("\n".join(line for line in page.read().decode().splitlines() if "queue_duration" in line))
    for clients in (1, 8):
        load = closed_loop(triton.address, "colour", {"image": image}, clients, 1.0)
        parts = ", ".join(f"{name} {ms:.2f}" for name, ms in load.server.ms_per_request().items())
        print(f"{load}\n  Triton's own times, ms a request: {parts}")

with_triton("models", count)

# %% [markdown]
# | counter | what it adds up |
# | --- | --- |
# | `nv_inference_request_success` | requests that were answered |
# | `nv_inference_count` | images in them |
# | `nv_inference_exec_count` | calls of `execute`, counted once for all requests in it |
# | `nv_inference_queue_duration_us` | time in the queue |
# | `nv_inference_compute_infer_duration_us` | time in the model |
#
# With eight clients and one instance nearly all the time is queue: seven wait while one is served. The model is as
# quick as before. `p99` alone would not have told you that.
#
# ## 6. A new version
#
# `version_policy` says which versions are served. Without one it is `latest { num_versions: 1 }`: the highest
# number only. Ours is `all`. A client may ask for `/v2/models/colour/versions/1/infer`; who names none gets the
# highest.
#
# What if the new one is broken? Here `model.onnx` of version 2 is no network, and Triton is told to load.
#
# **Predict:**
# - `"version 1 answers"`: nothing changes
# - `"requests fail"`: until version 2 is repaired
# - `"the server ends"`: it cannot do what it was told

# %%
guess = None   # one of the three

# %%
def broken(triton):
    shutil.copytree("models/colour/1", "models/colour/2")
    Path("models/colour/2/model.onnx").write_bytes(b"this is no network")
    try:
        post(triton.address, "/v2/repository/models/colour/load", {})
    except urllib.error.HTTPError as error:
        print(error.code, json.load(error)["error"][:200])
    with triton.client() as client:
        good = client.ready("colour") and len(client.infer("colour", {"image": image})["colour"]) == 1
    choice(guess, "version 1 answers" if good else "requests fail",
           "Triton prepares the new one beside the old, and changes over only when it is ready.")

with_triton("models", broken)
shutil.rmtree("models/colour/2", ignore_errors=True)

# %% [markdown]
# But version 2 still lay in the folder. At the next start, perhaps at night after a power cut, Triton would have
# found it and ended: a model that cannot be loaded stops the start, unless `--exit-on-error=false` says otherwise.
#
# **Exercise 3.** Write `publish`. Two clients go on asking meanwhile, and not one request may fail. Version 1 stays
# for those who name it. If Triton refuses the file, nothing of it stays behind, and the error goes on to the
# caller. Tools: `shutil.copytree`, `shutil.copyfile`, `Path.rename`, `shutil.rmtree`, and `post` from above.

# %% nbgrader={"grade_id": "triton-publish", "solution": true}
def publish(address, repository, model, file):
    """Serve the ONNX file as the model's next version, with the model.py of the latest. Returns the number."""
    ### BEGIN SOLUTION
    folder = Path(repository, model)
    number = max(int(path.name) for path in folder.iterdir() if path.name.isdigit()) + 1
    aside = folder / f"new-{number}"                    # no number, so Triton does not look at it
    shutil.copytree(folder / str(number - 1), aside)
    shutil.copyfile(file, aside / "model.onnx")
    aside.rename(folder / str(number))                  # whole from its first moment
    try:
        post(address, f"/v2/repository/models/{model}/load", {})
    except urllib.error.HTTPError:
        shutil.rmtree(folder / str(number))
        raise
    return number
    ### END SOLUTION

# %% nbgrader={"grade_id": "triton-publish-test", "grade": true, "points": 4}
check("triton-publish")

# %%
publish = solved("triton-publish", publish)

def change_over(triton):
    number = publish(triton.address, "models", "colour", "artifacts/max.onnx")
    with triton.client() as client:
        for version in ("", "1", str(number)):
            answer = client.infer("colour", {"image": image}, version=version)["colour"]
            print(f"version {version or 'not named'}: {np.round(answer, 3)}")

with_triton("models", change_over)

# %% [markdown]
# ## Decide
#
# | your case | do |
# | --- | --- |
# | one engine, no code around it | the `tensorrt` backend: `model.plan`, no Python in the way |
# | preprocessing, several libraries, odd outputs | the Python backend, or an ensemble of both (next lesson) |
# | one model must use several cores or hide its copies | more instances; measure, each costs memory |
# | clients must not be surprised by a new network | `version_policy { all { } }` or `specific`, and clients that name a version |
# | deployment from a pipeline | `--model-control-mode=explicit` and a load request; `poll` may see half-written files |
#
# **Summary.** A repository is folders: model, version, files. `config.pbtxt` is a contract with clients, and a
# start does not prove it: a request does. `execute` gets several requests and owes each one its own answer or its
# own error. Counters only grow; look at differences. Publish beside the old version, whole, and clear up if it is
# refused. Next: [batches, and what they cost](04_triton_2.ipynb).
