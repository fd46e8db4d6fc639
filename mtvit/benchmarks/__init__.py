"""What `mtvit bench` measures, in processes of their own."""
