"""The shipped configs, one experiment a file: the package `mtvit.configs`."""
