"""The tf.data input pipeline. Nothing here imports JAX or a task."""
