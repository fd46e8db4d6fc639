"""Plans a run on a TPU slice that isn't there: the XLA compiler says."""
