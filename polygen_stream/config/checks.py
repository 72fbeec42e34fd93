"""Refuse configs that are valid key by key and yet cannot run, with the arithmetic shown."""

from __future__ import annotations

import re
from math import ceil

from polygen_stream.assets.resources import check_recipe_name, recipe_slug
from polygen_stream.base.errors import UserError
from polygen_stream.base.proxies import is_address
from polygen_stream.base.secrets import has_credentials, redact
from polygen_stream.config.derived import (
    asks_for_negatives,
    curriculum_shares,
    expected_group_draws,
    least_slots,
    pair_share,
    remote_generators,
)
from polygen_stream.config.draw_checks import check_catch_up, check_deterministic, check_policy
from polygen_stream.config.schema import CaptionsConfig, GeneratorsConfig, RunConfig, TrainConfig
from polygen_stream.registry import is_own


def check_possible(config: RunConfig) -> None:
    """Refuse a config that cannot run.

    Raises:
        UserError: The first rule that the config breaks, with the values that disagree and what to change.
    """
    _check_recipes(config.generators)
    _check_renderers(config)
    _check_time_slices(config)
    _check_remote(config)
    _check_negatives(config)
    _check_training(config.train)
    _check_images_per_text(config)
    _check_sources(config.captions)
    _check_bank(config.captions)
    _check_evaluation(config)
    _check_ring_size(config)
    _check_co_occurrence(config)
    _check_target(config)
    if config.curriculum.staircase and not config.curriculum.epoch_captions:
        raise UserError(
            "curriculum.staircase = true has no meaning with curriculum.epoch_captions = 0: set the captions of an "
            "epoch, or leave it out"
        )
    if config.ring.mode == "deterministic":
        check_deterministic(config)
    if config.ring.catch_up > 1:
        check_catch_up(config)
    if config.synthesis.policy != "uniform":
        check_policy(config)
    _check_pairs(config)


def _check_renderers(config: RunConfig) -> None:
    generators = config.generators
    for name, devices in config.launch.renderers.items():
        if name not in generators.names:
            raise UserError(
                f"launch.renderers names {name}, which generators.recipes does not: {', '.join(generators.names)}"
            )
        if not devices:
            raise UserError(f"launch.renderers.{name} is empty: name a device for each process, or leave {name} out")


def _check_remote(config: RunConfig) -> None:
    generators = config.generators
    for name in generators.remote_recipes:
        if name not in generators.names or not generators.remote:
            raise UserError(
                f"generators.remote_recipes names {name}, but generators.remote = {generators.remote!r} and "
                f"generators.recipes = {', '.join(generators.names)}: set the cluster's address, or leave it out"
            )
    for name in remote_generators(config):
        if name in config.launch.renderers:
            raise UserError(
                f"launch.renderers.{name} gives it devices here, but generators.remote = {generators.remote!r} has "
                "it rendered there: leave one of them out, or name the others in generators.remote_recipes"
            )
    if generators.remote and config.ring.mode == "deterministic":
        raise UserError(
            "generators.remote has no place in ring.mode = 'deterministic': images differ with the machine that "
            "renders them; render here, or set ring.mode = 'throughput'"
        )


def _check_negatives(config: RunConfig) -> None:
    generators = config.generators
    curriculum = config.curriculum
    if asks_for_negatives(config) and generators.negatives < 1:
        by = f"curriculum.start = {curriculum.start} and end = {curriculum.end} ask"
        remedy = "set both shares to 0"
        if curriculum.kind == "co_occurrence":
            by, remedy = "curriculum.kind = 'co_occurrence' asks", "set curriculum.kind = 'share' with both shares 0"
        raise UserError(f"{by} for hard negatives, but generators.negatives = 0: render some, or {remedy}")
    if generators.negatives > generators.positives:
        # A negative image has the generator and seed of a positive one, so there cannot be more of them.
        raise UserError(
            f"generators.negatives = {generators.negatives} is more than "
            f"generators.positives = {generators.positives}: a negative image is the twin of a positive one"
        )


def _check_training(train: TrainConfig) -> None:
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
    if train.image_image_candidates != "hn_t2i" and not train.image_image_weight:
        raise UserError(
            f"train.image_image_candidates = {train.image_image_candidates!r} has no use with "
            "train.image_image_weight = 0: set the weight, or leave the candidates out"
        )
    if train.objective in ("negclip", "infonce"):
        for key in ("hn_t2i", "hn_weight", "image_image_candidates"):
            if getattr(train, key) != TrainConfig.model_fields[key].default:
                raise UserError(
                    f"train.{key} = {getattr(train, key)!r} has no meaning with train.objective = {train.objective!r}, "
                    'whose rows see what its paper says: it is for "multi_positive", so leave one of them out'
                )


