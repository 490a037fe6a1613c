"""Lesson 4.03, Triton I: the learner's files are served by the real Triton, and asked over HTTP."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from course.exercises import Wrong, exercise, reference
from course.exercises.stage4_architect import _networks, _triton
from course.serving import Server, ServingError
from course.serving.words import RefusedError

GREY = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.weights = np.float32([0.299, 0.587, 0.114]) / 255

    def execute(self, requests):
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("grey", image @ self.weights)]))
        return responses
"""
"""The model.py of the lesson's first section."""

# ---------------------------------------------------------------- 1: config.pbtxt


@exercise(
    "triton-config",
    points=3,
    hints=(
        "Which of the numbers in the shape [n, height, width, 3] belongs to the request, not to the model?",
        "dims leave the batch out; -1 is any size. max_batch_size allows 1 to that many. instance_group says how many "
        "copies of the model work at once.",
        'backend: "python" max_batch_size: 8 input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ] and '
        "so on; instance_group [ { count: 2 kind: KIND_CPU } ]",
    ),
)
def triton_config(grey_config: str):
    parsed = _triton.parsed(grey_config, "grey_config")
    with _triton.serving({"grey": {"config.pbtxt": grey_config, "1/model.py": GREY}}) as server:
        instances = len(server.processes()) - 1
        with server.client() as client:
            for shape in ((1, 4, 4, 3), (3, 5, 7, 3), (8, 6, 2, 3)):
                _right_grey(client, shape, parsed)
            described = client.get("/v2/models/grey")
            try:
                client.infer("grey", {"image": np.zeros((9, 4, 4, 3), np.uint8)})
            except RefusedError:
                pass
            else:
                raise Wrong(
                    "A request with 9 images was answered; 8 were to be the most.",
                    f"max_batch_size is {parsed.max_batch_size}.",
                    "Set max_batch_size: 8.",
                )
    if (told := described["outputs"]) != [{"name": "grey", "datatype": "FP32", "shape": [-1, -1, -1]}]:
        raise Wrong(
            f"Clients are told that the outputs are {told}.",
            "Triton hands on what the Python backend returns and does not compare it with the configuration; clients "
            "that believe the configuration read it wrongly.",
            'The model returns FP32 [n, height, width], so without the batch: name "grey", TYPE_FP32, dims [ -1, -1 ].',
        )
    if instances != 2:
        raise Wrong(
            f"The model has {instances} process{'es' if instances != 1 else ''}; two instances were asked for.",
            "Without instance_group, Triton makes one instance.",
            "instance_group [ { count: 2 kind: KIND_CPU } ]",
            share=0.5,
        )
    return "Triton serves it: batches of 1, 3 and 8 are right at three sizes, 9 are refused, two processes work."


def _right_grey(client, shape: tuple[int, ...], parsed) -> None:
    image = np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)
    wanted = image @ (np.float32([0.299, 0.587, 0.114]) / 255)
    try:
        outputs = client.infer("grey", {"image": image})
    except RefusedError as error:
        raise Wrong(f"A request of the shape {list(shape)} was refused.", error.cause, _why_refused(parsed)) from None
    got = outputs.get("grey")
    if got is None or got.shape != wanted.shape or not np.allclose(got, wanted, atol=1e-4):
        raise Wrong(
            f"The answer to a request of the shape {list(shape)} is {None if got is None else list(got.shape)}.",
            "It is not the grey image that the model returns.",
            "Give the tensors the names and types that model.py uses.",
        )


def _why_refused(parsed) -> str:
    dims = list(parsed.input[0].dims) if parsed.input else []
    if parsed.max_batch_size and len(dims) > 3:
        return "Leave the batch out of dims: max_batch_size puts it in front."
    if not parsed.max_batch_size:
        return "Set max_batch_size: 8. Without it the model takes no batch dimension."
    if any(dim > 0 for dim in dims[:2]):
        return "Write -1 for a size that may differ from request to request."
    return "Compare names, types and dims with the tensors that model.py uses."


@reference("triton-config")
def _reference_config():
    return CONFIG


CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "grey" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
"""

# ---------------------------------------------------------------- 2: model.py

COLOUR_CONFIG = """
backend: "python"
max_batch_size: 16
input [ { name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] } ]
output [ { name: "colour" data_type: TYPE_FP32 dims: [ 3 ] } ]
dynamic_batching { max_queue_delay_microseconds: 100000 }
version_policy { all { } }
"""
"""With a delay, so that requests that come together are handed over together."""

COLOUR = """
import json
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
        if not image.any():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("the image is black"))
        pixels = image.transpose(0, 3, 1, 2).astype(np.float32) / 255
        (colour,) = self.session.run(None, {"image": pixels})
        return pb_utils.InferenceResponse([pb_utils.Tensor("colour", colour)])
