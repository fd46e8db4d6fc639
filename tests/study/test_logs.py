"""Why a run of a study has ended, by its log."""

import pytest

from mtvit.study import logs


@pytest.mark.parametrize("text, code, told", [
    ("error: it is nan\n  fix: less\n", 3, "exit code 3: it is nan"),
    ("Traceback\nKeyError: 'x'\n", 1, "exit code 1: KeyError: 'x'"),
    ("", 1, "exit code 1: it said nothing"),
    ("step 3", -9, "killed by SIGKILL"),
    ("step 3\nTimeout (0:30:00)!\nThread 0x1 (most recent call first):\n"
     + '  File "a.py", line 1 in b\n' * 300, 1,
     "exit code 1: no step in 0:30:00, the watchdog's limit"),
    ("Timeout (0:00:01)!\nThread 0x1 (most recent call first):\n", -11,
     "killed by SIGSEGV: no step in 0:00:01, the watchdog's limit"),
    ("Timeout (0:30:00)!\nerror: it is nan\n=== attempt 2\nKeyError: 'x'\n", 1,
     "exit code 1: KeyError: 'x'"),
])
def test_why_a_run_failed_is_told(tmp_path, text, code, told):
  log = tmp_path / "0.log"
  log.write_text(text)
  assert logs.reason(log, code) == told
