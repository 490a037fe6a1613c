"""What lies beside a learner's sources for CMake."""
