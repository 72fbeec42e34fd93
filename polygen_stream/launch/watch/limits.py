"""`polygen-stream limits`: change the limits of a running ring from another terminal."""

from __future__ import annotations

from pathlib import Path

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.launch.watch.control_protocol import ANSWER_LIMIT_S, RunEnding, ask
from polygen_stream.ring import Limits


def change_limits(run_dir: Path, changes: dict[str, float], answer_limit_s: float = ANSWER_LIMIT_S) -> Limits:
    """Have the supervisor of a running run change these limits, all or none.

    Args:
        run_dir: The run folder.
        changes: New values by the names of Limits; none: change nothing.
        answer_limit_s: How long to wait for the answer.

    Returns:
        The limits that hold now.

    Raises:
        UserError: No run is going on in this folder, or the new limits would stop producers and trainer for ever.
        PolygenError: The supervisor does not answer.
    """
    run = RunFolder.open(run_dir)
    try:
        answer = ask(run_dir, {"verb": "limits", "changes": changes}, answer_limit_s)
    except RunEnding:
        raise PolygenError(f"the run in {run_dir} is just ending; nothing was changed") from None
    if answer is None:
        raise UserError(f"no run is going on in {run_dir}; its limits are those of its {run.config.name}")
    return Limits(**answer.content["limits"])
