"""The detector's checks: forms, errors, named mistakes, noise of mAP, scenes; not the hostile files."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autograder.artifacts import onnx_inside
from autograder.artifacts.onnx import Onnx
from autograder.artifacts.onnx_inside import State
from autograder.checks.accuracy import Accuracy
from autograder.checks.base import Ramp
from autograder.checks.detection import Detection
from autograder.checks.dynamic_shape import DynamicShape
from autograder.checks.engines import Engines, OnnxMeasure, float16_share
from autograder.checks.speed import Speed
from autograder.measuring.measure import measure
from autograder.milestones import Milestone
from autograder.milestones.stage1 import MAP_DROP, RESNET50_FP16, YOLO
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from autograder.tasks import detector_answers as detector
from autograder.tasks import inputs
from autograder.tasks.answers import in_parallel
from autograder.tasks.base import Seeds
from autograder.tasks.classifier import Classifier
from autograder.tasks.detector import Detector, DrawnScenes, draw
from autograder.tasks.detector_answers import CHANNELS, Answer, Error
from autograder.tasks.detector_mistakes import INPUTS, mistake, why_wrong
from course.data import cifar10, scenes
from course.data.metrics import mean_average_precision
from course.errors import CourseError, MissingFileError
from course.models import nms
from course.paths import ROOT
from tests.checks.benches import bench
from tests.hostile.onnx import detectors
from tests.measuring import tiny_detector as tiny

SIZE = (192, 192)
TASK = Detector()
PUBLIC = Seeds("public", "", "test")


def hidden(who: str) -> Seeds:
    return Seeds("hidden", who, "test", b"k" * 32)


SECRET = "a secret of thirty-two characters"


@pytest.fixture(scope="module")
def drawn() -> DrawnScenes:
    return draw(PUBLIC, "units", 16, SIZE)


@pytest.fixture(scope="module")
def wanted(drawn) -> Answer:
    return TASK.answers(drawn.x)


def answers(x: np.ndarray) -> Answer:
    return TASK.answers(x)


# Declarations


def declared(params, **changes) -> Milestone:
    check = dataclasses.replace(YOLO.checks[0], lanes={"cpu": params}, needs=())
    return dataclasses.replace(YOLO, **{"id": "test.declared", "checks": (check,), **changes})


@pytest.mark.parametrize(
    "params, changes, says",
    [
        (Detection("fp32", MAP_DROP, MAP_DROP, sizes=()), {}, "one size or more"),
        (Detection("fp32", MAP_DROP, MAP_DROP, scenes=12), {}, "whole batches"),
        (Detection("fp32", MAP_DROP, MAP_DROP, least_map=0.0), {}, "could lose nothing"),
        (Detection("fp32", Ramp(0.01, 0.01), MAP_DROP), {}, "is no ramp"),
        (Accuracy("fp32", MAP_DROP, MAP_DROP, MAP_DROP), {}, "cannot judge a detector"),
        (Speed("fp32", (1,), Ramp(1.0, 2.0)), {}, "one size or more"),
        (Speed("fp32", (1,), Ramp(1.0, 2.0), sizes=(320,)), {"task": Classifier()}, "has its own"),
        (Speed("fp32", (1, 8), {1: Ramp(1.0, 2.0)}, sizes=(320,)), {}, "ramps for batch \\[1\\], timed at \\[1, 8\\]"),
        (Speed("fp32", (1,), {1: Ramp(1.0, 1.0)}, sizes=(320,)), {}, "is no ramp"),
        (DynamicShape(), {"artifacts": (Onnx("a.onnx", optimization_level=6),)}, "knows 0 to 5"),
        (DynamicShape(), {"task": Classifier()}, "cannot judge a classifier"),
        (DynamicShape(), {"task": "poet"}, "'poet'"),
    ],
)
def test_a_wrong_declaration_is_named(params, changes, says):
    with pytest.raises(CourseError, match=says):
        declared(params, **changes)


def test_one_profile_for_both_sizes_and_a_gpu_builds_one_engine():
    """On a GPU one FP16 engine serves the accuracy check and both speeds; one more profile costs 40 s of building."""

    gpu, cpu = (Engines(bench(YOLO, lane, lambda *_, **__: ({}, []))) for lane in ("gpu", "cpu"))
    assert gpu.ranges("fp16", "tensorrt") == [((8, 3, 320, 320), (64, 3, 416, 416), (64, 3, 416, 416))]
    assert gpu.ranges("fp32", "tensorrt") == [], "FP32 is checked by ONNX Runtime: no build for it"
    judged = ((1, 3, 320, 320), (8, 3, 416, 416), (8, 3, 416, 416))
    wide = ((1, 3, 192, 192), (5, 3, 416, 416), (5, 3, 416, 416))
    assert cpu.ranges("fp32", "onnxruntime") == [judged, wide]


def test_each_milestone_is_built_at_its_own_level(monkeypatch):
    """A detector's engine takes minutes at the classifier's level."""
    asked, used = [], []

    def ask(command, **head):
        if command == "build":
            asked.append(head["level"])
        return {}, []

    def remember(data, config):
        used.append(config.optimization_level)
        raise InterruptedError

    for milestone in (YOLO, RESNET50_FP16):
        Engines(bench(milestone, "gpu", ask)).engine("fp16", "tensorrt")
    assert asked == [0, 2]
    monkeypatch.setattr("course.engine.build", remember)
    state = State(tiny.detector())
    with pytest.raises(InterruptedError):
        state.build(
            key="k",
            precision="fp16",
            runtime="tensorrt",
            largest=1,
            alone=False,
            level=0,
            ranges=[((1, 3, 192, 192),) * 3],
        )
    assert used == [0]


def test_raw_output_at_every_batch_and_size_that_is_asked_for_fits_what_is_taken():
    for check in YOLO.checks:
        for params in check.lanes.values():
            proposals = max(
                (sum((size // step) ** 2 for step in (8, 16, 32)) for size in getattr(params, "sizes", ())), default=0
            )
            timed = isinstance(params, Speed)
            batch = max(params.batches) if timed else getattr(params, "batch", 0)
            most = onnx_inside.MOST_TIMED_BYTES if timed else onnx_inside.MOST_ANSWER_BYTES
            assert 4 * 84 * proposals * batch <= most, check.id  # float32


def test_raw_output_of_64_images_can_be_timed_and_may_not_be_asked_for():
    """76 MB, from an engine that only adds: some milliseconds a call."""
    raw = torch.zeros(64, 84, 3549)
    state, x = State(b""), np.zeros((2, 1, 3, 8, 8), np.float32)
    state.engines["k"] = SimpleNamespace(
        device="cpu", profiles=(), inputs=[SimpleNamespace(name="image")], run=lambda feeds, profile: {"raw": raw + 1}
    )
    state.references["m:f []"] = lambda slot: raw + 2
    _, (ours, _, slots, answers) = state.time(x, key="k", reference="m:f", rounds=3, max_seconds=5.0, warmup_s=0.01)
    assert len(ours) == 3 and answers.shape == (len(slots), *raw.shape) and (answers == 1).all()
    with pytest.raises(Rejected, match="too large"):
        state.run(x[0], key="k")


def test_too_few_layers_in_fp16_cost_points_and_an_unknown_part_costs_none():
    assert float16_share({"float16": 0.35}, 0.7) == (
        {"float16": 0.5},
        "; 35 % of the layers in FP16",
        "Too many layers stay in FP32.",
    )
    assert float16_share({"float16": 0.9}, 0.7) == ({}, "; 90 % of the layers in FP16", "")
    assert float16_share({"float16": -1.0}, 0.7) == ({}, "", "")


# Scenes


def test_the_same_seed_gives_the_same_scenes_and_each_size_and_student_others(drawn):
    again = draw(PUBLIC, "units", 16, SIZE)
    assert np.array_equal(drawn.x, again.x) and drawn.x.dtype == np.float32 and drawn.x.shape == (16, 3, 192, 192)
    assert 0 <= drawn.x.min() < 0.2 and 0.8 < drawn.x.max() <= 1 and drawn.x.flags.c_contiguous
    ada, bob = (draw(hidden(who), "units", 2, SIZE) for who in ("ada", "bob"))
    wide = draw(hidden("ada"), "units", 2, (192, 224))
    assert not np.array_equal(ada.x, bob.x) and wide.x.shape == (2, 3, 192, 224)
    assert not np.array_equal(ada.scenes[0].boxes, wide.scenes[0].boxes)


def test_hidden_scenes_use_the_hidden_pool_where_it_is_and_say_so_where_not(monkeypatch):
    public, others = cifar10.images("public"), cifar10.images("calibration")

    def there(split):
        return others if split == "hidden" else public

    def missing(split):
        if split == "hidden":
            raise MissingFileError("The hidden images are not here.", "", "")
        return public

    monkeypatch.setattr(cifar10, "images", there)
    from_hidden = draw(hidden("ada"), "p", 2, SIZE)
    monkeypatch.setattr(cifar10, "images", missing)
    from_public = draw(hidden("ada"), "p", 2, SIZE)
    assert "hidden CIFAR-10 objects" in from_hidden.source and "course data fetch" in from_public.source
    assert not np.array_equal(from_hidden.x, from_public.x)
    assert "hidden" not in draw(PUBLIC, "p", 1, SIZE).source


# Forms


def facts(outputs: int, *operators: str) -> dict:
    return {"operators": dict.fromkeys(operators, 1), "outputs": {f"o{i}": ("float32", ()) for i in range(outputs)}}


def test_the_form_is_seen_by_the_number_of_outputs():
    assert (detector.form_of(facts(1)), detector.form_of(facts(2))) == ("raw", "decoded")
    with pytest.raises(Rejected, match="3 outputs"):
        detector.form_of(facts(3))
    with pytest.raises(Rejected, match="inside the graph"):
        detector.form_of(facts(3, "NonMaxSuppression"))


def test_both_forms_and_both_orders_give_the_same_answer(wanted, drawn):
    import torch

    with torch.inference_mode():
        raw = tiny.yolo(decode=False)(torch.from_numpy(drawn.x[:4])).numpy()
    part = wanted[:4]
    assert detector.anchors(SIZE) == raw.shape[2] == part.boxes.shape[1]
    assert detector.error_of(detector.read([raw], 4, SIZE), part).worst < 1e-4
    for outputs in ([part.boxes, part.scores], [part.scores, part.boxes]):
        assert detector.error_of(detector.read(outputs, 4, SIZE), part).worst == 0


COUNT = detector.anchors(SIZE)


@pytest.mark.parametrize(
    "shapes, says",
    [
        ([(4, COUNT, CHANNELS)], "wrong way round"),
        ([(4, 4, COUNT), (4, 20, COUNT)], "wrong way round"),
        ([(4, COUNT, 24)], "joined in one output"),
        ([(4, 0, 4), (4, 0, 20)], "is empty"),
        ([(1, COUNT, 4), (1, COUNT, 20)], "batch size"),
        ([(4, 9, 4), (4, 9, 20)], f"9 and 9 boxes for each image, not {COUNT}"),
        ([(4, COUNT, 4), (4, COUNT, 80)], "Wanted is"),
        ([(4, COUNT, 4), (4, COUNT, 4)], "Wanted is"),
        ([(4, CHANNELS, COUNT), (4, CHANNELS, COUNT)], "Wanted is"),
        ([()], "batch size"),
    ],
)
def test_other_shapes_are_refused_with_the_reason(shapes, says):
    with pytest.raises(Rejected, match=says):
        detector.read([np.zeros(shape, np.float32) for shape in shapes], 4, SIZE)


# Errors


def test_errors_are_relative_to_the_boxes_sides_and_to_the_scores_spread(wanted):
    sides = wanted.boxes[..., 2:] - wanted.boxes[..., :2]
    moved = Answer(wanted.boxes + 0.01 * np.sqrt(np.mean(sides**2)), wanted.scores)
    assert detector.error_of(moved, wanted).boxes == pytest.approx(0.01, rel=1e-3)
    louder = Answer(wanted.boxes, wanted.scores + 0.1 * wanted.scores.std())
    assert detector.error_of(louder, wanted).scores == pytest.approx(0.1, rel=1e-3)
    assert detector.error_of(wanted, wanted) == Error(0.0, 0.0)


def test_nan_infinity_and_another_shape_are_infinitely_wrong(wanted):
    for value in (np.nan, np.inf, -np.inf):
        boxes = wanted.boxes.copy()
        boxes[0, 0, 0] = value
        assert detector.error_of(Answer(boxes, wanted.scores), wanted).worst == math.inf
        raw = np.zeros((16, CHANNELS, COUNT), np.float32)
        raw[3, 70, 5] = value  # a sigmoid would make a plain 0 or 1 of an infinity
        assert not detector.read([raw], 16, SIZE).finite
    assert detector.error_of(wanted[:3], wanted).worst == math.inf
    assert detector.error_of(Answer(wanted.boxes * 0 + 3e38, -wanted.boxes * 0 - 3e38), wanted).worst == math.inf
    assert detector.error_of(Answer(wanted.boxes + 3e38, wanted.scores), wanted).worst > 1e30
    assert "NaN or infinite" in why_wrong(Answer(boxes, wanted.scores), wanted, None, answers, (1, 1))


def test_the_same_map_does_not_make_the_same_detector(wanted, drawn):
    """Looking at the mirrored scene costs no mAP worth the name, and changes boxes and scores far beyond FP16's share."""
    flipped = answers(np.ascontiguousarray(drawn.x[..., ::-1]))
    size = SIZE[1]
    back = np.stack(
        [size - flipped.boxes[..., 2], flipped.boxes[..., 1], size - flipped.boxes[..., 0], flipped.boxes[..., 3]], -1
    )
    order, begin = [], 0
    for stride in (8, 16, 32):
        side = size // stride
        order.append(begin + np.arange(side * side).reshape(side, side)[:, ::-1].reshape(-1))
        begin += side * side
    order = np.concatenate(order)
    other = Answer(back[:, order], flipped.scores[:, order])
    ours, theirs = (mean_average_precision(nms(a.boxes, a.scores), drawn.scenes).map50_95 for a in (other, wanted))
    assert abs(ours - theirs) < 0.06 and detector.error_of(other, wanted).worst > 0.15


