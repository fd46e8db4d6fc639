"""What `mtvit.tools.bench` measures, in processes of their own."""
