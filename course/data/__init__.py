"""Real images with labels, and the one preprocessing function for each network."""