# Mistakes


ELEMENTS = (3_300_000, 3_300_000)


@pytest.mark.parametrize("words, change", INPUTS, ids=[words.split(";")[0][:24] for words, _ in INPUTS])
def test_a_changed_input_is_named(words, change, wanted, drawn):
    x = drawn.x[:2]
    found = mistake(answers(np.ascontiguousarray(change(x))), wanted[:2], x, answers, ELEMENTS)
    assert found == f"These are PyTorch's answers for the image {words}."


def test_other_ways_to_write_boxes_and_scores_are_named(wanted, drawn):
    near, far, scores = wanted.boxes[..., :2], wanted.boxes[..., 2:], wanted.scores
    for boxes, says in (
        (np.concatenate([(near + far) / 2, far - near], 2), "centre, width and height"),
        (np.concatenate([near, far - near], 2), "corner, width and height"),
        (wanted.boxes[..., [1, 0, 3, 2]], "y before x"),
        (wanted.boxes / 192, "parts of the image's side"),
    ):
        assert says in mistake(Answer(boxes, scores), wanted, drawn.x, answers, ELEMENTS)
    likely = np.clip(scores, 1e-7, 1 - 1e-7)
    logits = np.log(likely / (1 - likely))
    assert "are logits" in mistake(Answer(wanted.boxes, logits), wanted, drawn.x, answers, ELEMENTS)
    twice = 1 / (1 + np.exp(-scores))
    assert "twice" in mistake(Answer(wanted.boxes, twice), wanted, drawn.x, answers, ELEMENTS)


