from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import octoscope
from octoscope.data.pool import WINDOW, in_order, usable_cores
from octoscope.errors import OctoscopeError


def slow_first(items: list[int]) -> list[int]:
    time.sleep(0.02 if items[0] % 16 == 0 else 0)
    return [item * item for item in items]


def die(items: list[int]) -> list[int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return items


def test_results_come_in_order():
    assert list(in_order(slow_first, range(100), workers=4, chunk=3)) == [i * i for i in range(100)]
    assert list(in_order(slow_first, [], workers=2)) == []


def test_work_runs_ahead_by_a_window_only():
    handed_out = []

    def items():
        for item in range(1000):
            handed_out.append(item)
            yield item

    results = in_order(slow_first, items(), workers=2, chunk=5)
    next(results)
    assert len(handed_out) <= WINDOW * 2 * 5 + 5
    results.close()
    assert len(handed_out) <= WINDOW * 2 * 5 + 5
    assert threading.active_count() < 20


def test_an_error_in_the_work_arrives():
    def fail(items: list[int]) -> list[int]:
        raise KeyError(items[0])

    with pytest.raises(KeyError):
        list(in_order(fail, range(10), workers=2))


def test_a_killed_process_is_one_sentence():
    with pytest.raises(OctoscopeError, match="killed"):
        list(in_order(die, range(4), workers=1, processes=True))


def test_processes_do_not_run_the_script_again(tmp_path):
    """A user's script without a __main__ guard must not start over in every worker."""
    script = tmp_path / "script.py"
    script.write_text(
        "import math\n"
        "from operator import methodcaller\n"
        "from octoscope.data.pool import in_order\n"
        "print('begun')\n"
        "print(list(in_order(methodcaller('copy'), range(20), workers=2, processes=True)))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["begun", str(list(range(20))), ""]


WORK = """
import os, time
from pathlib import Path

def slow(items):
    Path(f"{os.getpid()}.pid").touch()
    time.sleep(120)
    return items
"""
SCRIPT = """
import work
from contextlib import nullcontext
from pathlib import Path
from octoscope.data.pool import in_order
from octoscope.partial import partial_folder
with {where}:
    list(in_order(work.slow, range(4), workers=2, processes=True, chunk=1))
"""


@pytest.mark.parametrize("where", ["partial_folder(Path('cache'))", "nullcontext()"])
def test_sigterm_ends_the_workers_and_waits_for_none(tmp_path, where):
    """In the middle of writing, where SIGTERM is an exception, and anywhere else."""
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "script.py").write_text(SCRIPT.format(where=where))
    source = str(Path(octoscope.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([source, str(tmp_path)])},
        start_new_session=True,
    )
    try:
        workers = waited_for(lambda: [int(p.stem) for p in tmp_path.glob("*.pid")], 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
        assert not waited_for(lambda: [pid for pid in workers if living(pid)], 0)
        assert not list(tmp_path.glob(".cache-*"))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def waited_for(look, count: int) -> list[int]:
    """Look until so many are seen, for a minute at most."""
    until = time.monotonic() + 60
    while len(seen := look()) != count and time.monotonic() < until:
        time.sleep(0.05)
    return seen


def living(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_cores_are_those_that_may_be_used():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
