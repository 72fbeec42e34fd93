"""`python -m polygen_stream` is `polygen-stream`."""

from polygen_stream.base.python import make_path_safe

make_path_safe()

from polygen_stream.cli import main  # noqa: E402 the folder that python -m puts first would be searched for it

main()
