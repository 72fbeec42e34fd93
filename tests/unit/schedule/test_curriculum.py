from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polygen_stream.schedule.curriculum import Curriculum, ErrorDiffusion


def test_linear_schedule_starts_at_start_and_ends_at_end():
    curriculum = Curriculum("linear", start=0.0, end=0.5, steps=100, texts=64)
    assert curriculum.share(0) == 0.0
    assert curriculum.share(50) == pytest.approx(0.25)
    assert curriculum.share(100) == 0.5
    assert curriculum.share(10_000) == 0.5


def test_constant_schedule_is_the_end_value_from_step_zero():
    curriculum = Curriculum("constant", start=0.0, end=0.3, steps=100, texts=64)
    assert curriculum.share(0) == curriculum.share(99) == 0.3


def test_zero_share_never_draws_a_pair():
    curriculum = Curriculum("linear", start=0.0, end=0.0, steps=50, texts=64)
    assert {(m.plain, m.pair) for m in map(curriculum.draw, range(50))} == {(64, 0)}


def test_half_share_pairs_every_positive():
    mix = Curriculum("constant", start=0.0, end=0.5, steps=10, texts=64).draw(0)
    assert (mix.plain, mix.pair, mix.realised) == (0, 32, 0.5)


@pytest.mark.parametrize("start, end", [(0.0, 0.5), (0.5, 0.1)])
def test_cosine_schedule_is_flat_at_both_ends_and_in_the_middle_in_the_middle(start, end):
    curriculum = Curriculum("cosine", start, end, steps=100, texts=64)
    assert [curriculum.share(step) for step in (0, 50, 100)] == pytest.approx([start, (start + end) / 2, end])
    early, middle = (abs(curriculum.share(step + 10) - curriculum.share(step)) for step in (0, 45))
    assert early < middle / 4
    assert curriculum.share(25) == pytest.approx(start + (end - start) * (1 - math.sqrt(0.5)) / 2)


def test_step_schedule_jumps_where_it_is_told():
    curriculum = Curriculum("step", start=0.1, end=0.4, steps=100, texts=64, step_at=0.3)
    assert [curriculum.share(step) for step in (0, 29, 30, 100)] == [0.1, 0.1, 0.4, 0.4]


@pytest.mark.parametrize("share", [0.0, 0.13, 0.25, 0.4999, 0.5])
def test_co_occurrence_draws_whole_pairs_and_of_other_captions_one_text(share):
    curriculum = Curriculum("constant", 0.0, share, steps=10, texts=64, kind="co_occurrence")
    for step in range(10):
        mix = curriculum.draw(step)
        assert (mix.plain, mix.pair) == (64 - 2 * int(64 * share), int(64 * share))
        assert curriculum.production_share(step, 3.0) == 1.0


@pytest.mark.parametrize("staircase", [False, True])
def test_with_co_occurrence_an_epoch_has_both_texts_of_its_captions(staircase):
    curriculum = Curriculum(
        "linear", 0.0, 0.5, steps=10**6, texts=64, epoch_captions=640, epochs=5, staircase=staircase,
        kind="co_occurrence",
    )  # fmt: skip
    # 2 x 640 texts are 20 steps
    assert [curriculum.share(20 * epoch) for epoch in range(6)] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert curriculum.share(30) == pytest.approx(0.1 if staircase else 0.15)


def test_epochs_are_captions_drawn():
    """The batches' own captions are counted: more hard negatives in a batch, fewer captions, longer epochs."""
    texts, captions, epochs = 64, 640, 5
    curriculum = Curriculum("linear", 0.0, 0.5, steps=10**6, texts=texts, epoch_captions=captions, epochs=epochs)
    drawn = steps = 0
    while drawn < captions * epochs:
        assert curriculum.share(steps) == pytest.approx(0.5 * drawn / captions / epochs, abs=0.5 / captions)
        mix = curriculum.draw(steps)
        drawn += mix.plain + mix.pair
        steps += 1
    assert steps > 1.2 * captions * epochs / texts  # at p = 0 they would have sufficed
    assert curriculum.share(steps + 1) == curriculum.share(10**9) == 0.5


def test_staircase_changes_the_share_between_epochs_only_and_ends_the_last_of_40_below_the_end():
    curriculum = Curriculum("linear", 0.0, 0.5, steps=1, texts=10, epoch_captions=100, epochs=40, staircase=True)
    shares = [curriculum.share(step) for step in range(1000)]
    assert sorted(set(shares)) == pytest.approx([0.5 * e / 40 for e in range(41)])
    assert shares == sorted(shares)
    assert sorted(set(shares))[-2] == pytest.approx(0.4875)
    assert shares.count(0.0) == 10  # 100 captions, 10 a step


