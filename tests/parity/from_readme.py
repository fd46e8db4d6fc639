"""What the code in a README gives; run by outside.py."""

results = snippets(folder / "exported")  # noqa: F821
