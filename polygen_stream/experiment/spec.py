"""What an experiment is: a pool of data, arms that train on parts of it, and the differences that are tested."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from polygen_stream.assets.model_configs import is_model_file, trainable_model_config
from polygen_stream.assets.resources import model_folder, recipe_name, weights_hash
from polygen_stream.base.errors import UserError
from polygen_stream.config import RunConfig, asks_for_negatives, load_config
from polygen_stream.config.render import toml_value
from polygen_stream.engine.key import recipe_hash
from polygen_stream.generators.recipe import load_recipe

# Raise it whenever a change makes the same run give other scores: in the training step, the order of batches, the
# measurements or their pictures, or in a default of the micro preset. Rows of another version are done again.
TRIAL_VERSION = 1
# Raise it whenever a change makes the same [pool] give other captions or images. A pool of another version is not used.
POOL_VERSION = 3
CAPTION_KEYS = ("axes", "scene_share", "temperature", "top_p", "max_tokens", "retries")  # that decide what is written
CAPTIONS_AT_ONCE = 256  # of a pool, as tasks of one call
# Fewest held-out captions of the generator probe. Three quarters of them are learned from, a fifth of these chooses C,
# and this fifth needs an image of every generator.
PROBE_CAPTIONS = 8

# {(generator, whether of T-, copy): captions, from the first}
ImagesNeeded = Mapping[tuple[str, bool, int], int]

Strings = Annotated[tuple[str, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]


class Table(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A table of an experiment file; unknown keys are refused."""


class Layer(Table, frozen=True):
    """Images of the pool's first captions.

    Attributes:
        captions: how many of the captions that arms may train on, from the first.
        copies: images of each caption by each generator.
        generators: all of the pool's, if none is named.
        negatives: images of T- instead of T+.
    """

    captions: int = Field(ge=1)
    copies: int = Field(default=1, ge=1)
    generators: Strings = ()
    negatives: bool = False


