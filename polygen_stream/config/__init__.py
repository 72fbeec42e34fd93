"""The run config: schema, loading, overrides, and what follows from a config."""

from polygen_stream.config.derived import (
    asks_for_negatives,
    curriculum_of,
    curriculum_shares,
    evaluated_tasks,
    expected_group_draws,
    groups_in_flight,
    images_per_text,
    learning_rate,
    least_slots,
    no_scores,
    node_share,
    pair_share,
    remote_generators,
    task_window,
    warmup_warning,
)
from polygen_stream.config.keys import config_keys
from polygen_stream.config.load import (
    dump_config,
    load_config,
)
from polygen_stream.config.overrides import parse_overrides, split_config_name
from polygen_stream.config.resume_rules import Change, allowed_changes, effects, fixed_settings, settings
from polygen_stream.config.schema import (
    MEMORY,
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
    "MEMORY",
    "CaptionsConfig",
    "Change",
    "CurriculumConfig",
    "EvaluateConfig",
    "GeneratorsConfig",
    "LaunchConfig",
    "RingConfig",
    "RunConfig",
    "TrainConfig",
    "allowed_changes",
    "asks_for_negatives",
    "config_keys",
    "curriculum_of",
    "curriculum_shares",
    "dump_config",
    "effects",
    "evaluated_tasks",
    "expected_group_draws",
    "fixed_settings",
    "groups_in_flight",
    "images_per_text",
    "learning_rate",
    "least_slots",
    "load_config",
    "no_scores",
    "node_share",
    "pair_share",
    "parse_overrides",
    "remote_generators",
    "settings",
    "split_config_name",
    "task_window",
    "warmup_warning",
]
