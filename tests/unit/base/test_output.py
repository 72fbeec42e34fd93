"""Output that nothing depends on; and that of a command, which may be cut short and must not end in a traceback."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time

from polygen_stream.base.output import LenientStream, discard_unwritable, lenient_output

COMMAND = [sys.executable, "-m", "polygen_stream", "config"]


def pipe(size: int = 4096) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, size)
    return read_end, write_end


def test_what_a_reader_takes_is_written_in_order_and_at_once():
    read_end, write_end = pipe(65536)
    with os.fdopen(write_end, "w", encoding="ascii") as stream:
        lenient = LenientStream(stream)
        print("eins", "zwei ä", file=lenient)
        assert os.read(read_end, 100) == b"eins zwei \\xe4\n"  # what the encoding lacks fails no print either
        print("x" * 20_000, file=lenient)
        assert lenient.encoding == "ascii" and not lenient.isatty()
    with os.fdopen(read_end, "rb") as reader:
        assert reader.read() == b"x" * 20_000 + b"\n"


def test_a_reader_that_stands_still_is_waited_for_once_and_then_not():
    read_end, write_end = pipe()
    with os.fdopen(write_end, "w") as stream, os.fdopen(read_end, "rb"):
        lenient = LenientStream(stream)
        lenient.write("x" * 100_000)
        began = time.monotonic()
        for _ in range(1000):
            lenient.write("x" * 1000)
        assert time.monotonic() - began < 5


def test_a_reader_that_has_gone_and_a_full_disk_raise_nothing():
    read_end, write_end = pipe()
    os.close(read_end)
    for descriptor in (write_end, os.open("/dev/full", os.O_WRONLY)):
        with os.fdopen(descriptor, "w") as stream:
            LenientStream(stream).write("lost")
            stream.write("kept in the buffer")
            assert isinstance(discard_unwritable(stream), OSError)
    assert LenientStream(stream).write("closed") == 6 and discard_unwritable(stream) is None


def test_streams_in_memory_stay_as_they_are(capsys):
    with lenient_output():
        print("seen")
    assert capsys.readouterr().out == "seen\n"


def test_a_command_whose_output_cannot_be_written_says_so_in_a_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(COMMAND, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: No space left on device") and len(done.stderr.splitlines()) == 1


def test_a_command_whose_reader_has_gone_ends_in_silence():
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(COMMAND, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (1, "")