class PoolSpec(Table, frozen=True):
    """Captions, the first with a hard negative, and their images.

    They are a function of this table, the preset and the weights of the generators and language models, up to numerics.

    Attributes:
        captions: number of captions, no two of one meaning.
        held_out: number of captions, the last ones, that no arm trains on; the generator probe uses them. Each
            generator renders one image of each. 0 = no generator probe, otherwise PROBE_CAPTIONS or more.
    """

    seed: int = Field(ge=0)
    captions: int = Field(ge=1)
    held_out: int = Field(default=0, ge=0)
    generators: Strings = Field(min_length=1)
    layers: tuple[Layer, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        """Tells pools of different specs, recipes, weights and versions of the code apart.

        Raises:
            UserError: the weights of a generator or language model are not on this machine.
        """
        content: dict[str, Any] = self.model_dump(mode="json")
        for table in (content, *content["layers"]):
            table["generators"] = list(map(recipe_name, table["generators"]))
        captions = self.config().captions
        content["version"] = POOL_VERSION
        content["recipes"] = [_identity(recipe) for recipe in self.generators]
        content["captions"] = [getattr(captions, key) for key in CAPTION_KEYS]
        content["language models"] = [weights_hash(model_folder(m)) for m in (captions.writer, captions.editor)]
        text = json.dumps(content, sort_keys=True)
        return f"pool-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def negatives(self) -> int:
        """Number of captions, from the first, that have a hard negative."""
        return max((layer.captions for layer in self.layers if layer.negatives), default=0)

    @property
    def trainable(self) -> int:
        """Number of captions that arms may train on."""
        return self.captions - self.held_out

    @property
    def has_probe(self) -> bool:
        """Whether models are given the generator probe, which tells several generators apart."""
        return self.held_out > 0 and len(self.generators) > 1

    def config(self) -> RunConfig:
        """Return the config that the captions are written and the images rendered under."""
        at_once = str(CAPTIONS_AT_ONCE)
        return load_config("micro", {"captions.batch": at_once, "captions.backlog": at_once})

    def copies(self, generator: str, negatives: bool) -> list[int]:
        """Return how many captions have each copy by a generator: copy k exists for the first `result[k]` captions."""
        counts: list[int] = []
        for layer in self.layers:
            if layer.negatives == negatives and generator in (layer.generators or self.generators):
                counts += [0] * (layer.copies - len(counts))
                counts[: layer.copies] = [max(have, layer.captions) for have in counts[: layer.copies]]
        return counts


class Arm(Table, frozen=True):
    """One way to spend the budget.

    Attributes:
        captions: how many of the pool's captions it trains on, from the first.
        positives: n+, images of a caption in a batch.
        views: images that exist of each caption, of which a batch takes n+, if more than n+.
        ensembles: sets of generators; the run of seed s uses number s modulo their count. Image j of a caption is by
            generator `permutation[j % m]`, with a permutation of the m generators for every caption.
        images_per_step: if not the experiment's.
        seeds: runs, if not the experiment's.
        buffer: 0 trains on passes over all captions. Otherwise the captions stream through a ring that holds this
            many, as if they were rendered during training.
        reuse: of a ring: draws per inserted caption; the rate limiter's samples per insert.
        start: of a ring: captions in it before the first step, if not `buffer`.
        supply: of a ring: captions of the pool that synthesis.policy chooses from, from the first; `captions` of them
            are used. 0 = `captions`.
        config: keys of the run config and their values, over the experiment's.
    """

    name: str
    captions: int = Field(ge=1)
    positives: int = Field(ge=1)
    views: int = Field(default=0, ge=0)
    ensembles: Annotated[
        tuple[Strings, ...], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v), Field(min_length=1)
    ]
    images_per_step: int = Field(default=0, ge=0)
    seeds: int = Field(default=0, ge=0)
    buffer: int = Field(default=0, ge=0)
    reuse: int = Field(default=0, ge=0)
    start: int = Field(default=0, ge=0)
    supply: int = Field(default=0, ge=0)
    config: dict[str, Any] = {}

    def ensemble(self, seed: int) -> tuple[str, ...]:
        """Return the generators of the run with this seed."""
        return self.ensembles[seed % len(self.ensembles)]

    @property
    def images_per_caption(self) -> int:
        """Images that exist of each caption."""
        return max(self.views, self.positives)

    @property
    def images(self) -> int:
        """Positive images that have to be rendered for it."""
        return self.captions * self.images_per_caption


class Contrast(Table, frozen=True):
    """A difference that the experiment was made for: `arm` minus `against`, paired by seed."""

    arm: str
    against: str
    question: str


