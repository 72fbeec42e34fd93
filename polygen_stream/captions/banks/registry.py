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


def bank_of(config: CaptionsConfig) -> Bank:
    """The bank of a config, its concepts loaded.

    Raises:
        UserError: the concepts cannot be read, or are no bank.
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
    """The axes that tasks are drawn from: those of the config, an axis twice being drawn twice as often, or all known.

    Raises:
        UserError: the config names one that the bank does not know.
    """
    for axis in config.axes:
        if axis not in known:
            raise UserError(
                f"captions.axes has {axis!r}, which captions.bank = {config.bank!r} does not know: choose from "
                f"{', '.join(dict.fromkeys(known))}"
            )
    return config.axes or known


def check_bank(config: CaptionsConfig) -> None:
    """Refuses, before anything is started, what the captioner would refuse once it runs.

    Raises:
        UserError: as `bank_of` and `chosen_axes` do.
    """
    chosen_axes(config, bank_of(config).axes)
