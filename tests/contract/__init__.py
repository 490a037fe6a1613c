"""The API contract: every TensorRT name that the course uses exists in 8.6, 10.16 and 11.4, or is never reached there."""