def test_another_network_is_named_by_its_size_or_by_its_doubts(wanted, drawn):
    other = Answer(wanted.boxes[::-1], wanted.scores[::-1])
    assert "holds 0.8 million numbers, the shipped detector 3.3" in mistake(
        other, wanted, drawn.x, answers, (800_000, 3_300_000)
    )
    assert "random weights" in mistake(Answer(other.boxes, other.scores * 0 + 0.01), wanted, drawn.x, answers, ELEMENTS)
    assert "another network: boxes" in mistake(other, wanted, drawn.x, answers, ELEMENTS)


# Noise of mAP


def test_the_interval_of_the_map_lost_grows_with_the_disagreement(wanted, drawn):
    same = nms(wanted.boxes, wanted.scores)
    assert detector.noise_of_drop(same, same, drawn.scenes) == 0
    rng = np.random.default_rng(0)
    shaken = [nms(wanted.boxes + rng.normal(0, px, wanted.boxes.shape), wanted.scores) for px in (0.1, 2.0)]
    little, much = (detector.noise_of_drop(found, same, drawn.scenes) for found in shaken)
    assert 0 < little < 0.02 and little < much < 0.5
    assert detector.noise_of_drop(same[:15], same[:15], drawn.scenes[:15]) == math.inf
    empty = [scenes.Scene(s.image, s.boxes[:0], s.labels[:0]) for s in drawn.scenes]
    assert detector.noise_of_drop(same, same, empty) == math.inf


