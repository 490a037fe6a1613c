"""C++ that plays TensorRT: it is linked around the learner's class, and `inside.py` calls it."""
