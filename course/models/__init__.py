"""The networks of the course: plain torch modules in eval mode, float32, with their shipped weights."""

from course.models.resnet50 import resnet50
from course.models.yolo import nms, yolo

__all__ = ["nms", "resnet50", "yolo"]