def test_a_reference_that_finds_nothing_is_the_graders_failure_not_a_pass(tmp_path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "yolo.onnx").write_bytes(tiny.detector())
    milestone = tiny.milestone()
    params = dataclasses.replace(milestone.checks[1].lanes["cpu"], least_map=0.99)
    report = measure(
        dataclasses.replace(milestone, checks=(dataclasses.replace(milestone.checks[1], lanes={"cpu": params}),)),
        tmp_path,
        lane="cpu",
    )
    assert (report.status, report.points) == ("error", 0) and "nothing could be lost" in report.problem


# The processes


def test_answers_in_parallel_are_the_modules_own_and_leave_the_threads_as_they_were():
    import torch

    before = torch.get_num_threads()
    parts = [np.full((2, 3), n, np.float32) for n in range(5)]
    found = in_parallel(lambda x: x * 2 + torch.get_num_threads(), parts)
    assert [part[0, 0].item() for part in found] == [1, 3, 5, 7, 9] and torch.get_num_threads() == before


def test_after_its_end_the_process_is_asked_no_more_and_says_why(tmp_path):
    path = tmp_path / "yolo.onnx"
    path.write_bytes(tiny.detector())
    taken = tiny.milestone().artifacts[0]
    with Box(
        taken.inside,
        str(path),
        sees=(ROOT / "course", ROOT / "autograder", ROOT / "tests", tmp_path),
        words=taken.words,
        memory_gb=4,
        cpu_s=600,
    ) as runner:
        with pytest.raises(Rejected, match="took too long"):
            runner.ask(
                "build",
                key="k",
                precision="fp32",
                runtime="onnxruntime",
                largest=1,
                alone=False,
                ranges=[],
                seconds=0.01,
            )
        with pytest.raises(Rejected, match="took too long"):
            runner.ask("inspect", name="x", max_nodes=1, max_elements=1, allow_ops=[], seconds=5)


