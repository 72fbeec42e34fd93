"""`python -m polygen_stream` is `polygen-stream`."""

from polygen_stream.cli.cli import main

main()
