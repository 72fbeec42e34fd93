"""The rates in a measurement's JSON: what `bench` and `make gpu-test` write and `plan --rates` reads, under "rates"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from polygen_stream.base.errors import UserError
from polygen_stream.base.json_files import read_user_json

KEY = "rates"


class TrainerRate(BaseModel):
    """How fast one device trains a model.

    Attributes:
        images_per_s: Images per second, forward and backward.
        accum_freq: train.accum_freq of the measured steps; above 1 every image was encoded twice.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    images_per_s: PositiveFloat
    accum_freq: PositiveInt = 1


class CaptionRate(BaseModel):
    """How fast one device writes captions.

    Attributes:
        captions_per_s: Captions per second.
        writer: captions.writer of the measurement.
        editor: captions.editor of the measurement.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    captions_per_s: PositiveFloat
    writer: str
    editor: str


class MeasuredRates(BaseModel):
    """Rates of one device.

    Attributes:
        generators: Images per second, by recipe name.
        captions: By caption source.
        trainer: By open_clip model.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    generators: dict[str, PositiveFloat] = Field(default={})
    captions: dict[str, CaptionRate] = Field(default={})
    trainer: dict[str, TrainerRate] = Field(default={})

    def as_json(self) -> dict[str, Any]:
        """Return {KEY: the rates}, to be merged into a measurement."""
        return {KEY: self.model_dump(mode="json", exclude_defaults=True)}


def read_measured_rates(file: Path) -> MeasuredRates:
    """Return the rates of a measurement.

    Args:
        file: JSON object with a key "rates"; its other keys are not looked at.

    Raises:
        UserError: The file cannot be read, has no rates, or has none of this form.
    """
    found = read_user_json(file, "--rates file")
    if not isinstance(found, dict) or KEY not in found:
        raise UserError(
            f'--rates {file} has no "{KEY}": give what `bench generators`, `bench captions` or `bench trainer` write '
            "with --json, or what `make gpu-test` writes"
        )
    try:
        rates = MeasuredRates.model_validate(found[KEY])
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = "".join(f".{key}" for key in first["loc"])
        raise UserError(f"--rates {file}: {KEY}{where}: {first['msg']}") from None
    if not rates.model_fields_set:
        raise UserError(
            f"--rates {file}: {KEY} is empty, as where nothing was timed (on a device that computes nothing, or where "
            "the tests failed): measure again, or leave it out"
        )
    return rates