class Asked(Exception):
    """What the process was asked for."""


@pytest.mark.parametrize("outputs, decodes", [(1, False), (2, True)])
def test_pytorch_is_timed_in_the_form_of_the_file(outputs, decodes):
    """A file without decoding must not win time against a PyTorch that decodes."""

    def ask(command, arrays=(), **head):
        if command == "inspect":
            return facts(outputs), []
        if command == "build":
            return {"device": "cpu"}, []
        raise Asked(head)

    with pytest.raises(Asked) as asked:
        YOLO.checks[3].lanes["cpu"].measure(bench(YOLO, "cpu", ask, draw=lambda *_: draw(PUBLIC, "p", 8, 64)))
    options, reference = asked.value.args[0]["options"], asked.value.args[0]["reference"]
    assert options == {"decode": decodes}
    assert State(b"")._reference(reference, options, cuda=False).decode is decodes


# Whole measurements


def measured(folder, data: bytes, **options):
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "yolo.onnx").write_bytes(data)
    return measure(tiny.milestone(speed=True), folder, lane="cpu", **options)


@pytest.mark.parametrize("form", ["raw", "decoded"])
def test_both_forms_get_full_marks_in_grading_and_the_board_says_what_was_compared(form, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, inputs.SECRET_VARIABLE, SECRET)
    report = measured(tmp_path, getattr(detectors, form)(), mode="hidden", who="ada")
    assert (report.points, report.open_points, report.status) == (16, 0, "measured"), report.text()
    assert detector.FORMS[form] in report.checks[3].measured and SECRET not in report.to_json()
    timing = report.checks[3].values[f"batch {tiny.TIMED} at {tiny.TIMED_SIZE} px"]
    assert timing["checked_answers"] >= timing["rounds"] >= 8
    assert report.checks[1].values["192 px"]["reference_map"] > 0.5
    assert any(note.startswith("Scenes: ") for note in report.notes)


