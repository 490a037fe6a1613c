"""One description, three places: what is written, what each place needs, and what does not fit."""

from __future__ import annotations

import pytest
import yaml

from course.serving import Batching, Decode, Model, ServingError, config, write
from tests.serving import networks


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    return networks.mlp(tmp_path_factory.mktemp("onnx") / "mlp.onnx", 16, 32)


def test_three_configurations_of_one_model(tmp_path, onnx):
    batching = Batching(preferred=[4, 8], delay_us=500, queue=64, timeout_ms=20)
    model = Model("net", onnx, 8, batching, instances=2, threads=3, graphs=[1, 4, 8], gpus=[0, 1])
    repository = write(tmp_path, [model])
    cpu = config.check_repository(repository)["net"]
    assert cpu.backend == "python" and cpu.parameters["threads"].string_value == "3"
    assert [(g.count, g.Kind.Name(g.kind), list(g.gpus)) for g in cpu.instance_group] == [(2, "KIND_CPU", [])]
    (repository / "net" / "1" / "model.plan").write_bytes(b"a plan")
    gpu = config.check_repository(repository, "gpu", "gpu")["net"]
    assert (repository / "net" / "1" / gpu.default_model_filename).is_file()
    assert gpu.parameters["graphs"].string_value == "1,4,8"
    native = config.check_repository(repository, "container", "container")["net"]
    assert native.backend == "tensorrt" and native.optimization.cuda.graphs
    specs = {spec.batch_size: list(spec.input["x"].dim) for spec in native.optimization.cuda.graph_spec}
    assert specs == {1: [16], 4: [16], 8: [16]}  # without the batch
    for each in (gpu, native):
        assert [(g.count, g.Kind.Name(g.kind), list(g.gpus)) for g in each.instance_group] == [(2, "KIND_GPU", [0, 1])]
    for each in (cpu, gpu, native):
        assert list(each.input[0].dims) == [16] and list(each.output[0].dims) == [10] and each.max_batch_size == 8
        batching = each.dynamic_batching
        assert list(batching.preferred_batch_size) == [4, 8] and batching.max_queue_delay_microseconds == 500
        policy = batching.default_queue_policy
        assert policy.max_queue_size == 64 and policy.default_timeout_microseconds == 20_000


def test_without_an_engine_the_gpu_places_say_how_to_get_one(tmp_path, onnx):
    repository = write(tmp_path, [Model("net", onnx, 8)])
    for place in ("gpu", "container"):
        with pytest.raises(ServingError) as error:
            config.check_repository(repository, place, place)
        assert "model.plan is missing" in error.value.cause and "course build" in error.value.next_step
    plan = tmp_path / "x.plan"
    plan.write_bytes(b"a plan")
    repository = write(tmp_path, [Model("net", onnx, 8, plan=plan)])
    assert config.check_repository(repository, "gpu", "gpu")


def test_image_files_make_an_ensemble(tmp_path):
    onnx = networks.mean_colour(tmp_path / "mean.onnx")
    repository = write(tmp_path, [Model("mean", onnx, 4, Batching(), decode=Decode((32, 32)))])
    read = config.check_repository(repository)
    assert {name: each.platform or each.backend for name, each in read.items()} == {
        "mean": "ensemble",
        "mean_decode": "python",
        "mean_network": "python",
    }
    (repository / "mean_network" / "1" / "model.plan").write_bytes(b"a plan")
    native = config.check_repository(repository, "container", "container")
    assert native["mean_decode"].backend == "dali"
    program = (repository / "mean_decode" / "1" / "dali.py").read_text()
    compile(program, "dali.py", "exec")
    assert "resize_x=32" in program and 'name="file"' in program and "123.675" in program


def test_the_container_listens_on_loopback_only(tmp_path, onnx):
    write(tmp_path, [Model("net", onnx, 8), Model("other", onnx, 2)])
    services = yaml.safe_load((tmp_path / "docker-compose.yml").read_text())["services"]
    assert services["triton"]["ports"] and all(port.startswith("127.0.0.1:") for port in services["triton"]["ports"])
    assert services["engines"]["network_mode"] == "none" and "ports" not in services["engines"]
    releases = {each["image"].rpartition(":")[2] for each in services.values()}
    assert len(releases) == 1  # an engine belongs to one TensorRT
    assert "--maxShapes=x:8x16" in services["engines"]["command"][2]
    assert "--model-config-name=container" in services["triton"]["command"]


@pytest.mark.parametrize(
    "model, said",
    [
        (lambda onnx: Model("net", onnx, 8, Batching(preferred=[16])), "16 lies outside"),
        (lambda onnx: Model("net", onnx, 8, graphs=[16]), "16 is larger than max_batch_size"),
        (lambda onnx: Model("net", onnx, 0, Batching()), "takes no batches"),
        (lambda onnx: Model("net", onnx, 8, decode=Decode((32, 32))), "Decoded images are 3 x 32 x 32"),
        (lambda onnx: Model("net", onnx.with_name("fixed.onnx"), 8), "no batch of up to 8"),
        (lambda onnx: Model("net", onnx.with_name("none.onnx"), 8), "no ONNX file"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, onnx, model, said):
    networks.mlp(onnx.with_name("fixed.onnx"), 16, 32, batch=1)
    with pytest.raises(ServingError) as error:
        write(tmp_path, [model(onnx)])
    assert said in str(error.value), error.value
