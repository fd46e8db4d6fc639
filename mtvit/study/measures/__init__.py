"""Parts of what is measured of a run: each (run, sizes) -> names, values."""