def test_share_does_not_depend_on_what_was_asked_before():
    def fresh() -> Curriculum:
        return Curriculum("cosine", 0.1, 0.4, steps=1, texts=16, epoch_captions=160, epochs=7, staircase=True)

    forwards, backwards = fresh(), fresh()
    assert [forwards.share(s) for s in range(120)] == [backwards.share(s) for s in reversed(range(120))][::-1]


@st.composite
def curricula(draw) -> Curriculum:
    epochs = draw(st.booleans())
    return Curriculum(
        draw(st.sampled_from(["linear", "cosine", "step", "constant"])),
        draw(st.floats(0, 0.5)),
        draw(st.floats(0, 0.5)),
        steps=draw(st.integers(1, 300)),
        texts=draw(st.integers(2, 129)),
        step_at=draw(st.floats(0, 1)),
        epoch_captions=draw(st.integers(1, 2000)) if epochs else 0,
        epochs=draw(st.integers(1, 40)),
        staircase=epochs and draw(st.booleans()),
    )


@given(curriculum=curricula())
def test_batch_is_full_and_realised_share_is_within_one_text_of_p(curriculum):
    low, high = sorted([curriculum.start, curriculum.end])
    for step in range(300):
        mix = curriculum.draw(step)
        assert mix.plain + 2 * mix.pair == curriculum.texts
        assert mix.plain >= 0 and mix.pair >= 0
        assert low - 1e-12 <= mix.share <= high + 1e-12
        assert abs(mix.realised - mix.share) <= 1 / curriculum.texts + 1e-9


@given(curriculum=curricula(), steps=st.integers(1, 300))
def test_rounding_does_not_drift_over_a_run(curriculum, steps):
    if curriculum.texts % 2:
        curriculum.texts += 1  # an odd batch cannot reach p = 0.5, which is no matter of rounding
    drawn = sum(curriculum.draw(step).pair for step in range(steps))
    asked = sum(curriculum.share(step) * curriculum.texts for step in range(steps))
    assert abs(drawn - asked) <= 0.5 + 1e-6


def test_state_dict_continues_the_same_sequence():
    def fresh():
        return Curriculum("linear", 0.0, 0.5, steps=40, texts=10)

    whole = fresh()
    expected = [whole.draw(step) for step in range(40)]
    first = fresh()
    head = [first.draw(step) for step in range(18)]
    second = fresh()
    second.load_state_dict(first.state_dict())
    assert head + [second.draw(step) for step in range(18, 40)] == expected
    assert first.state_dict()["carry"] != 0.0  # else the test would pass without the carry


@pytest.mark.parametrize("share, expected", [(0.0, 0.0), (0.25, 1 / 3), (0.5, 1.0)])
def test_production_share_counts_a_pair_as_one_group(share, expected):
    curriculum = Curriculum("constant", 0.0, share, steps=10, texts=64)
    assert curriculum.production_share(0, lead_steps=0) == pytest.approx(expected)


def test_production_share_meets_the_draw_mix_one_lead_time_ahead():
    curriculum = Curriculum("linear", 0.0, 0.5, steps=100, texts=64)
    ahead = curriculum.share(60)
    pair, plain = 64 * ahead, 64 * (1 - 2 * ahead)
    assert curriculum.production_share(20, lead_steps=40) == pytest.approx(pair / (plain + pair))
    assert curriculum.production_share(90, lead_steps=500) == 1.0


def test_production_turns_one_lead_time_before_the_draw_mix_jumps():
    curriculum = Curriculum("step", 0.0, 0.5, steps=100, texts=64)
    assert [curriculum.production_share(step, lead_steps=20) for step in (29, 30)] == [0.0, 1.0]
    by_epoch = Curriculum("step", 0.0, 0.5, steps=1, texts=64, epoch_captions=640, epochs=2, staircase=True)
    assert [by_epoch.production_share(step, lead_steps=3) for step in (6, 7)] == [0.0, 1.0]


def test_diffusion_of_single_groups_realises_the_share():
    diffusion = ErrorDiffusion()
    opened = [diffusion.take(0.3, limit=1) for _ in range(100)]
    assert sum(opened) == 30 and set(opened) == {0, 1}


@pytest.mark.parametrize("start, end", [(-0.1, 0.5), (0.0, 0.6)])
def test_share_outside_zero_to_half_is_refused_by_name(start, end):
    with pytest.raises(ValueError, match=r"curriculum\.(start|end) is .*outside \[0, 0\.5\]"):
        Curriculum("linear", start, end, steps=10, texts=64)


def test_staircase_without_epochs_is_refused():
    with pytest.raises(ValueError, match=r"staircase.*epoch_captions"):
        Curriculum("linear", 0.0, 0.5, steps=10, texts=64, staircase=True)


def test_negative_lead_time_is_refused():
    with pytest.raises(ValueError, match="lead_steps"):
        Curriculum("linear", 0.0, 0.5, steps=10, texts=64).production_share(0, lead_steps=-1)


def test_curriculum_imports_no_torch():
    code = "import sys, polygen_stream.schedule.curriculum; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
