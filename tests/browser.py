"""Headless Chromium: what a page says on the console, and what it looks like.

  apt-get install chromium

Nothing is fetched: pages are files.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

NAMES = ("chromium", "chromium-browser", "google-chrome",
         "google-chrome-stable", "chrome")


def find() -> str | None:
  """The path of Chromium or Chrome ($CHROME first), or None."""
  return next(filter(None, map(
      shutil.which, filter(None, (os.environ.get("CHROME"), *NAMES)))), None)


def run(page: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
  """Opens a page in a browser of its own; stdout and stderr are text."""
  with tempfile.TemporaryDirectory() as profile:
    return subprocess.run(
        [find(), "--headless=new", "--no-sandbox", "--disable-gpu",
         "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0",
         "--hide-scrollbars", "--no-first-run",
         "--disable-background-networking",
         f"--user-data-dir={profile}", *arguments, page.absolute().as_uri()],
        capture_output=True, text=True, timeout=300)


def console(done: subprocess.CompletedProcess) -> list[str]:
  """The messages of a page to its console, errors and warnings among them."""
  return [line for line in done.stderr.splitlines()
          if re.search(r"\bCONSOLE[:(]", line)]


def screenshot(
    page: pathlib.Path, file: pathlib.Path, width: int, height: int
) -> subprocess.CompletedProcess:
  """Writes a PNG of the top of a page; the window is 500 px wide at least."""
  return run(page, f"--screenshot={file}", f"--window-size={width},{height}")


def dom(page: pathlib.Path) -> str:
  """The page after its scripts have run."""
  return run(page, "--dump-dom", "--virtual-time-budget=3000").stdout
