"""The real Triton on this machine: answers, batches, counters, refusals; and what is left when somebody dies."""

from __future__ import annotations

import glob
import io
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from course.paths import ROOT
from course.serving import Batching, Decode, Model, Server, ServingError, closed_loop, open_loop, write
from tests.serving import networks
from tests.triton import environment_or_skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def triton():
    return environment_or_skip()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    mlp, mean = networks.mlp(folder / "mlp.onnx"), networks.mean_colour(folder / "mean.onnx")
    return write(
        folder / "service",
        [
            Model("plain", mlp, 16),
            Model("batched", mlp, 16, Batching()),
            Model("patient", mlp, 16, Batching(delay_us=20_000)),
            # two wait for more, however fast the machine
            Model("strict", mlp, 16, Batching(queue=2, delay_us=200_000), instances=1),
            Model("mean", mean, 8, Batching(), decode=Decode((32, 32))),
        ],
    )


@pytest.fixture(scope="module")
def served(triton, models):
    with Server(models, environment=triton, stop_seconds=1) as server:
        yield server


@pytest.fixture(scope="module")
def feeds():
    return [{"x": row[None]} for row in np.random.default_rng(1).standard_normal((32, 256)).astype(np.float32)]


@pytest.fixture(scope="module")
def right(models, feeds):
    session = onnxruntime.InferenceSession(str(models / "plain" / "1" / "model.onnx"))
    return session.run(None, {"x": np.concatenate([feed["x"] for feed in feeds])})[0]


def test_answers_equal_the_reference_one_by_one_and_as_a_batch(served, feeds, right):
    with served.client() as client:
        for feed, wanted in zip(feeds[:4], right):
            np.testing.assert_allclose(client.infer("batched", feed)["y"][0], wanted, rtol=1e-4, atol=1e-5)
        whole = client.infer("batched", {"x": np.concatenate([feed["x"] for feed in feeds[:16]])}, ["y"])
        np.testing.assert_allclose(whole["y"], right[:16], rtol=1e-4, atol=1e-5)


COUNTS_ITS_STARTS = """
import os
import triton_python_backend_utils as pb_utils

with open(os.environ["STARTS"], "a") as file:
    file.write("started\\n")


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", pb_utils.get_input_tensor_by_name(each, "x").as_numpy())])
                for each in requests]
"""
COMPLETES = """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [1]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [1]})
        return config
"""
TENSORS = """
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""


@pytest.mark.parametrize(
    ("code", "tensors", "starts"), [("", TENSORS, 1), (COMPLETES, "", 2)], ids=["whole", "completes"]
)
def test_a_process_starts_once_unless_its_model_completes_the_configuration(triton, tmp_path, code, tensors, starts):
    """To complete one, Triton starts the model's process once more and waits a second for its end."""
    model = tmp_path / "models" / "echo"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(COUNTS_ITS_STARTS + code)
    (model / "config.pbtxt").write_text(f'backend: "python"\nmax_batch_size: 0\n{tensors}')
    counted = tmp_path / "starts"
    with Server(model.parent, environment=triton, stop_seconds=1, variables={"STARTS": str(counted)}) as server:
        with server.client() as client:
            assert client.infer("echo", {"x": np.ones(1, np.float32)})["y"] == 1
    assert counted.read_text().count("started") == starts


def test_batches_form_under_load_and_every_answer_is_its_own(served, feeds, right):
    load = closed_loop(served.address, "batched", feeds, 16, 1.5, warmup=0.2, keep_answers=True)
    assert load.failed == 0 and load.server.requests == load.sent
    assert load.server.executions < load.server.requests / 2 and max(load.server.batches) > 4, load
    assert sum(size * count for size, count in load.server.batches.items()) == load.sent
    answers = list(load.answers())
    assert len(answers) == load.sent
    for feed, outputs in answers:
        np.testing.assert_allclose(outputs["y"][0], right[feed], rtol=1e-3, atol=1e-4)


