"""The run config: a TOML file checked against a frozen schema, plus dotted overrides from the command line.

This file is the one place where defaults live; configs/micro.toml repeats them with explanations.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from polygen_stream.curriculum import Curriculum
from polygen_stream.errors import UserError
from polygen_stream.resources import config_path, recipe_path

# TOML arrays arrive as lists; frozen sections hold tuples.
Names = Annotated[tuple[str, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CaptionsConfig(Section):
    source: Literal["transformers", "grammar"] = "transformers"
    bank: str = "micro"
    writer: str = "package:mistral"  # language model of T+: shipped with the package, a folder, or a hub id
    editor: str = "package:llama"  # language model of T-
    temperature: float = Field(0.7, ge=0)  # SynthCLIP's sampling (TextGen/captions_generator.py)
    top_p: float = Field(0.95, gt=0, le=1)
    max_tokens: int = Field(32, ge=1)  # longest reply
    retries: int = Field(4, ge=0)  # further attempts after a refused reply, each with another seed
    batch: int = Field(16, ge=1)  # captions written at once
    backlog: int = Field(64, ge=1)  # groups open (not yet complete) at once
    target: int = Field(3600, ge=0)  # groups (captions) to produce; 0 = until training ends


class GeneratorsConfig(Section):
    recipes: Names = ("micro/sd15", "micro/sd2", "micro/sana", "micro/sdxl_turbo")
    positives: int = Field(2, ge=1, le=1024)  # n+: images per caption
    negatives: int = Field(2, ge=0, le=1024)  # images per hard-negative caption
    batch: int = Field(16, ge=1)  # images per pipeline call
    device: str = "cpu"
    # Renderers of a compiled backend that find no engine in the cache run eager.
    backend: Literal["eager", "onnxruntime", "openvino", "openvino-bf16", "tensorrt", "tensorrt-rtx"] = "openvino-bf16"


class RingConfig(Section):
    # The upper bounds keep byte counts inside 64 bits; whether the memory is there is checked at the start.
    slots: int = Field(12288, ge=1, le=2**32)  # images
    image_size: int = Field(32, ge=8, le=8192)  # pixels, square
    caption_bytes: int = Field(192, ge=16, le=65536)  # UTF-8; a longer caption is rejected, never cut
    mode: Literal["throughput", "deterministic"] = "throughput"
    window: int = Field(0, ge=0)  # deterministic mode: tasks a step draws from; 0 = as many as fit
    min_fill: int = Field(128, ge=1)  # complete groups before step 0
    max_age: int = Field(0, ge=0)  # training steps; 0 = no limit
    max_backlog: int = Field(0, ge=0)  # images per generator; 0 = no bound
    max_times_sampled: int = Field(0, ge=0)  # 0 = no limit
    samples_per_insert: float = Field(0.0, ge=0)  # 0 = no rate limiter
    error_buffer: float = Field(0.0, ge=0)
    draw_timeout_s: float = Field(120.0, gt=0)
    open_timeout_s: float = Field(600.0, gt=0)
    max_retries: int = Field(3, ge=0)


class CurriculumConfig(Section):
    schedule: Literal["linear", "cosine", "step", "constant"] = "linear"
    start: float = Field(0.0, ge=0, le=0.5)  # share of texts that are hard negatives
    end: float = Field(0.5, ge=0, le=0.5)
    step_at: float = Field(0.5, ge=0, le=1)  # progress at which a "step" jumps
    epoch_captions: int = Field(0, ge=0)  # 0 = progress is the fraction of training
    epochs: int = Field(40, ge=1)  # until `end`
    staircase: bool = False
    leftover_age: int = Field(0, ge=0)  # steps a group waits in the leftover queue; 0 = no queue


class TrainConfig(Section):
    model: str = "micro"
    steps: int = Field(1400, ge=1)
    batch: int = Field(128, ge=2)  # texts per step, T+ and T- together
    ranks: int = Field(1, ge=1, le=62)  # processes that share each batch; the ring's draw board serves no more
    accumulate: int = Field(1, ge=1)  # micro-batches per step
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "cpu"
    lr: float = Field(1.5e-3, gt=0)
    warmup: int = Field(50, ge=0)  # steps
    weight_decay: float = Field(0.1, ge=0)
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.98, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    grad_clip: float = Field(1.0, ge=0)  # 0 = off
    objective: Literal["multi_positive", "negclip", "infonce"] = "multi_positive"
    hn_t2i: Literal["same_polarity", "none", "all"] = "same_polarity"
    image_image_weight: float = Field(0.0, ge=0)
    image_image_temperature: float = Field(0.1, gt=0)
    image_image_head: int = Field(0, ge=0)  # width; 0 = on the embedding itself
    loss_chunk: int = Field(4096, ge=0)  # rows of logits at a time; 0 = all
    crop_scale_min: float = Field(0.8, gt=0, le=1)  # smallest share of the image area a random crop keeps
    downsample_probability: float = Field(0.0, ge=0, le=1)  # of scaling a picture down and up again
    ema: float = Field(0.0, ge=0, lt=1)  # decay of the averaged weights; 0 = off
    checkpoint_every: int = Field(200, ge=1)  # steps
    log_every: int = Field(1, ge=1)  # steps
    keep_checkpoints: int = Field(3, ge=1)


class EvaluateConfig(Section):
    every: int = Field(400, ge=0)  # steps; 0 = only untrained and final
    images_per_thing: int = Field(20, ge=1)
    device: str = "cpu"


class LaunchConfig(Section):
    trainer_threads: int = Field(1, ge=1)
    renderer_threads: int = Field(1, ge=1)
    captioner_threads: int = Field(1, ge=1)
    evaluator_threads: int = Field(1, ge=1)
    hang_timeout_s: float = Field(120.0, gt=0)
    grace_s: float = Field(20.0, ge=0)


class RunConfig(Section):
    name: str = Field("micro", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")  # part of the run folder's name
    seed: int = Field(0, ge=0, lt=2**63)
    captions: CaptionsConfig = CaptionsConfig()
    generators: GeneratorsConfig = GeneratorsConfig()
    ring: RingConfig = RingConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    launch: LaunchConfig = LaunchConfig()


def config_keys() -> list[str]:
    """Every dotted key of the schema, e.g. "name", "train.steps"."""
    return [dotted for dotted, _ in _fields()]


def load_config(path: str | Path | None = None, overrides: Mapping[str, str] | Sequence[str] = ()) -> RunConfig:
    """Read, override and check a run config.

    Args:
        path: TOML file or preset name; None is the micro preset.
        overrides: {"train.steps": "200"}, or command-line words ("--train.steps", "200" or
            "--train.steps=200"). Values are TOML; quotes of a string and brackets of a list may be left out.

    Raises:
        UserError: anything wrong, in one line that names the file or option, the key and the remedy.
    """
    file = config_path(path)
    values = _read_toml(file)
    origins: dict[str, str] = {}
    pairs = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    for dotted, text in pairs.items():
        _set_dotted(values, dotted, text)
        origins[dotted] = f"--{dotted}"
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as problem:
        raise UserError(_explain(problem, str(file), origins)) from None
    try:
        _check_possible(config)
    except UserError as problem:
        raise UserError(f"{file}: {problem}") from None
    return config


def dump_config(config: RunConfig, path: Path) -> None:
    """Write the resolved config as TOML; `load_config` of that file gives an equal config."""
    path.write_text(tomli_w.dumps(config.model_dump(mode="json")), encoding="utf-8")


def parse_overrides(words: Sequence[str], other_options: Sequence[str] = ()) -> dict[str, str]:
    """Command-line words to {dotted key: text}; the last one of a repeated key wins.

    Args:
        words: "--key", "VALUE" or "--key=VALUE" each.
        other_options: further option names (without dashes) a misspelt word may have meant.

    Raises:
        UserError: an unknown key, an override without a value, or a value without an override.
    """
    known = config_keys()
    pairs: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        dotted = option.removeprefix("--")
        if dotted == option:
            raise UserError(f"unexpected argument {word!r}: overrides read --section.key VALUE")
        if dotted not in known:
            raise UserError(f"unknown option {option}: {_nearest(dotted, other_options, prefix='--')}")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"{option} has no value: write {option} VALUE")
            value = rest.pop(0)
        pairs[dotted] = value
    return pairs


def curriculum_of(config: RunConfig) -> Curriculum:
    """A curriculum at the beginning of this run; everybody who asks what a step needs has one of their own."""
    schedule = config.curriculum.model_dump(exclude={"leftover_age"})
    return Curriculum(steps=config.train.steps, texts=config.train.batch, **schedule)


def curriculum_shares(config: RunConfig) -> list[float]:
    """The share of hard negatives at 101 steps from the first to the last, evenly spread."""
    curriculum, steps = curriculum_of(config), config.train.steps
    return [curriculum.share(steps * i // 100) for i in range(101)]


def expected_group_draws(config: RunConfig) -> int:
    """Groups that all training steps together draw, about.

    A step of B texts with a share p of hard negatives draws B (1 - p) groups, for a negative comes with its
    positive's group.
    """
    shares = curriculum_shares(config)
    return round(config.train.steps * config.train.batch * (1 - sum(shares) / len(shares)))


def task_window(config: RunConfig) -> tuple[int, float]:
    """Of a ring in deterministic mode: the tasks in its window, and by how many the window moves on per step.

    Unless ring.window says otherwise the window is all of production if that fits, or three quarters of what fits: the
    rest is the room in which producers work ahead. It moves so that a group is drawn ring.samples_per_insert times on
    average or, if that is 0, so that the last step reaches the last caption.
    """
    ring, captions, steps = config.ring, config.captions, config.train.steps
    fits = ring.slots // (config.generators.positives + config.generators.negatives)
    all_fits = 0 < captions.target <= fits
    window = ring.window or (captions.target if all_fits else max(ring.min_fill, 3 * fits // 4))
    if ring.samples_per_insert:
        return window, expected_group_draws(config) / steps / ring.samples_per_insert
    return window, (captions.target - ring.min_fill) / steps


def _fields() -> Iterator[tuple[str, Any]]:
    for name, field in RunConfig.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for inner, leaf in field.annotation.model_fields.items():
                yield f"{name}.{inner}", leaf.annotation
        else:
            yield name, field.annotation


def _nearest(dotted: str, others: Sequence[str] = (), prefix: str = "") -> str:
    """A hint at the key that was meant: the most similar one of the same last name first, then of any."""
    known = [*config_keys(), *others]
    last = {name: name.rpartition(".")[2] for name in known}
    wanted = dotted.rpartition(".")[2]
    close = (
        get_close_matches(dotted, [name for name in known if last[name] == wanted], n=1, cutoff=0.0)
        or get_close_matches(dotted, known, n=1)
        or [name for name in known if last[name] in get_close_matches(wanted, last.values(), n=1)]
    )
    return f"did you mean {prefix}{close[0]}?" if close else f"{config_path()} shows every key"


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except tomllib.TOMLDecodeError as problem:
        raise UserError(f"{file} is not valid TOML: {problem}") from None
    except UnicodeDecodeError as problem:
        raise UserError(f"{file} is not UTF-8 text (byte {problem.start}): save it as UTF-8") from None
    except OSError as problem:
        raise UserError(f"cannot read {file}: {problem.strerror or problem}") from None


def _set_dotted(values: dict[str, Any], dotted: str, text: str) -> None:
    kinds = dict(_fields())
    if dotted not in kinds:
        raise UserError(f"unknown option --{dotted}: {_nearest(dotted, prefix='--')}")
    section, _, leaf = dotted.rpartition(".")
    table = values.setdefault(section, {}) if section else values
    if not isinstance(table, dict):
        return  # the file put a plain value where the section belongs: validation says so
    table[leaf] = _parse_value(text, kinds[dotted])


def _parse_value(text: str, annotation: Any) -> Any:
    if annotation is str or (get_origin(annotation) is Literal):
        return text
    if get_origin(annotation) is tuple and not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _explain(problem: ValidationError, file: str, origins: Mapping[str, str]) -> str:
    first = problem.errors()[0]
    # Positions inside a list are part of pydantic's location; the key is what a user can look up.
    dotted = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    where = f"{origins[dotted]}" if dotted in origins else f"{file}: {dotted}"
    if first["type"] == "extra_forbidden":
        return f"{file}: unknown key {dotted}: {_nearest(dotted)}"
    context = first.get("ctx", {})
    expected = {
        "int_type": "an integer",
        "int_from_float": "an integer",
        "float_type": "a number",
        "finite_number": "a finite number",
        "string_type": "a string",
        "tuple_type": "a list of strings",
        "model_type": f"a table, [{dotted}]",
        "literal_error": f"one of {context.get('expected', '')}",
        "greater_than": f"more than {context.get('gt')}",
        "greater_than_equal": f"at least {context.get('ge')}",
        "less_than": f"less than {context.get('lt')}",
        "less_than_equal": f"at most {context.get('le')}",
        "string_pattern_mismatch": "letters, digits, '.', '_' and '-', starting with a letter or digit",
    }.get(first["type"], first["msg"])
    return f"{where} = {first['input']!r}, expected {expected}"


def _check_possible(config: RunConfig) -> None:
    """Refuse what cannot run, with the arithmetic shown."""
    generators, ring, train, captions = config.generators, config.ring, config.train, config.captions
    if not generators.recipes:
        raise UserError("generators.recipes is empty: name at least one recipe")
    if len(set(generators.recipes)) < len(generators.recipes):
        raise UserError(f"generators.recipes names one twice: {', '.join(generators.recipes)}")
    for name in generators.recipes:
        recipe_path(name)

    with_negatives = max(config.curriculum.start, config.curriculum.end) > 0
    if with_negatives and generators.negatives < 1:
        raise UserError(
            f"curriculum.start = {config.curriculum.start} and end = {config.curriculum.end} ask for hard "
            "negatives, but generators.negatives = 0: render some, or set both shares to 0"
        )
    if generators.negatives > generators.positives:
        # A negative image has the generator and seed of a positive one, so there cannot be more of them.
        raise UserError(
            f"generators.negatives = {generators.negatives} is more than "
            f"generators.positives = {generators.positives}: a negative image is the twin of a positive one"
        )

    if train.ranks > 1 and train.device not in ("cpu", "cuda"):
        raise UserError(
            f"train.device = {train.device!r} is one device, but train.ranks = {train.ranks} need one each: set "
            "train.device = 'cuda' (rank r trains on cuda:r) or 'cpu'"
        )
    if train.batch < 2 * train.ranks:
        # At p = 0.5 a batch of B texts has B / 2 captions, and a rank must have one.
        raise UserError(
            f"train.batch = {train.batch} texts are too few for train.ranks = {train.ranks}: each needs 2, so raise "
            f"train.batch to at least {2 * train.ranks}"
        )
    if train.image_image_head and not train.image_image_weight:
        raise UserError(
            f"train.image_image_head = {train.image_image_head} has no use with train.image_image_weight = 0: set the "
            "weight, or leave the head out"
        )
    if train.objective != "multi_positive" and train.hn_t2i != "same_polarity":
        raise UserError(
            f"train.hn_t2i = {train.hn_t2i!r} has no meaning with train.objective = {train.objective!r}, whose text "
            "rows see what its paper says: leave one of them out"
        )

    if captions.batch > captions.backlog:
        raise UserError(
            f"captions.batch = {captions.batch} is more than captions.backlog = {captions.backlog}: a batch that is "
            "written has to find room; lower captions.batch or raise captions.backlog"
        )

    every = config.evaluate.every
    if every % train.checkpoint_every:
        raise UserError(
            f"evaluate.every = {every} is not a multiple of train.checkpoint_every = {train.checkpoint_every}: the "
            "evaluator reads checkpoints, so set one of them to fit the other (or evaluate.every = 0)"
        )

    needed = 4 * train.batch * generators.positives
    if ring.slots < needed:
        raise UserError(
            f"ring.slots = {ring.slots} is less than 4 batches of {train.batch} captions x "
            f"{generators.positives} images = {needed}: raise ring.slots or lower train.batch"
        )
    if ring.min_fill < train.batch:
        raise UserError(
            f"ring.min_fill = {ring.min_fill} groups cannot fill a batch of train.batch = {train.batch} "
            f"captions: set ring.min_fill to at least {train.batch}"
        )
    per_group = generators.positives + (generators.negatives if with_negatives else 0)
    if ring.min_fill * per_group > ring.slots:
        raise UserError(
            f"ring.min_fill = {ring.min_fill} groups x {per_group} images = {ring.min_fill * per_group} "
            f"do not fit ring.slots = {ring.slots}: lower ring.min_fill or raise ring.slots"
        )
    if captions.target and captions.target < ring.min_fill:
        raise UserError(
            f"captions.target = {captions.target} groups never reach ring.min_fill = {ring.min_fill}: "
            "raise captions.target (0 = no limit) or lower ring.min_fill"
        )
    if captions.target and ring.max_times_sampled:
        draws = expected_group_draws(config)
        budget = captions.target * ring.max_times_sampled
        if budget < draws:
            raise UserError(
                f"{train.steps} steps draw about {draws} groups, but captions.target = {captions.target} x "
                f"ring.max_times_sampled = {ring.max_times_sampled} allow {budget}: raise either, or lower "
                "train.steps"
            )

    if config.curriculum.staircase and not config.curriculum.epoch_captions:
        raise UserError(
            "curriculum.staircase = true has no meaning with curriculum.epoch_captions = 0: set the captions of an "
            "epoch, or leave it out"
        )

    if ring.mode == "deterministic":
        _check_deterministic(config)

    most = max(curriculum_shares(config))
    wanted = round(most * train.batch)
    if captions.target and captions.target * _pair_share(config) < wanted:
        raise UserError(
            f"a batch of train.batch = {train.batch} texts with {most:.0%} hard negatives needs {wanted} captions that "
            f"have one, but about {_pair_share(config):.0%} of captions.target = {captions.target} will: raise "
            f"captions.target to at least {ceil(wanted / _pair_share(config))}, or lower curriculum.end"
        )


def _check_deterministic(config: RunConfig) -> None:
    """Refuse a deterministic ring whose rules contradict, or that could never hold what a step waits for."""
    ring = config.ring
    for name in ("error_buffer", "max_times_sampled", "max_age"):
        if getattr(ring, name):
            raise UserError(
                f"ring.{name} = {getattr(ring, name)} has no meaning with ring.mode = 'deterministic', where reuse "
                f"follows from ring.window and ring.samples_per_insert: set ring.{name} = 0"
            )
    if config.curriculum.leftover_age:
        raise UserError(
            f"curriculum.leftover_age = {config.curriculum.leftover_age} has no meaning with ring.mode = "
            "'deterministic', whose window says how long each caption stays: set curriculum.leftover_age = 0"
        )
    if not ring.samples_per_insert and not config.captions.target:
        raise UserError(
            "ring.mode = 'deterministic' needs a pace: set ring.samples_per_insert to the draws per caption, or "
            "captions.target to the captions of the run"
        )
    window, _ = task_window(config)
    images = config.generators.positives + config.generators.negatives
    if window * images > ring.slots:
        raise UserError(
            f"ring.window = {window} captions x up to {images} images = {window * images} do not fit ring.slots = "
            f"{ring.slots}: a step would wait for captions that find no room; lower ring.window to "
            f"{ring.slots // images} or raise ring.slots"
        )
    if window < ring.min_fill:
        raise UserError(
            f"ring.window = {window} captions is less than ring.min_fill = {ring.min_fill}, which the first step waits "
            "for: raise ring.window or lower ring.min_fill"
        )


def _pair_share(config: RunConfig) -> float:
    """Share of all produced groups that carry a hard negative, at least: the mean of p / (1 - p) over the run."""
    shares = curriculum_shares(config)
    return sum(p / (1 - p) for p in shares) / len(shares)
