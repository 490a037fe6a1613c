"""The networks of the course: plain torch modules in eval mode, float32, with their shipped weights."""
from course.models.resnet50 import resnet50

__all__ = ["resnet50"]
