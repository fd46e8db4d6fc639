"""One run of a study: trains, measures, writes its row."""

import os
import pathlib
import signal
import threading
import time
from typing import Any

from mtvit import config as config_lib
from mtvit import pretrain
from mtvit.study import arms
from mtvit.study import measuring
from mtvit.study import provenance
from mtvit.study import rows
from mtvit.training import inputs

_LOOK = 1.0      # Seconds between looks at who has started this process.


def run(
    named: arms.Named, arm: arms.Arm, seed: int, workdir: pathlib.Path,
    data: str = "", attempt: int = 1
) -> None:
  """Trains or goes on, measures, and adds the row.

  Args:
    named: the study.
    arm: one of its arms.
    seed: of the run.
    workdir: where the run is kept.
    data: takes the place of the config's data.name; "" for none.
    attempt: goes into the row.

  Raises:
    Preempted: it was interrupted and has saved.
    UserError: of the config, the data or the run.
  """
  began = time.perf_counter()
  config = configured(named.study, arm, seed, data)
  if arm.train:
    pretrain.pretrain(config, workdir)
  trained = time.perf_counter()
  found = measuring.measure(
      config, workdir if arm.train else None,
      measuring.Measures(**named.study.measures))
  ended = time.perf_counter()
  parsed = config_lib.parse(config)
  rows.append(named.rows, rows.Row(
      arm=arm.name, seed=seed, status=rows.DONE, attempt=attempt,
      config_digest=named.study.digest(arm),
      code_digest=provenance.code_digest(), commit=provenance.commit(),
      data=provenance.data_digest(inputs.sources(parsed)),
      seconds={"train": round(trained - began, 2),
               "measure": round(ended - trained, 2)},
      measures=found, **provenance.machine()))


def configured(
    study: arms.Study, arm: arms.Arm, seed: int, data: str
) -> dict[str, Any]:
  """The config of a run, on the data of the command line if these are given."""
  config = study.resolve(arm, seed)
  if data:
    config["data"]["name"] = data
  return config


def end_with(parent: int) -> None:
  """Has this process told to save and stop once its parent is gone."""
  def watch():
    while os.getppid() == parent:
      time.sleep(_LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
  threading.Thread(target=watch, daemon=True).start()
