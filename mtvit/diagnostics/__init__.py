"""Why features are good or not: what is inside an encoder."""
