"""The run config: schema, loading, overrides, and what follows from a config."""

from polygen_stream.config.derived import (
    curriculum_of,
    curriculum_shares,
    expected_group_draws,
    node_share,
    remote_generators,
    task_window,
)
from polygen_stream.config.keys import config_keys
from polygen_stream.config.load import (
    dump_config,
    load_config,
)
from polygen_stream.config.overrides import parse_overrides, split_config_name
from polygen_stream.config.schema import (
    CaptionsConfig,
    CurriculumConfig,
    EvaluateConfig,
    GeneratorsConfig,
    LaunchConfig,
    RingConfig,
    RunConfig,
    TrainConfig,
)

__all__ = [
    "CaptionsConfig",
    "CurriculumConfig",
    "EvaluateConfig",
    "GeneratorsConfig",
    "LaunchConfig",
    "RingConfig",
    "RunConfig",
    "TrainConfig",
    "config_keys",
    "curriculum_of",
    "curriculum_shares",
    "dump_config",
    "expected_group_draws",
    "load_config",
    "node_share",
    "parse_overrides",
    "remote_generators",
    "split_config_name",
    "task_window",
]
