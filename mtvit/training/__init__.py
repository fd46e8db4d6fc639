"""The train step, its state, and the loop that repeats it."""