"""


@exercise(
    "triton-model",
    points=4,
    hints=(
        "What does execute get when three clients ask at the same time, and how many answers does Triton expect then? "
        "Who else suffers if one request raises an exception?",
        "initialize runs once: os.path.join(args['model_repository'], args['model_version'], 'model.onnx'). execute "
        "returns one InferenceResponse for each request, in their order; InferenceResponse(error=TritonError(…)) is one.",
        "for request in requests: read the tensor; if not image.any(): append InferenceResponse(error=...); else "
        "self.session.run(None, {'image': image.transpose(0, 3, 1, 2).astype(np.float32) / 255})",
    ),
)
def triton_model(colour: str):
    text = _triton.program(colour, "colour")
    files = {"config.pbtxt": COLOUR_CONFIG, "7/model.py": text, "7/model.onnx": _networks.colour("mean")}
    random = np.random.default_rng(5)
    images = random.integers(1, 256, (12, 6, 5, 3), np.uint8)
    images[[2, 7, 8]] = 0
    with _triton.serving({"colour": files}) as server:
        (server.repository / "colour" / "7" / "model.onnx").unlink()  # who read it in time needs it no more
        with server.client() as client:
            for batch in (images[:1], images[3:7]):
                try:
                    outputs = client.infer("colour", {"image": batch})
                except RefusedError as error:
                    raise _request_failed(error) from None
                _right_colour(outputs, batch, f"A request with {len(batch)} images, alone,")
        feeds = [{"image": image[None]} for image in images]
        load = _triton.together(server, "colour", feeds, 2)
    for number, outputs in load.answers():
        if number in (2, 7, 8):
            raise Wrong(
                "A black image was answered.",
                "A request that cannot be computed gets an error, so that its sender knows.",
                'pb_utils.InferenceResponse(error=pb_utils.TritonError("the image is black"))',
            )
        _right_colour(outputs, images[number][None], f"Of {len(feeds)} requests that came together, one")
    if load.failed > 3:
        raise Wrong(
            f"{len(feeds)} requests came together, three of them black; {load.failed} failed, not 3.",
            f"An exception in execute fails every request that it was given. Triton said: {next(iter(load.reasons))}",
            "Give the bad request a response of its own: InferenceResponse(error=pb_utils.TritonError(…)).",
            share=0.5,
        )
    if unlike := [reason for reason in load.reasons if "black" not in reason]:
        raise Wrong(
            f"The black image's sender reads: {unlike[0]!r}",
            "An error of your own says what is wrong with the request.",
            'pb_utils.TritonError("the image is black")',
            share=0.75,
        )
    return f"{len(feeds)} requests came together: 9 have their own answer, 3 black ones an error of their own."


def _request_failed(error: RefusedError) -> Wrong:
    if "model.onnx" in error.cause or "NO_SUCHFILE" in error.cause:
        return Wrong(
            "The first request failed: model.onnx is read only when a request comes.",
            "After the start the check took the file away. Reading a network takes far longer than using it.",
            "Make the session in initialize, and keep it in self.",
        )
    return Wrong("A request failed.", error.cause, "Correct what Triton reports; it shows your traceback's last line.")


def _right_colour(outputs, images: np.ndarray, who: str) -> None:
    wanted = images.reshape(len(images), -1, 3).mean(axis=1) / 255
    got = outputs.get("colour")
    if got is None or got.shape != wanted.shape:
        raise Wrong(
            f"{who} got {'no tensor colour' if got is None else f'the shape {list(got.shape)}'}.",
            f"{list(wanted.shape)} was expected: a row for each image of its request.",
            'pb_utils.Tensor("colour", …) with all rows that session.run returned.',
        )
    if np.allclose(got, wanted * 255, rtol=1e-3):
        raise Wrong(
            f"{who} got {got[0, 0]:.1f} where {wanted[0, 0]:.3f} is right.",
            "The network was given 0 to 255; it wants 0 to 1.",
            "Divide by 255.",
        )
    if not np.allclose(got, wanted, atol=1e-4):
        raise Wrong(
            f"{who} got {np.round(got[0], 3).tolist()}, not {np.round(wanted[0], 3).tolist()}.",
            "That is another image's answer, or the axes were mixed up: the network wants [n, 3, height, width].",
            "Answer the requests in their order; turn the axes with image.transpose(0, 3, 1, 2).",
        )


@reference("triton-model")
def _reference_model():
    return COLOUR


# ---------------------------------------------------------------- 3: a new version while it works


@exercise(
    "triton-publish",
    points=4,
    hints=(
        "Triton looks at the folder when it is told to load. What may it see at that moment, and what must still be there "
        "for clients that ask for version 1?",
        "Copy the newest version's folder aside, put the file in, rename it to the next number, then POST to "
        "/v2/repository/models/NAME/load. Never unload first.",
        "If urlopen raises HTTPError, remove the new folder with shutil.rmtree and raise again: the server goes on with "
        "what it had, and its next start finds nothing broken.",
    ),
)
def triton_publish(publish: Callable):
    if not callable(publish):
        raise Wrong(f"`publish` is {type(publish).__name__}.", "A function was asked for.", "def publish(…): …")
    config = COLOUR_CONFIG.replace("dynamic_batching { max_queue_delay_microseconds: 100000 }", "")
    files = {"config.pbtxt": config, "1/model.py": COLOUR, "1/model.onnx": _networks.colour("mean")}
    with _triton.serving({"colour": files}) as server, tempfile.TemporaryDirectory() as aside:
        image = np.random.default_rng(3).integers(1, 256, (1, 6, 5, 3), np.uint8)
        file = Path(aside, "new.onnx")
        file.write_bytes(_networks.colour("max"))
        number, sent = _published_under_load(server, publish, file, image)
        _judge_publication(server, number, image)
        file.write_bytes(b"this is no network")
        before = {path.name for path in (server.repository / "colour").iterdir() if path.is_dir()}
        try:
            told = publish(server.address, server.repository, "colour", file)
        except NotImplementedError:
            raise
        except Exception:
            pass
        else:
            raise Wrong(
                f"A file that is no network was published, and {told!r} came back.",
                "Triton refused it; whoever called publish believes that it is served.",
                "Let the HTTPError of urlopen out.",
                share=0.5,
            )
        if _kind(server, image) != "max":
            raise Wrong(
                "After a broken file the good version no longer answers.",
                "A failed load leaves what was there at work, unless it was taken away first.",
                "Change nothing in the older versions, and do not unload.",
                share=0.5,
            )
        if left := {path.name for path in (server.repository / "colour").iterdir() if path.is_dir()} - before:
            raise Wrong(
                f"The broken version {', '.join(sorted(left))} still lies in the repository.",
                "The server goes on, but its next start, perhaps at night, will fail on it.",
                "On an error, remove the folder that you made: shutil.rmtree.",
                share=0.75,
            )
    return f"Version 2 was served; none of {sent} requests failed meanwhile; version 1 is still there, a broken file is not."


def _published_under_load(server: Server, publish: Callable, file: Path, image: np.ndarray) -> tuple[object, int]:
    """What `publish` returned, and how many requests four clients sent from before it began to a moment after its end.

    They send one request after the other without a pause, so that a moment without the model is not missed, and each
    over a new connection: one of Triton's HTTP threads stands still during a load, and who happens to be on it just
    waits, while the others are refused.
    """
    done, sent, failures = threading.Event(), [0] * 4, []

    def user(number: int) -> None:
        while not done.is_set():
            try:
                with server.client() as client:
                    client.infer("colour", {"image": image})
            except ServingError as error:
                failures.append(error.cause)
                time.sleep(0.005)
            sent[number] += 1

    threads = [threading.Thread(target=user, args=(number,)) for number in range(len(sent))]
    for thread in threads:
        thread.start()
    try:
        while not all(sent) and any(thread.is_alive() for thread in threads):
            time.sleep(0.01)
        number = publish(server.address, server.repository, "colour", file)
        time.sleep(0.3)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    if failures or not all(sent):  # a client that could not even begin counts as one that failed
        raise Wrong(
            f"Meanwhile {len(failures)} of {sum(sent)} requests of four clients failed.",
            f"Triton said: {failures[0] if failures else 'nothing'}",
            "Only load: Triton prepares the new version beside the old one, and then changes over.",
            share=0.25,
        )
    return number, sum(sent)


def _kind(server: Server, image: np.ndarray, version: str = "") -> str:
    """Which network answers: "mean", "max", or why none does."""
    with server.client() as client:
        try:
            got = client.infer("colour", {"image": image}, version=version)["colour"][0]
        except ServingError as error:
            return error.cause
    flat = image.reshape(-1, 3) / 255
    return next(
        (name for name, value in (("mean", flat.mean(0)), ("max", flat.max(0))) if np.allclose(got, value, atol=1e-4)),
        "something else",
    )


def _judge_publication(server: Server, number: object, image: np.ndarray) -> None:
    if (kind := _kind(server, image, "1")) != "mean":
        raise Wrong(
            f"Who asks for version 1 now gets {'the new network' if kind == 'max' else kind}.",
            "A version's number is a promise: clients that named it chose that network.",
            "Leave folder 1 as it is; the new file gets a folder with the next number.",
            share=0.25,
        )
    if (kind := _kind(server, image)) != "max":
        raise Wrong(
            f"Who asks for no version still gets {'the old network' if kind == 'mean' else kind}.",
            "A server in the mode explicit looks at the folder only when it is told to.",
            'POST to f"http://{address}/v2/repository/models/{model}/load".',
            share=0.25,
        )
    if number != 2:
        raise Wrong(f"publish returned {number!r}.", "The new version's number is 2.", "return number", share=0.75)


@reference("triton-publish")
def _reference_publish():
    return _publish


def _publish(address, repository, model, file):
    import urllib.request

    folder = Path(repository, model)
    number = max(int(path.name) for path in folder.iterdir() if path.name.isdigit()) + 1
    aside = folder / f"new-{number}"
    shutil.copytree(folder / str(number - 1), aside)
    shutil.copyfile(file, aside / "model.onnx")
    aside.rename(folder / str(number))
    try:
        urllib.request.urlopen(f"http://{address}/v2/repository/models/{model}/load", data=b"{}").close()
    except OSError:
        shutil.rmtree(folder / str(number))
        raise
    return number