def test_without_dynamic_batching_each_request_is_a_call(served, feeds):
    load = closed_loop(served.address, "plain", feeds, 8, 0.7, warmup=0.1)
    assert load.server.batches == {1: load.sent} and load.server.executions == load.server.requests == load.sent


def test_the_page_of_metrics_agrees_with_the_statistics(served, feeds):
    load = open_loop(served.address, "batched", feeds, 100.0, 0.5, warmup=0)
    page, counted = served.metrics(), served.statistics("batched")
    assert load.server.requests == load.sent
    for metric, value in (
        ("nv_inference_request_success", counted.requests),
        ("nv_inference_exec_count", counted.executions),
        ("nv_inference_count", counted.inferences),
    ):
        assert page[metric, "batched"] == value


def test_a_queue_delay_is_paid_by_a_single_client(served, feeds):
    load = closed_loop(served.address, "patient", feeds, 1, 0.8, warmup=0.1)
    assert load.p50 > 20 and load.server.ms_per_request()["queue"] > 18


def test_a_full_queue_refuses_at_once_with_the_reason(served, feeds):
    load = open_loop(served.address, "strict", feeds, np.zeros(200), 0.1, warmup=0, timeout=20)
    refused = load.records[load.records["status"] >= 400]
    assert 150 < len(refused) < 200 and "maximum queue size" in next(iter(load.reasons)), load.reasons
    assert load.server.requests == load.sent - load.failed


def test_wrong_requests_are_refused_with_tritons_reason(served, feeds):
    with served.client() as client:
        for model, inputs, said in (
            ("plain", {"z": feeds[0]["x"]}, "x"),
            ("plain", {"x": feeds[0]["x"][:, :5]}, "shape"),
            ("plain", {"x": feeds[0]["x"].astype(np.float64)}, "FP64"),
            ("plain", {"x": np.zeros((17, 256), np.float32)}, "16"),
            ("nobody", feeds[0], "unknown model"),
        ):
            with pytest.raises(ServingError) as error:
                client.infer(model, inputs)
            assert said in error.value.cause, error.value
        assert client.ready("plain") and not client.ready("nobody")


def jpeg(width: int, height: int, grey: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), grey, np.uint8)).save(file, "JPEG")
    return np.frombuffer(file.getvalue(), np.uint8)[None]


def test_image_files_are_decoded_and_a_broken_one_fails_alone(served):
    files = [jpeg(40 + 7 * n, 50, 20 + 20 * n) for n in range(8)]
    broken = files[0][:, :100]
    load = closed_loop(served.address, "mean", [{"file": file} for file in [*files, broken]], 9, 1.0, keep_answers=True)
    for number, outputs in load.answers():
        assert number < 8
        wanted = (20 + 20 * number - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375]
        np.testing.assert_allclose(outputs["mean"][0], wanted, atol=0.03)
    assert load.failed == int((load.records["feed"] == 8).sum()) > 0
    assert all("cannot be decoded" in reason for reason in load.reasons)


def test_a_reload_takes_new_files_and_a_broken_one_leaves_the_old_at_work(served, models, feeds, right):
    program = models / "plain" / "1" / "model.py"
    good = program.read_text()
    try:
        program.write_text("raise ValueError('no good')\n")
        with pytest.raises(ServingError, match="no good"):
            served.reload("plain")
        with served.client() as client:
            np.testing.assert_allclose(client.infer("plain", feeds[0])["y"][0], right[0], rtol=1e-4, atol=1e-5)
        program.write_text(
            good.replace("self.session.run(self.outputs, feed)", "[self.session.run(self.outputs, feed)[0] * 2]")
        )
        served.reload("plain")
        with served.client() as client:
            np.testing.assert_allclose(client.infer("plain", feeds[0])["y"][0], 2 * right[0], rtol=1e-4, atol=1e-5)
    finally:
        program.write_text(good)
        served.reload("plain")


def left_behind(server: Server) -> list[str]:
    """Processes, shared memory, temporary folders and open ports of a server."""
    left = [f"process {pid}" for pid in server.processes()] + glob.glob(f"/dev/shm/{server._prefix}*")
    left += [server._temporary] if Path(server._temporary).exists() else []
    for address in (server.address, server.metrics_address):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) == 0:
                left.append(f"port {address}")
    return left


