"""Other libraries at the same work; these files never import mtvit."""
