"""What is right: inputs, reference answers and how far an answer is from them. Never how fast."""
