"""A process of ours starts TensorFlow in silence, with oneDNN, one thread an operation; and fails aloud."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
from medsweep.backend.start import start_tensorflow
start_tensorflow(operations_at_once=2)
import os, sys, tensorflow as tf
from tensorflow.python.util import _pywrap_util_port
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
print(_pywrap_util_port.IsMklEnabled(), "keras" in sys.modules)
os.write(2, b"still there")
"""


def started(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=known | more, check=False)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="oneDNN is a matter of x86")
def test_silent_with_onednn_unless_it_is_switched_off() -> None:
    done = started(ASK)
    assert (done.stdout.split(), done.stderr) == (["1", "2", "True", "True"], "still there")
    off = started(ASK, TF_ENABLE_ONEDNN_OPTS="0")
    assert off.stdout.split() == ["1", "2", "False", "True"]


def test_what_tensorflow_says_when_it_cannot_be_imported_is_shown(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'no such instruction')\nraise ImportError('broken')\n"
    )
    (tmp_path / "keras.py").write_text("")
    done = started(ASK, PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert done.returncode == 1 and "no such instruction" in done.stderr and "broken" in done.stderr
