"""The simulation against what can be worked out by hand, and what the command prints and refuses."""

from __future__ import annotations

import json
import sys

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.config import load_config
from polygen_stream.simulate.hardware import ModelTimes, Placement, one_device_each, place
from polygen_stream.simulate.node import simulate_node
from polygen_stream.simulate.sweep import coarsened, shortened, sweep

ONE = {
    "generators.recipes": "micro/sd15",
    "generators.batch": "4",
    "captions.batch": "4",
    "captions.backlog": "16",
    "captions.target": "400",
    "curriculum.end": "0",
    "ring.slots": "2048",
    "ring.min_fill": "8",
    "ring.samples_per_insert": "4",
    "ring.error_buffer": "16",
    "train.batch": "8",
    "train.steps": "190",
    "evaluate.every": "0",
}


def config_of(**changes: str):
    return load_config(None, {**ONE, **{key.replace("__", "."): value for key, value in changes.items()}})


def test_renderers_that_are_too_slow_set_the_pace_by_the_samples_per_insert():
    # 10 pictures/s = 5 captions/s, drawn 4 times each: 20 draws/s, 8 a step.
    outcome = simulate_node(
        config_of(), ModelTimes({"micro/sd15": 0.1}, step_s=0.1), one_device_each(["micro/sd15"], {})
    )
    assert outcome.steps_per_second == pytest.approx(20 / 8, rel=0.05)
    assert outcome.waiting_share == pytest.approx(1 - 2.5 * 0.1, rel=0.05)
    assert outcome.reuse == pytest.approx(4, rel=0.1)


def test_with_co_occurrence_every_caption_has_its_negative_and_most_are_drawn_twice():
    # 10 pictures/s = 2.5 captions/s, drawn 4 times each: 10 draws/s, 8 x (2 - 0.75) / (2 - 0.5) a step.
    author = config_of(method="author", curriculum__schedule="constant", curriculum__end="0.25")
    outcome = simulate_node(author, ModelTimes({"micro/sd15": 0.1}, step_s=0.1), one_device_each(["micro/sd15"], {}))
    assert outcome.steps_per_second == pytest.approx(10 / (8 * 1.25 / 1.5), rel=0.05)
    assert outcome.negatives_unused < 0.1 * outcome.negatives
    few, _ = shortened(author, 1000)
    assert few.ring.slots >= 8 * 8 * 4


def test_twice_as_many_renderers_are_twice_as_fast_until_the_trainer_is_the_slowest():
    times = ModelTimes({"micro/sd15": 0.1}, step_s=0.1)
    paces = [
        simulate_node(config_of(), times, one_device_each(["micro/sd15"], {"micro/sd15": count})).steps_per_second
        for count in (1, 2, 8)
    ]
    assert paces == pytest.approx([2.5, 5.0, 10.0], rel=0.05)


def test_who_shares_a_gpu_takes_turns():
    # 190 steps of 0.1 s and 380 captions of 0.2 s, none beside another.
    outcome = simulate_node(config_of(), ModelTimes({"micro/sd15": 0.1}, step_s=0.1), place(["micro/sd15"], 1, 1))
    assert outcome.finished_s == pytest.approx(190 * 0.1 + 380 * 0.2, rel=0.06)


def test_a_slow_language_model_is_what_everybody_waits_for():
    times = ModelTimes({"micro/sd15": 0.001}, step_s=0.001, caption_s=0.5)  # 2 captions/s, 8 draws/s
    assert simulate_node(config_of(), times, one_device_each(["micro/sd15"], {})).steps_per_second == pytest.approx(
        1, rel=0.05
    )


def test_more_nodes_cost_time_only_as_far_as_they_differ():
    config = config_of(ring__samples_per_insert="0", ring__error_buffer="0", captions__target="16")

    def pace(nodes: int, jitter: float) -> float:
        times = ModelTimes({"micro/sd15": 0.001}, step_s=0.1, jitter=jitter)
        return simulate_node(config, times, one_device_each(["micro/sd15"], {}), nodes).steps_per_second

    assert pace(128, 0.0) == pace(1, 0.0) == pytest.approx(10, rel=0.01)
    # The largest of n standard normal deviations is 1.42 for n = 8 and 2.62 for n = 128 on average.
    assert pace(8, 0.05) == pytest.approx(10 / (1 + 0.05 * 1.42), rel=0.02)
    assert pace(128, 0.05) == pytest.approx(10 / (1 + 0.05 * 2.62), rel=0.02)


def test_a_node_whose_window_is_narrower_than_its_renderers_need_keeps_their_pace():
    # 40 draws a caption: the narrowest window holds two captions, and eight renderers work on sixteen at once. They
    # make 40 captions/s; 400 steps of 16 draws take 160 of them.
    changes = {"ring__samples_per_insert": "40", "ring__error_buffer": "40", "ring__min_fill": "16"}
    config = config_of(**changes, train__batch="16", train__steps="400", captions__target="200")
    times, eight = ModelTimes({"micro/sd15": 0.1}, step_s=0.001), one_device_each(["micro/sd15"], {"micro/sd15": 8})
    outcome = simulate_node(config, times, eight)
    assert 160 / 40 <= outcome.finished_s < 1.35 * 160 / 40  # with the first fill; 34 s if every open caption counted
    assert outcome.reuse == pytest.approx(40, rel=0.15)


