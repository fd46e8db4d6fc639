"""Makes the environments of some tests beforehand: they take minutes.

  python -m tests.prepare
"""

from tests.cloud import environment as cloud
from tests.notebook import environment as notebook
from tests.parity import environment as parity


def main():
  for make in (parity.python, notebook.runtime, cloud.packages):
    make()


if __name__ == "__main__":
  main()