def soon_nothing_left(server: Server, seconds: float = 20) -> list[str]:
    end = time.monotonic() + seconds
    while (left := left_behind(server)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    return write(folder / "service", [Model("net", networks.mlp(folder / "net.onnx", 16, 32), 4, Batching())])


def test_everything_goes_when_the_block_ends(triton, small):
    with Server(small, environment=triton) as server:
        assert len(server.processes()) == 2 and server.alive and left_behind(server)
    assert left_behind(server) == [] and not server.alive and "successfully loaded 'net'" in server.log


def test_everything_goes_when_the_server_is_killed(triton, small):
    with Server(small, environment=triton) as server:
        os.kill(server.pid, signal.SIGKILL)
        assert soon_nothing_left(server) == []
        with server.client() as client, pytest.raises(ServingError, match="No server answers"):
            client.infer("net", {"x": np.zeros((1, 16), np.float32)})


def test_everything_goes_when_the_client_is_killed(triton, small, tmp_path):
    program = (
        "import sys, time\nfrom course.serving import Server\n"
        f"server = Server({str(small)!r}).start()\n"
        "print(server.pid, server._prefix, server._temporary, server.address, server.metrics_address, flush=True)\n"
        "time.sleep(60)\n"
    )
    client = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    pid, prefix, temporary, address, metrics_address = client.stdout.readline().split()
    server = Server(small, environment=triton)
    server.pid, server._prefix, server._temporary = int(pid), prefix, temporary
    server.address, server.metrics_address = address, metrics_address
    assert len(server.processes()) == 2
    client.kill()
    client.wait()
    assert soon_nothing_left(server) == []


def test_a_models_process_that_is_killed_fails_requests_until_a_reload(triton, small):
    feed = {"x": np.zeros((1, 16), np.float32)}
    with Server(small, environment=triton, stop_seconds=1) as server:
        (model,) = set(server.processes()) - {server.pid}
        os.kill(model, signal.SIGKILL)
        load = closed_loop(server.address, "net", feed, 2, 0.5, warmup=0, timeout=5)
        assert load.failed == load.sent and "not healthy" in next(iter(load.reasons))
        server.reload("net")
        load = closed_loop(server.address, "net", feed, 2, 0.5, warmup=0, timeout=5)
        assert load.sent > load.failed == 0
    assert left_behind(server) == []


@pytest.mark.parametrize(
    "program, said",
    [
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        (
            "class TritonPythonModel:\n    def initialize(self, args):\n        raise ValueError('bad weights')",
            "bad weights",
        ),
    ],
)
def test_a_model_that_does_not_load_is_named_with_its_reason(triton, small, tmp_path, program, said):
    repository = write(tmp_path, [Model("net", small / "net" / "1" / "model.onnx", 4)])
    (repository / "net" / "1" / "model.py").write_text(program)
    server = Server(repository, environment=triton)
    with pytest.raises(ServingError) as error:
        server.start()
    assert "model net" in error.value.what and said in error.value.cause, error.value
    assert left_behind(server) == []


def test_a_port_that_was_taken_is_tried_again_elsewhere(triton, small, monkeypatch):
    from course.serving import server as module

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = iter([[taken.getsockname()[1], *module.free_ports(1)], module.free_ports(2)])
        monkeypatch.setattr(module, "free_ports", lambda count: next(ports))
        with Server(small, environment=triton) as server, server.client() as client:
            assert client.ready("net")
    assert left_behind(server) == []


def test_another_configuration_is_served(triton, small):
    (small / "net" / "configs" / "two.pbtxt").write_text(
        (small / "net" / "config.pbtxt").read_text().replace("max_batch_size: 4", "max_batch_size: 2")
    )
    with Server(small, environment=triton, config="two") as server, server.client() as client:
        assert client.get("/v2/models/net/config")["max_batch_size"] == 2
