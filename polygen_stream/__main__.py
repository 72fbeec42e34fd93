"""`python -m polygen_stream` is `polygen-stream`."""

from polygen_stream.cli import main

main()
