"""C++ of the simulated GPU: `device.h` is included in front of the learner's file, the .cpp files are linked to it."""
