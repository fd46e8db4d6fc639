"""What frozen features are worth: kNN, linear and few-shot probes."""