def _check_images_per_text(config: RunConfig) -> None:
    n, rendered = config.train.images_per_text, config.generators.positives
    if n > rendered:
        raise UserError(
            f"train.images_per_text = {n} is more than generators.positives = {rendered}, the images that are rendered "
            "of a caption: lower the one or raise the other"
        )


def _check_co_occurrence(config: RunConfig) -> None:
    """Refuse a ring without room for the texts that wait for a batch (other_sides.py), and a second leftover queue."""
    curriculum, ring, generators = config.curriculum, config.ring, config.generators
    if curriculum.kind != "co_occurrence":
        return
    if curriculum.leftover_age:
        raise UserError(
            f"curriculum.leftover_age = {curriculum.leftover_age} has no meaning with curriculum.kind = "
            "'co_occurrence', whose leftovers wait until they are shown: set curriculum.leftover_age = 0"
        )
    images = generators.positives + generators.negatives
    needed = least_slots(config)
    if ring.mode == "throughput" and ring.slots < needed:
        raise UserError(
            f"ring.slots = {ring.slots} is less than 8 batches of {config.train.batch} captions x {images} images = "
            f"{needed}: with curriculum.kind = 'co_occurrence' a quarter of the ring keeps captions of which a text is "
            "still to be shown; raise ring.slots or lower train.batch"
        )


def _check_evaluation(config: RunConfig) -> None:
    every, train = config.evaluate.every, config.train
    if every % train.checkpoint_every:
        raise UserError(
            f"evaluate.every = {every} is not a multiple of train.checkpoint_every = {train.checkpoint_every}: the "
            "evaluator reads checkpoints, so set one of them to fit the other (or evaluate.every = 0)"
        )


def _check_ring_size(config: RunConfig) -> None:
    ring, train, generators = config.ring, config.train, config.generators
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
    per_group = generators.positives + (generators.negatives if asks_for_negatives(config) else 0)
    if ring.min_fill * per_group > ring.slots:
        raise UserError(
            f"ring.min_fill = {ring.min_fill} groups x {per_group} images = {ring.min_fill * per_group} "
            f"do not fit ring.slots = {ring.slots}: lower ring.min_fill or raise ring.slots"
        )


def _check_target(config: RunConfig) -> None:
    """Refuse a number of captions that does not fill the ring once, or that all draws together use up."""
    captions, ring, train = config.captions, config.ring, config.train
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


def _check_pairs(config: RunConfig) -> None:
    """Refuse a run whose captions with a hard negative are fewer than a batch needs."""
    captions, train = config.captions, config.train
    most = max(curriculum_shares(config))
    wanted = round(most * train.batch)
    if captions.target and captions.target * pair_share(config) < wanted:
        raise UserError(
            f"a batch of train.batch = {train.batch} texts with {most:.0%} hard negatives needs {wanted} captions that "
            f"have one, but about {pair_share(config):.0%} of captions.target = {captions.target} will: raise "
            f"captions.target to at least {ceil(wanted / pair_share(config))}, or lower curriculum.end"
        )


def _check_recipes(generators: GeneratorsConfig) -> None:
    """Refuse recipes that do not exist by name, and two whose processes and files would be called the same."""
    if not generators.recipes:
        raise UserError("generators.recipes is empty: name at least one recipe")
    if len(set(generators.recipes)) < len(generators.recipes):
        raise UserError(f"generators.recipes names one twice: {', '.join(generators.recipes)}")
    slugs: dict[str, str] = {}
    for recipe in generators.recipes:
        check_recipe_name(recipe)
    for recipe, name in zip(generators.recipes, generators.names, strict=True):
        other = slugs.setdefault(recipe_slug(name), recipe)
        if other != recipe:
            raise UserError(
                f"generators.recipes has {other} and {recipe}, whose generators would both be called "
                f"{recipe_slug(name)}: rename one of the files"
            )


