"""The report process: at the end of a run, writes samples.png, curves.png and report.md into the run folder."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib import pyplot as plt

from polygen_stream.analyze.samples import draw_samples, pick_samples
from polygen_stream.config import RunConfig
from polygen_stream.role import RoleContext, run_role

SAMPLES = 12
HEADLINE = ("zero_shot_things", "zero_shot_colours", "retrieval_i2t_r1", "retrieval_t2i_r1", "compositional")


def main(context: RoleContext) -> None:
    config, ring, folder = context.config, context.ring, context.run_dir
    context.ring.heartbeat("writing the report")
    groups = ring.groups_snapshot(ring.spec.groups)
    samples = pick_samples(groups, SAMPLES, lambda slots: dict(zip(slots, ring.read(slots), strict=True)))
    if samples:
        draw_samples(samples, config.generators.recipes).savefig(folder / "samples.png", dpi=130)
    metrics, evaluations = _lines(folder / "metrics.jsonl"), _lines(folder / "eval.jsonl")
    if metrics:
        _draw_curves(metrics, evaluations, folder / "curves.png")
    text = _report(config, metrics, evaluations, dict(ring.stats().images_committed))
    (folder / "report.md").write_text(text, encoding="utf-8")


def _report(config: RunConfig, metrics: list[dict], evaluations: list[dict], images: dict[str, int]) -> str:
    by_step = sorted(evaluations, key=lambda line: line["step"])
    sections = [f"# {config.name}, seed {config.seed}", _sentence(metrics, images)]
    if by_step:
        sections += [
            "## Evaluation",
            _headline_table(by_step),
            "## Compositional accuracy by edit",
            _edit_table(by_step[-1]),
        ]
    sections += [
        "## Pictures of this run", "![samples](samples.png)",
        "## Training", "![curves](curves.png)",
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _sentence(metrics: list[dict], images: dict[str, int]) -> str:
    if not metrics:
        return "No optimizer step was taken."
    last = metrics[-1]
    shares = ", ".join(f"{name} {count}" for name, count in images.items())
    return (
        f"{last['step'] + 1} steps in {last['time']:.0f} s. {sum(images.values())} images rendered ({shares}), "
        f"{sum(line['images'] for line in metrics)} seen; mean reuse of a caption {last['mean_reuse']:.1f}. "
        f"Final loss {last['loss']:.3f}, hard-negative share {last['p']:.2f}, logit scale {last['logit_scale']:.1f}."
    )


def _headline_table(evaluations: list[dict]) -> str:
    """One row per score; the unseen combinations are the headline, the seen ones stand beside the last column."""
    steps = [line["step"] for line in evaluations]
    head = ["%", "chance", *(f"step {s}" if s else "untrained" for s in steps), "seen combinations, last"]
    rows = [
        [
            key.replace("_", " "),
            _percent(evaluations[-1]["chance"][key]),
            *(_percent(line["metrics"][key]) for line in evaluations),
            _percent(evaluations[-1]["metrics"]["seen"][key]),
        ]
        for key in HEADLINE
    ]
    return _markdown(head, rows)


def _edit_table(line: dict) -> str:
    unseen, seen = line["metrics"]["compositional_by_edit"], line["metrics"]["seen"]["compositional_by_edit"]
    rows = [[name.replace("_", " "), _percent(unseen[name]), _percent(seen[name])] for name in unseen]
    return _markdown(["% (chance 50)", "unseen", "seen"], rows)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _draw_curves(metrics: list[dict], evaluations: list[dict], path: Path) -> None:
    figure, (loss, images, score) = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
    steps = [line["step"] for line in metrics]
    loss.plot(steps, [line["loss"] for line in metrics], linewidth=0.8)
    loss.set(title="loss", xlabel="step")
    share = loss.twinx()
    share.plot(steps, [line["p_realised"] for line in metrics], color="tab:red", linewidth=0.8)
    share.set_ylabel("hard-negative share", color="tab:red")
    images.plot(steps, [line["images_committed"] for line in metrics])
    images.set(title="images rendered by step", xlabel="step")
    by_step = sorted(evaluations, key=lambda line: line["step"])
    for key in HEADLINE:
        points = [100 * line["metrics"][key] for line in by_step]
        score.plot([line["step"] for line in by_step], points, marker="o", label=key.replace("_", " "))
    score.set(title="unseen combinations, %", xlabel="step")
    if by_step:
        score.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _lines(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


if __name__ == "__main__":
    run_role(main, "report")
