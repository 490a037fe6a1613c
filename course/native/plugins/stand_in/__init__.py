"""The stand-in for TensorRT's headers: the names that a V2 or V3 plugin needs, in the course's own words."""
