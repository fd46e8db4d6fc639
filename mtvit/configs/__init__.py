"""The shipped configs, one experiment a file; in a checkout, those of configs/.

A wheel has the files of configs/ in the place of this one.
"""

import pathlib

__path__ = [str(pathlib.Path(__file__).parents[2] / "configs")]
