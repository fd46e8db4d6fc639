"""`mtvit.pretrain` as it is, seen and harmed from outside.

Environment variables, for one process:
  FAULTS_IDS=FILE        append a JSON line {"step", "ids"} for each batch used
  FAULTS_MARK=1          print "mark: evaluation" when one begins
  FAULTS_PICTURES=0      draw no pictures at the end, to save seconds
  FAULTS_DATA=3          in this step the data can't be read
  FAULTS_NAN=3-5         in these steps colour targets are not numbers
  FAULTS_AUDIT=FILE      append what Python's audit hooks say that could run
                         code of others
  FAULTS_PROBE=1         do one such thing, to see that it is heard
"""

import json
import os
import subprocess
import sys

import numpy as np

SUSPICIOUS = (
    "pickle.find_class", "os.system", "os.exec", "os.fork", "os.posix_spawn",
    "subprocess.Popen")


def audit(file):
  with open(file, "a") as f:
    f.write("listening\n")

  def hook(event, arguments):
    if event in SUSPICIOUS or (
        event in ("exec", "compile") and "checkpoints" in str(arguments)):
      with open(file, "a") as f:
        f.write(f"{event} {arguments}\n"[:500])
  return hook


def watch_batches():
  from mtvit import errors
  from mtvit.training import loop
  from mtvit.training import sharding
  place, run = sharding.global_batch, loop.Loop.run
  step = [0]
  first, _, last = os.environ.get("FAULTS_NAN", "0-0").partition("-")

  def counted_run(self, state, start, *arguments):
    step[0] = start
    return run(self, state, start, *arguments)

  def watched(batch, mesh):
    step[0] += 1
    if "FAULTS_IDS" in os.environ:
      with open(os.environ["FAULTS_IDS"], "a") as f:
        f.write(json.dumps(
            {"step": step[0], "ids": batch["index"].tolist()}) + "\n")
    if step[0] == int(os.environ.get("FAULTS_DATA", 0)):
      raise errors.DataError("an image can't be read", "restore it")
    if int(first) <= step[0] <= int(last):
      answers = batch["answers"]["colorize"]
      answers["pixels"] = np.full(
          answers["pixels"].shape, np.nan, np.float32)
    return place(batch, mesh)

  loop.Loop.run, sharding.global_batch = counted_run, watched


def mark_evaluations():
  from mtvit.probes import run_knn
  run = run_knn.Knn.run

  def marked(self, look):
    if look.step and not look.final:
      print("mark: evaluation", flush=True)
    return run(self, look)

  run_knn.Knn.run = marked


if __name__ == "__main__":
  from mtvit import pretrain
  from mtvit.run import entry
  watch_batches()
  if "FAULTS_MARK" in os.environ:
    mark_evaluations()
  if os.environ.get("FAULTS_PICTURES") == "0":
    from mtvit.pictures import run_report
    run_report.Report.at_end = "nothing"
  if "FAULTS_AUDIT" in os.environ:
    sys.addaudithook(audit(os.environ["FAULTS_AUDIT"]))
    if "FAULTS_PROBE" in os.environ:   # It must hear this.
      subprocess.run(["true"], check=True)
  pretrain.define_flags()
  entry.run(pretrain.main)
