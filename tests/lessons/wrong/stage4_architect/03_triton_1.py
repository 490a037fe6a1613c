# %% triton-config | Leave the batch out of dims
grey_config = """
backend: "python"
max_batch_size: 8
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, -1, 3 ] } ]
output [ { name: "grey" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""

# %% triton-config | Did you mean TYPE_UINT8
grey_config = """
backend: "python"
max_batch_size: 8
input [ { name: "image" data_type: UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "grey" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
"""

# %% triton-config | two instances were asked for
grey_config = """
backend: "python"
max_batch_size: 8
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "grey" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
"""

# %% triton-config | takes no batch dimension
grey_config = """
backend: "python"
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "grey" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""

# %% triton-config | does not compare it with the configuration
grey_config = """
backend: "python"
max_batch_size: 8
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "grey" data_type: TYPE_UINT8 dims: [ -1, -1, 1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""

# %% triton-model | fails every request that it was given
from course.exercises.stage4_architect.triton_1 import COLOUR
colour = COLOUR.replace('return pb_utils.InferenceResponse(error=pb_utils.TritonError("the image is black"))', 'raise ValueError("the image is black")')

# %% triton-model | is read only when a request comes
from course.exercises.stage4_architect.triton_1 import COLOUR
colour = COLOUR.replace("        self.session = ", "        self.make = lambda: ").replace("self.session.run", "self.make().run")

# %% triton-model | it wants 0 to 1
from course.exercises.stage4_architect.triton_1 import COLOUR
colour = COLOUR.replace(" / 255", "")

# %% triton-model | That is another image's answer
from course.exercises.stage4_architect.triton_1 import COLOUR
colour = COLOUR.replace("return [self.answer(request) for request in requests]", """first = next((each for each in requests if self.image(each).any()), None)
        return [self.answer(first if self.image(each).any() else each) for each in requests]

    def image(self, request):
        return pb_utils.get_input_tensor_by_name(request, "image").as_numpy()""")

# %% triton-model | could not load the model colour
from course.exercises.stage4_architect.triton_1 import COLOUR
colour = COLOUR.replace('args["model_version"]', '"1"')

# %% triton-publish | Who asks for version 1 now gets the new network
def publish(address, repository, model, file):
    shutil.copyfile(file, Path(repository, model, "1", "model.onnx"))
    post(address, f"/v2/repository/models/{model}/load", {})
    return 2

# %% triton-publish | requests of four clients failed
def publish(address, repository, model, file):
    folder = Path(repository, model)
    shutil.copytree(folder / "1", folder / "2")
    shutil.copyfile(file, folder / "2" / "model.onnx")
    post(address, f"/v2/repository/models/{model}/unload", {})
    post(address, f"/v2/repository/models/{model}/load", {})
    return 2

# %% triton-publish | still lies in the repository
def publish(address, repository, model, file):
    folder = Path(repository, model)
    number = max(int(path.name) for path in folder.iterdir()if path.name.isdigit()) + 1
    shutil.copytree(folder / "1", folder / str(number))
    shutil.copyfile(file, folder / str(number) / "model.onnx")
    post(address, f"/v2/repository/models/{model}/load", {})
    return number

# %% triton-publish | looks at the folder only when it is told to
def publish(address, repository, model, file):
    folder = Path(repository, model)
    shutil.copytree(folder / "1", folder / "2")
    shutil.copyfile(file, folder / "2" / "model.onnx")
    return 2