def _check_time_slices(config: RunConfig) -> None:
    """Refuse time slices for a role that cannot release its device."""
    time_slice_s, captions = config.launch.time_slice_s, config.captions
    if not time_slice_s:
        return
    ranks = config.train.ranks * config.launch.nodes
    if ranks > 1:
        raise UserError(
            f"launch.time_slice_s = {time_slice_s} with {ranks} ranks of a trainer (train.ranks x launch.nodes): they "
            "step together and cannot wait for time slices on devices of their own; set one of them back"
        )
    if config.generators.backend.startswith("tensorrt"):
        raise UserError(
            f"launch.time_slice_s = {time_slice_s} with generators.backend = {config.generators.backend!r}: engines "
            "cannot release GPU memory between time slices; set generators.backend = 'eager' or 'torch-compile'"
        )
    if captions.source == "vllm" and captions.device != "cpu" and not captions.sleep_after_s:
        raise UserError(
            f"launch.time_slice_s = {time_slice_s} with captions.sleep_after_s = 0: vLLM could not release its "
            "memory; set captions.sleep_after_s to some seconds"
        )


def _check_sources(captions: CaptionsConfig) -> None:
    """Refuse settings of one caption source under another, which would ignore them, and a batch beyond the backlog."""
    if captions.source == "shards" and not captions.shards:
        raise UserError(
            "captions.source = 'shards' needs captions.shards, the folder of shards that --record-shards or an export "
            "wrote: --source shards:DIR sets both"
        )
    settings = {"structured_output_regex": ("vllm", "openai"), "sleep_after_s": ("vllm",), "shards": ("shards",)}
    for name, sources in settings.items():
        value = getattr(captions, name)
        if value and captions.source not in sources and not is_own(captions.source):
            raise UserError(
                f"captions.{name} = {value!r} has no meaning with captions.source = {captions.source!r}: leave it out, "
                f"or use captions.source = {' or '.join(map(repr, sources))}"
            )
    if captions.batch > captions.backlog:
        raise UserError(
            f"captions.batch = {captions.batch} is more than captions.backlog = {captions.backlog}: a batch that is "
            "written has to find room; lower captions.batch or raise captions.backlog"
        )
    _check_addresses(captions)
    try:
        re.compile(captions.structured_output_regex)
    except re.error as problem:
        raise UserError(
            f"captions.structured_output_regex = {captions.structured_output_regex!r} is no regular expression: "
            f"{problem}"
        ) from None


def _check_addresses(captions: CaptionsConfig) -> None:
    """Refuse what is no address of a server, and credentials in one: a run writes its config into several files."""
    for name in ("endpoint", "editor_endpoint", "concepts"):
        address = getattr(captions, name)
        is_file = name == "concepts" and not address.startswith(("http://", "https://"))
        if not address or is_file:
            continue
        if not is_address(address):
            raise UserError(
                f"captions.{name} = {redact(address)!r} is no address of a server: write http://HOST:PORT/PATH, as in "
                "http://127.0.0.1:8000/v1"
            )
        if has_credentials(address):
            how = "give the key in OPENAI_API_KEY" if name != "concepts" else "download the bank and give its path"
            raise UserError(
                f"captions.{name} = {redact(address)!r} has a user, a password or a key in it, which the run would "
                f"write into its files: take it out, and {how}"
            )


def _check_bank(captions: CaptionsConfig) -> None:
    """Refuse a bank without concepts, and one that the source has no words for."""
    if captions.balance and not captions.deduplicate:
        raise UserError(
            f"captions.balance = {captions.balance} counts captions that differ, and captions.deduplicate = false "
            "keeps those that do not: set captions.deduplicate = true"
        )
    # Nothing is written, or about what the source knows itself: the bank only says what evaluation is about.
    if captions.source == "shards" or is_own(captions.source):
        return
    if captions.bank == "micro":
        if captions.concepts:
            raise UserError(
                f"captions.concepts = {captions.concepts!r} has no use with captions.bank = 'micro', which has its "
                "own: set captions.bank = 'english', or leave the concepts out"
            )
        return
    if not captions.concepts:
        raise UserError(
            "captions.bank = 'english' needs captions.concepts: the path or URL of MetaCLIP's metadata.json, or of a "
            "bank that `polygen-stream concepts build --out bank.json` writes"
        )
    if captions.source == "grammar":
        raise UserError(
            "captions.source = 'grammar' writes about captions.bank = 'micro' only, not 'english': choose a source of "
            "language models"
        )
    for role in ("writer", "editor"):
        name = getattr(captions, role)
        if name.startswith("package:"):
            raise UserError(
                f"captions.{role} = {name!r} speaks of the micro world only, and captions.bank is 'english': give the "
                "folder or hub id of an instruction model"
            )