def test_hard_negatives_that_nobody_asks_for_any_more_are_counted():
    # 20 steps are too few for 400 captions: of those with a negative 6 steps draw 4 each, all different.
    free = {"ring__samples_per_insert": "0", "ring__error_buffer": "0", "curriculum__schedule": "step"}
    config = config_of(curriculum__start="0.5", curriculum__step_at="0.3", train__steps="20", **free)
    outcome = simulate_node(config, ModelTimes({"micro/sd15": 0.01}, step_s=0.5), one_device_each(["micro/sd15"], {}))
    assert outcome.negatives > 48
    assert outcome.negatives_unused == outcome.negatives - 24


def test_the_same_simulation_twice_gives_the_same():
    times = ModelTimes({"micro/sd15": 0.05}, step_s=0.1, caption_s=0.01, jitter=0.1)
    first, second = (simulate_node(config_of(), times, place(["micro/sd15"], 2, 1), 4) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("policy", ["hardest", "progress", "no_such_module:policy"])
def test_a_policy_without_feedback_changes_nothing(policy):
    times, where = ModelTimes({"micro/sd15": 0.05}, step_s=0.1, caption_s=0.01), one_device_each(["micro/sd15"], {})
    uniform, followed = (simulate_node(config_of(synthesis__policy=name), times, where) for name in ("uniform", policy))
    assert followed == uniform


def test_captions_that_stand_for_several_say_the_same():
    config = config_of(train__batch="256", ring__min_fill="256", captions__backlog="256", captions__target="2700",
                       ring__slots="8192", ring__error_buffer="600", train__steps="40")  # fmt: skip
    times, where = ModelTimes({"micro/sd15": 0.005}, trained_image_s=0.0001), one_device_each(["micro/sd15"], {})
    whole = simulate_node(config, times, where)
    coarse, slower, size = coarsened(config, times)
    found = simulate_node(coarse, slower, where)
    assert size == 4
    assert found.steps_per_second == pytest.approx(whole.steps_per_second, rel=0.05)
    assert found.waiting_share == pytest.approx(whole.waiting_share, abs=0.03)
    assert found.finished_s == pytest.approx(whole.finished_s, rel=0.05)


def test_half_a_run_takes_half_the_time():
    times, where = ModelTimes({"micro/sd15": 0.1}, step_s=0.1), one_device_each(["micro/sd15"], {})
    short, share = shortened(config_of(), 400)
    whole, found = simulate_node(config_of(), times, where), simulate_node(short, times, where)
    assert (short.train.steps, short.captions.target) == (95, 200) and share == 0.5
    assert found.finished_s / share == pytest.approx(whole.finished_s, rel=0.05)
    assert found.waiting_share == pytest.approx(whole.waiting_share, abs=0.03)


def test_ranks_and_every_generator_are_placed():
    assert place(["a", "b"], 4, 2) == Placement((0, 1), 2, (("a", 2), ("b", 2), ("a", 3), ("b", 3)))
    with pytest.raises(UserError, match=r"--trainer-gpus 4 of 4 GPUs leave 0 to render"):
        place(["a"], 4, 4)


def test_what_is_not_simulated_is_refused():
    with pytest.raises(UserError, match=r"curriculum\.leftover_age = 5"):
        simulate_node(
            config_of(curriculum__leftover_age="5"),
            ModelTimes({"micro/sd15": 0.1}),
            one_device_each(["micro/sd15"], {}),
        )


def test_gpus_have_to_fill_nodes_and_nodes_to_share_the_batch():
    times = ModelTimes({"micro/sd15": 0.1})
    with pytest.raises(UserError, match="--gpus 12 do not fill nodes of --gpus-per-node 8"):
        sweep(config_of(), times, [12], gpus_per_node=8, trainer_gpus=1, images=100)
    with pytest.raises(UserError, match=r"train.batch = 8 texts cannot be shared by 8 nodes .* at least 16"):
        sweep(config_of(), times, [64], gpus_per_node=8, trainer_gpus=1, images=100)


def test_the_command_writes_table_figures_and_plot(tmp_path, monkeypatch, capsys):
    from polygen_stream import cli

    rates = tmp_path / "rates.json"
    rates.write_text(json.dumps({"rates": {"generators": {"micro/sd15": 20.0, "micro/sana": 20.0}}}))
    trainer = tmp_path / "trainer.json"
    trainer.write_text(json.dumps({"rates": {"trainer": {"micro": {"images_per_s": 500.0}}}}))
    words = [
        "--generators.recipes", "micro/sd15,micro/sana", "--captions.source", "grammar", "--rates", str(rates),
        "--rates", str(trainer),
        "--gpus", "1,8,16", "--images", "500", "--json", str(tmp_path / "s.json"), "--plot", str(tmp_path / "s.png"),
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["polygen-stream", "simulate", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in table] == ["GPUs", "---", "1", "8", "16"]
    points = json.loads((tmp_path / "s.json").read_text())["points"]
    assert [point["nodes"] for point in points] == [1, 1, 2]
    assert points[0]["hours"] > points[1]["hours"] > points[2]["hours"] > 0
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_without_simpy_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "simpy", None)  # as if it were not installed
    with pytest.raises(UserError) as refused:
        simulate_node(config_of(), ModelTimes({"micro/sd15": 0.1}), one_device_each(["micro/sd15"], {}))
    assert str(refused.value) == "simulate needs the simpy package: pip install 'polygen-stream[simulate]'"
