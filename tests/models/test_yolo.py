"""The detector: form, decoding, NMS, export by both exporters, weights, and the loss that trained it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from course.data.metrics import mean_average_precision
from course.data.scenes import CLASSES, scene
from course.errors import CourseError, DamagedFileError, MissingFileError, ShapeError, UnsupportedError
from course.export import export
from course.models.suppression import Detections, WithNMS, nms
from course.models.weights import save_half
from course.models.yolo import YOLO, decode_numpy, yolo
from tools.assets.detector_loss import assign, detection_loss, pairwise_iou  # noqa: E402

SMALL = (8, 16, 16, 16, 16)
AXES = {"images": {0: "batch", 2: "height", 3: "width"}}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads of tiny convolutions wait for each other on busy cores: one thread is up to 20 times faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small() -> YOLO:
    """A narrow network with random weights whose scores spread from 0 to 1 and whose boxes overlap."""
    torch.manual_seed(0)
    model = YOLO(widths=SMALL)
    for heads in (model.class_heads, model.box_heads):
        for head in heads:
            torch.nn.init.normal_(head[-1].weight, std=0.2)
            torch.nn.init.constant_(head[-1].bias, -1.0)
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    model.train()(pictures(4, 3, 96, 96))  # batch norm takes the statistics of this batch: nothing fades to 0
    return model.eval()


def pictures(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def answer(model, x) -> list[np.ndarray]:
    with torch.inference_mode():
        result = model(x)
    return [t.numpy() for t in (result if isinstance(result, tuple) else (result,))]


# The network


def test_it_is_small_and_has_the_promised_form():
    model = yolo(None)
    assert sum(p.numel() for p in model.parameters()) < 4.0e6
    assert model.classes == CLASSES and model.input_size == 320 and not model.training
    boxes, scores = answer(model, pictures(2, 3, 64, 96))
    assert boxes.shape == (2, 96 + 24 + 6, 4) and scores.shape == (2, 126, 20)
    assert (scores >= 0).all() and (scores <= 1).all()
    assert answer(yolo(None, decode=False), pictures(1, 3, 64, 64))[0].shape == (1, 84, 84)


def test_decode_by_hand():
    """All weight on one bin makes a known distance. Of 64 px, anchor point 3 is at (28, 4), stride 8."""
    raw = np.full((1, 84, 84), -50.0, np.float32)
    for side, cells in enumerate((2, 0, 3, 15)):
        raw[0, side * 16 + cells, 3] = 50.0
    raw[0, 64 + 7, 3] = 0.0
    boxes, scores = decode_numpy(raw, (64, 64))
    np.testing.assert_allclose(boxes[0, 3], [28 - 16, 4 - 0, 28 + 24, 4 + 120], atol=1e-4)
    assert scores[0, 3, 7] == 0.5 and scores[0, 3].argmax() == 7
    raw[0, :16, 3] = 0.0  # all bins alike: their mean, 7.5 cells
    assert decode_numpy(raw, (64, 64))[0][0, 3, 0] == pytest.approx(28 - 60)


def test_decode_outside_the_graph_equals_inside(small):
    x = pictures(2, 3, 96, 64)
    inside = answer(small, x)
    small.decode = False
    (raw,) = answer(small, x)
    small.decode = True
    for a, b in zip(decode_numpy(raw, (96, 64)), inside):
        np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-5)
    with pytest.raises(ShapeError, match="96x96"):
        decode_numpy(raw, (96, 96))


# NMS


def test_nms_by_hand():
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 10, 5]]], np.float32)
    scores = np.zeros((1, 4, 3), np.float32)
    scores[0, :, 1] = [0.9, 0.8, 0.7, 0.6]  # the second overlaps the first by 0.9, the fourth by 0.5
    scores[0, 1, 2] = 0.5  # another class: not dropped
    (found,) = nms(boxes, scores)
    assert found.labels.tolist() == [1, 1, 1, 2]
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.6, 0.5])
    np.testing.assert_array_equal(found.boxes, boxes[0, [0, 2, 3, 1]])
    assert len(nms(boxes, scores, max_detections=2)[0].scores) == 2
    assert len(nms(boxes, scores, score=0.65)[0].scores) == 2
    assert len(nms(boxes, scores, iou=0.4)[0].scores) == 3
    assert nms(torch.from_numpy(boxes), torch.from_numpy(scores))[0].labels.tolist() == [1, 1, 1, 2]
    (empty,) = nms(boxes, np.zeros_like(scores))
    assert empty.boxes.shape == (0, 4) and empty.labels.shape == (0,)
    with pytest.raises(ShapeError):
        nms(boxes, scores[:, :3])


def same_detections(boxes, scores, labels, expected: Detections) -> None:
    count = len(expected.scores)
    assert not scores[count:].any() and not boxes[count:].any() and not labels[count:].any() and count > 10
    np.testing.assert_allclose(scores[:count], expected.scores, atol=1e-3)
    np.testing.assert_array_equal(labels[:count], expected.labels)
    np.testing.assert_allclose(boxes[:count], expected.boxes, atol=0.1)


def test_nms_inside_the_graph_equals_outside(small, tmp_path):
    model = WithNMS(small, iou=0.5, score=0.3, max_detections=60).eval()
    path = str(tmp_path / "nms.onnx")
    outputs = ["boxes", "scores", "labels"]
    torch.onnx.export(
        model,
        (pictures(2, 3, 96, 96),),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["images"],
        output_names=outputs,
        dynamic_axes=AXES | {name: {0: "batch"} for name in outputs},
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 96), (3, 3, 128, 64)):
        x = pictures(*shape)
        expected = nms(*answer(small, x), iou=0.5, score=0.3, max_detections=60, candidates=10**6)
        for result in (session.run(None, {"images": x.numpy()}), answer(model, x)):
            assert [r.shape for r in result] == [(shape[0], 60, 4), (shape[0], 60), (shape[0], 60)]
            for image, detections in enumerate(expected):
                same_detections(*(r[image] for r in result), detections)


def test_the_shipped_detector_exports_with_nms(tmp_path):
    """`export` compares the file with PyTorch at several sizes; on a scene the answer is that of `nms`."""
    image = torch.from_numpy(scene(1, 128).image).permute(2, 0, 1)[None].float() / 255
    done = export(
        WithNMS(yolo()).eval(),
        (image,),
        tmp_path / "yolo.onnx",
        input_names=["images"],
        output_names=["boxes", "scores", "labels"],
        dynamic=AXES,
        target="8.6",
    )
    session = onnxruntime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    (expected,) = nms(*answer(yolo(), image), score=0.01)
    same_detections(*(r[0] for r in session.run(None, {"images": image.numpy()})), expected)


def test_nms_needs_boxes():
    with pytest.raises(CourseError, match="decode=True"):
        WithNMS(YOLO(decode=False, widths=SMALL))


def test_nms_and_the_dynamo_exporter(small):
    with pytest.raises(UnsupportedError, match="torchscript"):
        torch.export.export(WithNMS(small).eval(), (pictures(1, 3, 64, 64),), strict=False)


# Export


@pytest.mark.parametrize("exporter, decode", [("torchscript", True), ("torchscript", False), ("dynamo", True)])
def test_export_with_dynamic_batch_height_and_width(small, tmp_path, exporter, decode):
    path, names = str(tmp_path / "yolo.onnx"), ["boxes", "scores"] if decode else ["raw"]
    small.decode = decode
    try:
        if exporter == "torchscript":
            torch.onnx.export(
                small,
                (pictures(2, 3, 96, 64),),
                path,
                dynamo=False,
                opset_version=17,
                input_names=["images"],
                output_names=names,
                dynamic_axes=AXES,
            )
        else:
            dynamic = {axis: torch.export.Dim.DYNAMIC for axis in AXES["images"]}
            torch.onnx.export(
                small,
                (pictures(2, 3, 96, 64),),
                path,
                dynamo=True,
                opset_version=18,
                input_names=["images"],
                output_names=names,
                dynamic_shapes=(dynamic,),
                verbose=False,
            )
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for shape in ((1, 3, 64, 64), (3, 3, 64, 128)):
            x = pictures(*shape)
            for a, b in zip(session.run(None, {"images": x.numpy()}), answer(small, x), strict=True):
                np.testing.assert_allclose(a, b, atol=2e-3, rtol=1e-4)
    finally:
        small.decode = True


# Weights


def test_weights_from_a_file(tmp_path):
    torch.manual_seed(1)
    saved = YOLO()
    path = save_half(saved, tmp_path / "weights.safetensors")
    assert path.stat().st_size < 8e6
    loaded = yolo(path)
    for (name, a), b in zip(saved.named_parameters(), loaded.parameters()):
        assert torch.equal(a.half().float() if a.ndim > 1 else a, b), name
    narrow = save_half(YOLO(widths=SMALL), tmp_path / "narrow.safetensors")
    with pytest.raises(ShapeError, match="does not fit"):
        yolo(narrow)
    with pytest.raises(MissingFileError):
        yolo(tmp_path / "nothing.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(DamagedFileError):
        yolo(tmp_path / "broken.safetensors")


def test_the_shipped_weights_find_what_is_there():
    """40 public scenes; 1 000 scenes of unseen images gave mAP 0.79 (docs/results/training)."""
    scenes, model = [scene(seed) for seed in range(40)], yolo()
    found = []
    for i in range(0, 40, 20):
        images = torch.from_numpy(np.stack([s.image for s in scenes[i : i + 20]]))
        found += nms(*answer(model, images.permute(0, 3, 1, 2).float() / 255))
    assert mean_average_precision(found, scenes).map50_95 > 0.7


# Assignment and loss


def targets(*objects: tuple) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One image's (x1, y1, x2, y2, label) as boxes, labels and valid flags, padded by one of zeros."""
    rows = torch.tensor([*objects, (0, 0, 0, 0, 0)], dtype=torch.float32)[None]
    return rows[..., :4], rows[..., 4].long(), torch.arange(rows.shape[1])[None] < len(objects)


