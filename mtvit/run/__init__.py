"""What surrounds a run: its process, its work directory, its files."""
