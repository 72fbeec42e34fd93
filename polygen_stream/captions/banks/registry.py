"""The registry of banks: config value -> bank."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from polygen_stream.base.errors import UserError
from polygen_stream.captions.banks.base import Bank
from polygen_stream.captions.banks.concepts import load_bank
from polygen_stream.captions.banks.english import EnglishBank
from polygen_stream.captions.banks.micro import MicroBank
from polygen_stream.config import CaptionsConfig
from polygen_stream.registry import is_own


def bank_of(config: CaptionsConfig) -> Bank:
    """Return the bank of a config, with its concepts loaded.

    Raises:
        UserError: the concepts cannot be read, or are not a bank.
    """
    match config.bank:
        case "micro":
            return MicroBank()
        case "english":
            bank = EnglishBank(load_bank(config.concepts))
            for reason, count in bank.refused.most_common():
                logging.info("%s: %d concepts left out: %s", config.concepts, count, reason)
            return bank


def chosen_axes(config: CaptionsConfig, known: Sequence[str]) -> Sequence[str]:
    """Return the axes that tasks are drawn from: those of the config, or all that the bank knows if it names none.

    Raises:
        UserError: the config names an axis that the bank does not know.
    """
    for axis in config.axes:
        if axis not in known:
            raise UserError(
                f"captions.axes has {axis!r}, which captions.bank = {config.bank!r} does not know: choose from "
                f"{', '.join(dict.fromkeys(known))}"
            )
    return config.axes or known


def check_bank(config: CaptionsConfig) -> None:
    """Check the bank of a config before any process is started; the captioner would find the same errors later.

    Raises:
        UserError: as `bank_of` and `chosen_axes` do.
    """
    if not is_own(config.source):  # which brings concepts and axes of its own
        chosen_axes(config, bank_of(config).axes)