@pytest.mark.slow
def test_the_shipped_detector_gets_full_marks_at_320_and_416_px(tmp_path):
    """The milestone itself, but for the number of scenes: 16 of each size, the fewest that give an interval."""
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "yolo.onnx").write_bytes(detectors.raw())
    checks = [
        dataclasses.replace(check, lanes={"cpu": dataclasses.replace(check.lanes["cpu"], scenes=16)})
        if isinstance(check.lanes["cpu"], Detection)
        else check
        for check in YOLO.checks
    ]
    report = measure(dataclasses.replace(YOLO, checks=tuple(checks)), tmp_path, lane="cpu")
    assert report.points == 20, report.text()


def test_a_long_step_says_that_it_goes_on(monkeypatch):
    monkeypatch.setattr("autograder.checks.base.TELL_EVERY_S", 0.02)
    said = []
    with bench(YOLO, "cpu", None, say=said.append).step("waiting"):
        time.sleep(0.2)
    count = len(said)
    time.sleep(0.1)
    assert said[:2] == ["waiting", "  still waiting (0 s)"] and len(said) == count


def test_a_check_that_needs_no_engine_stands_beside_those_that_do(tmp_path):
    """A kind of one's own for ONNX files: it looks at the facts, and the others build their engines as before."""

    @dataclasses.dataclass(frozen=True)
    class FewNodes(OnnxMeasure):
        most: int

        def wanted(self):
            return f"at most {self.most} nodes"

        def measure(self, at):
            count = Engines.of(at).facts["nodes"]
            return float(count <= self.most), f"{count} nodes", "Too many nodes.", {}

    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "yolo.onnx").write_bytes(tiny.detector())
    first = tiny.milestone().checks[0]
    more = tuple(
        dataclasses.replace(first, id=f"nodes-{most}", lanes={"cpu": FewNodes(most)}, needs=()) for most in (10_000, 1)
    )
    report = measure(tiny.milestone(checks=(first, *more)), tmp_path, lane="cpu")
    assert [check.points for check in report.checks] == [4, 4, 0], report.text() + report.problem
