"""What a role process owes its supervisor: an exit code, a last line in its log, and deafness to Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from polygen_stream.config import dump_config, load_config
from polygen_stream.launch.process_plan import ring_spec
from polygen_stream.ring import Ring


@pytest.fixture
def start(tmp_path):
    """Starts a role process whose main function has the given body; returns the process and its ring."""
    config = load_config(None, {"launch.trainer_threads": "3", "train.steps": "600"})
    dump_config(config, tmp_path / "config.toml")
    started = []

    def run(body: str, role: str = "trainer", *arguments: str) -> tuple[subprocess.Popen[str], Ring]:
        script = tmp_path / "role.py"
        indented = "".join(f"    {line}\n" for line in body.splitlines())
        script.write_text(
            "import os, sys, time\n"
            "from polygen_stream.base.errors import PolygenError, UserError\n"
            "from polygen_stream.roles.role import run_role\n"
            f"def main(context):\n{indented}"
            f"run_role(main, {role!r})\n"
        )
        ring = Ring.create(ring_spec(config))
        process = subprocess.Popen(
            [sys.executable, script, "--run-dir", tmp_path, "--ring-fd", str(ring.fd), "--name", "me", *arguments],
            pass_fds=(ring.fd,),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append((process, ring))
        return process, ring

    yield run
    for process, ring in started:
        process.kill()
        process.communicate()
        ring.close()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def test_a_role_gets_its_config_ring_and_name(start, tmp_path):
    process, _ = start(
        "row = context.ring.stats().processes[0]\n"
        "print(context.config.train.steps, context.run_dir, context.name, context.generator)\n"
        "print(row['role'], row['name'], os.environ['OMP_NUM_THREADS'], os.get_inheritable(context.ring.fd))",
        "trainer",
        "--generator",
        "micro/sana",
    )
    code, out, err = ended(process)
    assert code == 0, err
    assert out.splitlines() == [f"600 {tmp_path} me micro/sana", "trainer me 3 False"]


def test_the_command_line_may_give_a_role_other_threads_and_a_device(start):
    process, _ = start(
        "import torch\nprint(context.device, os.environ['OMP_NUM_THREADS'], torch.get_num_threads())",
        "evaluator", "--device", "cuda:3", "--threads", "2",
    )  # fmt: skip
    code, out, err = ended(process)
    assert (code, out) == (0, "cuda:3 2 2\n"), err


@pytest.mark.parametrize(
    ("body", "code", "last"),
    [
        ("raise UserError('weights are missing: fetch them')", 2, "error: weights are missing: fetch them"),
        ("raise PolygenError('the ring timed out')", 1, "error: the ring timed out"),
        ("raise KeyError('x')", 1, "error: KeyError: 'x'"),
        ("raise RuntimeError('two\\nlines')", 1, "error: RuntimeError: two lines"),
        ("assert False, 'an invariant'", 1, "error: AssertionError: an invariant"),
    ],
)
def test_a_failure_is_the_last_line_and_the_exit_code(start, body, code, last):
    process, _ = start(body)
    returned, _, err = ended(process)
    assert (returned, err.splitlines()[-1]) == (code, last)
    assert ("Traceback" in err) == (not last.startswith(("error: weights", "error: the ring")))


def test_sigterm_asks_it_to_stop_and_ctrl_c_does_not(start, tmp_path):
    process, _ = start(
        "(context.run_dir / 'ready').touch()\nwhile not context.stopping:\n    time.sleep(0.01)\nprint('saved')"
    )
    wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert ended(process)[:2] == (0, "saved\n")


def test_something_else_than_a_ring_is_refused(start, tmp_path):
    process, _ = start("print('never')", "trainer", "--ring-fd", "0")
    code, out, err = ended(process)
    assert code != 0 and not out and err.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("session", [True, False])
def test_a_role_that_yields_its_cores_does_so_for_other_sessions_too(session):
    # A nice value counts among the processes of a session, and every role has a session of its own.
    script = (
        "import json, os; from pathlib import Path; from polygen_stream.roles.role import yield_cores\n"
        "file = Path('/proc/self/autogroup')\n"
        "group = lambda: file.read_text().partition('nice ')[2].strip() if file.exists() else ''\n"
        "before = group(); yield_cores(); print(json.dumps([os.nice(0), before, group()]))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, start_new_session=session)
    nice, before, after = json.loads(done.stdout)
    assert nice == 19
    # No group's value stands there where the kernel does not group by session, or not these processes.
    assert after == ("19" if session and before else before), "a terminal's session is not touched"


def test_no_secret_reaches_a_log(start, monkeypatch):
    """Of what a process prints and logs, and of the traceback of an error that it does not know."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-example-0000-not-a-key\n")
    process, _ = start(
        "import logging\n"
        "key = os.environ['OPENAI_API_KEY']\n"
        "print(key, 'http://me:hunter22@host/v1')\n"
        "logging.warning('sent %r', key)\n"
        "raise ValueError(f\"Illegal header value b'Bearer {key!r}'\")"
    )
    code, out, err = ended(process)
    assert code == 1 and "Traceback" in err and err.splitlines()[-1].startswith("error: ValueError: Illegal header")
    assert "sk-example" not in out + err and "hunter22" not in out + err