def ideal_raw(boxes: list[tuple], size: int = 64) -> torch.Tensor:
    """Raw output that puts each (x1, y1, x2, y2, label) at every anchor point inside it."""
    from course.models.yolo import anchor_points

    points, strides = anchor_points([(size // s, size // s) for s in (8, 16, 32)], torch.zeros(1))
    raw = torch.full((1, 84, len(points)), -12.0)
    for x1, y1, x2, y2, label in boxes:
        for a, ((x, y), stride) in enumerate(zip(points.tolist(), strides[:, 0].tolist())):
            if x1 < x < x2 and y1 < y < y2:
                raw[0, 64 + label, a] = 12.0
                for side, distance in enumerate((x - x1, y - y1, x2 - x, y2 - y)):
                    low = int(distance / stride)
                    share = distance / stride - low
                    raw[0, side * 16 + low, a] = 12 + np.log(max(1 - share, 1e-9))
                    raw[0, side * 16 + low + 1, a] = 12 + np.log(max(share, 1e-9))
    return raw


def test_ideal_output_has_nearly_no_loss():
    objects = [(4, 6, 40, 30, 3), (44, 36, 62, 60, 11)]
    raw = ideal_raw(objects).requires_grad_()
    good = detection_loss(raw, (64, 64), *targets(*objects))
    assert good.box < 0.01
    # The two bins beside the true distance hold the right shares: the distribution loss is at its minimum.
    (slope,) = torch.autograd.grad(good.distribution, raw)
    assert slope.abs().max() < 1e-3
    shifted = [(8, 6, 44, 30, 3), (44, 36, 62, 60, 11)]
    moved = detection_loss(ideal_raw(shifted), (64, 64), *targets(*objects))
    assert moved.box > 0.3 and moved.distribution > good.distribution + 0.3
    named = [(4, 6, 40, 30, 4), (44, 36, 62, 60, 11)]
    assert detection_loss(ideal_raw(named), (64, 64), *targets(*objects)).classes > 3 * good.classes


def test_assignment_takes_points_inside_and_the_better_object():
    from course.models.yolo import anchor_points, decode

    objects = [(4, 6, 40, 30, 3), (30, 6, 60, 30, 11)]
    raw = ideal_raw(objects[:1])
    points, strides = anchor_points([(8, 8), (4, 4), (2, 2)], raw)
    predicted, scores = decode(raw, points, strides)
    goal, owners, positive = assign(scores, predicted, points, *targets(*objects))
    assert 0 < positive.sum() <= 20
    x, y = points[positive[0]].T
    assert ((x > 4) & (x < 60) & (y > 6) & (y < 30)).all()
    overlapped = positive[0] & (points[:, 0] > 30) & (points[:, 0] < 40)  # inside both; predicts the first
    assert overlapped.any() and (owners[0, overlapped] == 0).all()
    assert goal[0, positive[0] & (owners[0] == 0), 3].max() == pytest.approx(1.0, abs=0.01)
    assert goal[0, ~positive[0]].abs().max() == 0 and (goal[..., [0, 1, 2, 4, 5]] == 0).all()


def test_padding_and_empty_images_do_not_matter():
    torch.manual_seed(0)
    raw = torch.randn(1, 84, 84)
    boxes, labels, valid = targets((4, 6, 40, 30, 3))
    more = [torch.cat([t, torch.zeros_like(t)], 1) for t in (boxes, labels, valid)]
    a, b = detection_loss(raw, (64, 64), boxes, labels, valid), detection_loss(raw, (64, 64), *more)
    assert all(torch.allclose(x, y) for x, y in ((a.box, b.box), (a.classes, b.classes)))
    raw.requires_grad_()
    none = detection_loss(raw, (64, 64), boxes, labels, torch.zeros_like(valid))
    (none.box + none.classes + none.distribution).backward()
    assert none.box == 0 and torch.isfinite(raw.grad).all()


def test_pairwise_iou():
    a = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 0, 0]]])
    b = torch.tensor([[[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]]])
    np.testing.assert_allclose(pairwise_iou(a, b)[0].numpy(), [[1, 1 / 3, 0], [0, 0, 0]], atol=1e-6)


def test_a_few_steps_of_training_lower_the_loss():
    torch.manual_seed(0)
    model = YOLO(decode=False, widths=SMALL).train()
    scenes = [scene(seed, 64) for seed in range(2)]
    images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2).float() / 255
    boxes, labels = torch.zeros(2, 10, 4), torch.zeros(2, 10, dtype=torch.long)
    for i, s in enumerate(scenes):
        count = len(s.labels)
        boxes[i, :count], labels[i, :count] = torch.from_numpy(s.boxes), torch.from_numpy(s.labels)
    valid = boxes[..., 2] > 0
    optimizer, history = torch.optim.AdamW(model.parameters(), 5e-3), []
    for _ in range(20):
        losses = detection_loss(model(images), (64, 64), boxes, labels, valid)
        loss = losses.box + losses.classes + losses.distribution
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.6 * history[0]
