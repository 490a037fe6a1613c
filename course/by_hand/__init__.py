"""What a learner writes once by hand, with the course's help where that is not the subject: buffers, networks, steps."""
