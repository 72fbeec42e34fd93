"""Which node of a run this is, by options or a launcher's environment, and what its part of the run is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.config import load_config, node_share
from polygen_stream.launch.nodes import node_folder, place_node
from polygen_stream.launch.process_plan import build_process_plan, ring_spec
from polygen_stream.ring import Ring

CONFIG = load_config(None, {"train.batch": "128", "captions.target": "3601", "train.ranks": "2"})
SIXTY_FOUR = ("64", 0, "node0:29400")
PLACE = {"nodes": "4", "node": 3, "rendezvous": "node0:29400"}


def test_a_node_has_its_share_of_batch_and_captions_and_all_else_as_it_is():
    config = place_node(CONFIG, **PLACE)
    assert (config.train.batch, config.captions.target) == (32, 901)
    assert (config.launch.nodes, config.launch.node, config.launch.rendezvous) == (4, 3, "node0:29400")
    assert config.ring == CONFIG.ring.model_copy(update={"min_fill": 128 // 4})
    assert config.generators == CONFIG.generators
    assert node_share(CONFIG, 1) == CONFIG == place_node(CONFIG, None, None, None)


def test_the_drift_that_a_limiter_allows_is_shared_like_the_batch():
    limited = CONFIG.model_copy(
        update={"ring": CONFIG.ring.model_copy(update={"samples_per_insert": 10.0, "error_buffer": 1000.0})}
    )
    assert node_share(limited, 4).ring.error_buffer == 250.0
    assert node_share(limited, 32).ring.error_buffer == 1000 / 32
    # Its batch is two texts and a caption brings ten draws: a window of 20 is the narrowest that both fit.
    wide = limited.model_copy(update={"train": limited.train.model_copy(update={"ranks": 1})})
    assert node_share(wide, 64).ring.error_buffer == 1000 / 64
    tight = wide.model_copy(update={"ring": wide.ring.model_copy(update={"error_buffer": 80.0})})
    ring = Ring.create(ring_spec(node_share(tight, 64)))  # which refuses a narrower one
    assert ring.spec.error_buffer == 10.0
    ring.close()


def test_the_first_fill_is_shared_and_holds_a_batch():
    assert [node_share(CONFIG, nodes).ring.min_fill for nodes in (1, 2, 4)] == [128, 64, 32]
    full = CONFIG.model_copy(update={"ring": CONFIG.ring.model_copy(update={"min_fill": 130})})
    assert node_share(full, 4).ring.min_fill == 33


def test_ranks_are_numbered_node_after_node_and_the_first_node_evaluates():
    ranks = build_process_plan(place_node(CONFIG, **PLACE)).with_role("trainer")
    assert [(rank.name, rank.rank, rank.leads) for rank in ranks] == [("trainer-6", 6, True), ("trainer-7", 7, False)]
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    assert [[rank.env[name] for name in names] for rank in ranks] == [["6", "0", "8", "2"], ["7", "1", "8", "2"]]
    assert not build_process_plan(place_node(CONFIG, **PLACE)).with_role("evaluator", "report")
    first = build_process_plan(place_node(CONFIG, **PLACE | {"node": 0}))
    assert [process.role for process in first.with_role("evaluator", "report")] == ["evaluator", "report"]


def test_launchers_say_it_in_their_environment():
    torchrun = {"WORLD_SIZE": "4", "RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29400"}
    launch = place_node(CONFIG, "torchrun", None, None, torchrun).launch
    assert (launch.nodes, launch.node, launch.rendezvous) == (4, 1, "node0:29401")
    launch = place_node(CONFIG, "slurm", None, "node0:29400", {"SLURM_NNODES": "2", "SLURM_NODEID": "1"}).launch
    assert (launch.nodes, launch.node, launch.rendezvous) == (2, 1, "node0:29400")
    with pytest.raises(UserError, match="--nodes torchrun, but RANK, MASTER_PORT is not set"):
        place_node(CONFIG, "torchrun", None, None, {"WORLD_SIZE": "4", "MASTER_ADDR": "node0"})


@pytest.mark.parametrize(
    ("launcher", "environment", "named"),
    [
        ("slurm", {"SLURM_NNODES": "2(x3)", "SLURM_NODEID": "1"}, "SLURM_NNODES = '2(x3)'"),
        (
            "torchrun",
            {"WORLD_SIZE": "4", "RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": ""},
            "MASTER_PORT = ''",
        ),
    ],
)
def test_what_a_launcher_says_has_to_be_numbers(launcher, environment, named):
    with pytest.raises(UserError, match=rf"--nodes {launcher}, but {re.escape(named)} is not a number"):
        place_node(CONFIG, launcher, None, "node0:29400", environment)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": "many"}, "--nodes many: give a number of nodes, or torchrun or slurm"),
        ({"nodes": "0"}, "--nodes 0"),
        ({"node": 4}, "node 4 of 4 nodes: they are counted from 0 to 3"),
        ({"rendezvous": "node0"}, "'node0' is not HOST:PORT"),
        ({"rendezvous": None}, "'' is not HOST:PORT"),
        ({"nodes": None}, "node 3 and rendezvous 'node0:29400' have no meaning for one node"),
        ({"nodes": "3", "node": 0}, "train.batch = 128 texts cannot be shared by 3 nodes"),
        ({"nodes": "64", "node": 0}, "make it a multiple of 64, at least 256"),
    ],
)
def test_an_impossible_place_is_refused(changes, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        place_node(CONFIG, **PLACE | changes)


def test_a_mode_that_counts_every_task_is_refused():
    config = load_config(None, {"ring.mode": "deterministic", "ring.slots": "24576"})
    with pytest.raises(UserError, match=r"ring\.mode = 'deterministic' counts every task"):
        place_node(config, "2", 0, "node0:29400")


def test_a_share_that_cannot_fill_its_ring_is_refused():
    train = CONFIG.train.model_copy(update={"batch": 1024})
    captions = CONFIG.captions.model_copy(update={"target": 900})
    with pytest.raises(UserError, match=r"captions\.target = 15 groups never reach ring\.min_fill = 16"):
        place_node(CONFIG.model_copy(update={"train": train, "captions": captions}), *SIXTY_FOUR)


def test_nodes_that_share_a_folder_keep_apart():
    config = place_node(CONFIG, **PLACE)
    assert node_folder(config, Path("runs/x")) == Path("runs/x/node-3")
    assert node_folder(CONFIG, Path("runs/x")) == Path("runs/x")
    with pytest.raises(UserError, match="needs --run-dir, the same on every node"):
        node_folder(config, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generators.remote_recipes": "micro/sana"}, "names micro/sana, but generators.remote = ''"),
        (
            {"generators.remote": "auto", "generators.remote_recipes": "sd15"},
            "names sd15, but generators.remote = 'auto'",
        ),
        ({"generators.remote": "auto", "ring.mode": "deterministic"}, "no place in ring.mode = 'deterministic'"),
        ({"generators.remote": "auto", "launch.renderers": "{'micro/sana' = ['cpu']}"}, "gives it devices here"),
    ],
)
def test_generators_elsewhere_are_refused_where_they_have_no_meaning(changes, message):
    with pytest.raises(UserError, match=message):
        load_config(None, changes)


def test_a_generator_elsewhere_has_a_bridge_in_place_of_its_renderer():
    config = load_config(None, {"generators.remote": "auto", "generators.remote_recipes": "micro/sana"})
    commands = {process.generator: process.command[-1] for process in build_process_plan(config).with_role("renderer")}
    bridges = {name for name, command in commands.items() if command == "polygen_stream.producers.bridge"}
    assert len(commands) == 4 and bridges == {"micro/sana"}