class Experiment(Table, frozen=True):
    """A grid of runs.

    Attributes:
        text: introduction of the result page, Markdown.
        steps: optimizer steps of every run.
        images_per_step: positive and negative images of a batch, about; a batch has this many divided by n+ texts.
        baseline: the arm that Delta_MTL is relative to.
        learning_rates: peak rates; each arm is tried with all of them on the validation set and uses the best.
        tuning_seed: seed of those trials; the comparison does not use it.
        seeds: runs of each arm with its learning rate.
        pools: number of pools that differ in their seed alone: pool number k has the pool's seed + k, and the run of
            seed s uses number s modulo their count.
        config: keys of the run config and their values, for all arms.
        worst_edits: so many edits, those in which the arms together are worst, are an outcome of their own; 0 = none.
        plot: "grid" draws Delta_MTL against n+ for the arms named nX-mY, "bars" draws one bar per arm.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    text: str = ""
    pool: PoolSpec
    steps: int = Field(ge=1)
    images_per_step: int = Field(ge=2)
    baseline: str
    learning_rates: tuple[float, ...] = Field(min_length=1)
    tuning_seed: int = 1000
    seeds: int = Field(default=3, ge=2)
    pools: int = Field(default=1, ge=1)
    config: dict[str, Any] = {}
    arms: tuple[Arm, ...] = Field(min_length=1)
    contrasts: tuple[Contrast, ...] = ()
    worst_edits: int = Field(default=0, ge=0, le=14)
    plot: Literal["grid", "bars"] = "bars"

    def arm(self, name: str) -> Arm:
        """Return the arm of this name."""
        return next(arm for arm in self.arms if arm.name == name)

    def pool_number(self, seed: int) -> int:
        """Return the number of the pool that the run of a seed uses, 0 to `pools` - 1."""
        return seed % self.pools

    def numbered_pool(self, number: int) -> PoolSpec:
        """Return the pool of this number."""
        return self.pool.model_copy(update={"seed": self.pool.seed + number})

    def images_of_pool(self, number: int) -> ImagesNeeded:
        """Return the images that the arms need of the pool of this number: of how many captions, from the first."""
        needed: dict[tuple[str, bool, int], int] = {}
        lr, *others = self.learning_rates
        for arm in self.arms:
            negatives = asks_for_negatives(self.run_config(arm, lr, self.tuning_seed))
            seeds = [*range(arm.seeds or self.seeds), *([self.tuning_seed] if others else [])]
            for seed in [seed for seed in seeds if self.pool_number(seed) == number]:
                ensemble = arm.ensemble(seed)
                for generator, negative in product(ensemble, (False, True) if negatives else (False,)):
                    for copy in range(-(-arm.images_per_caption // len(ensemble))):
                        wanted = generator, negative, copy
                        needed[wanted] = max(needed.get(wanted, 0), arm.captions, arm.supply)
        return needed

    def texts(self, arm: Arm) -> int:
        """Return the number of texts of a batch, T+ and T- together."""
        return (arm.images_per_step or self.images_per_step) // arm.positives

    def run_config(self, arm: Arm, lr: float, seed: int) -> RunConfig:
        """Return the config that a run of the arm trains under."""
        texts = self.texts(arm)
        values = {
            "seed": seed,
            "curriculum.end": 0.0,
            **self.config,
            **arm.config,
            "train.lr": lr,
            "train.steps": self.steps,
            "train.batch": texts,
            "generators.recipes": list(arm.ensemble(seed)),
            "generators.positives": arm.images_per_caption,
            "generators.negatives": arm.images_per_caption,
            "train.images_per_text": arm.positives,
            # A pool has no slots; the size of the ring must not be what refuses a batch.
            "ring.slots": 64 * texts * arm.images_per_caption,
            "ring.min_fill": texts,
            "captions.target": arm.captions,
        }
        return load_config("micro", {k: v if isinstance(v, str) else toml_value(v) for k, v in values.items()})


def settings_hash(experiment: Experiment, arm: Arm) -> str:
    """Hash what decides the outcome of a run of the arm; its name and the number of its runs do not.

    That is the experiment file's part in it, the content of the CLIP's model config, the pool with its models' weights,
    and TRIAL_VERSION. Keys that have their default value are left out: a key that is added later does not make existing
    results stale.

    Raises:
        UserError: the model config cannot be read, or weights of the pool's models are not on this machine.
    """
    # The pool's name says what is in recipe files and weights; where they lie changes nothing.
    names = [list(map(recipe_name, ensemble)) for ensemble in arm.ensembles]
    values = arm.model_dump(mode="json", exclude={"name", "seeds"}, exclude_defaults=True) | {"ensembles": names}
    config = {**experiment.config, **arm.config}
    values.pop("config", None)
    config.pop("train.model", None)  # what is in it counts, below
    model = experiment.run_config(arm, experiment.learning_rates[0], experiment.tuning_seed).train.model
    relevant = (
        TRIAL_VERSION,
        experiment.pool.name,
        experiment.pools,
        experiment.steps,
        experiment.images_per_step,
        None if is_model_file(model) else model,
        json.dumps(trainable_model_config(model), sort_keys=True),
        sorted(config.items()),
        sorted(values.items()),
    )
    return hashlib.sha256(repr(relevant).encode()).hexdigest()[:10]


def _identity(recipe: str) -> tuple[str, str, str]:
    """Return name, content and weights of a recipe, the latter two as hashes."""
    found = load_recipe(recipe)
    if found.folder is None:
        remedy = found.download if found.on_hub else f"there is no pipeline in {found.source}"
        raise UserError(f"generator {found.name}: its weights are not on this machine: {remedy}")
    return found.name, recipe_hash(found), weights_hash(found.folder)
