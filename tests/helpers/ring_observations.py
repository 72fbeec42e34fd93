"""What can be seen of a ring from outside, and the same of its model; equal if they agree."""

from __future__ import annotations

from collections import Counter

from ring_model import RingModel

from polygen_stream.ring import Kind, Ring


def look_at_ring(ring: Ring) -> dict[str, object]:
    stats = ring.stats()
    snapshot = ring.groups_snapshot(ring.spec.groups)
    return {
        "complete": {
            group.task_id: (
                group.kind,
                group.caption,
                group.negative,
                group.positive_generators,
                group.negative_generators,
                group.times_sampled,
            )
            for group in snapshot
        },
        "kinds": stats.groups,
        "backlog": stats.backlog,
        "committed": stats.images_committed,
        "failed": stats.failed,
        "free_slots": stats.free_slots,
        "free_groups": stats.free_groups,
        "finished": stats.finished_opening,
        "opened": stats.groups_opened,
        "completed": stats.groups_completed,
        "evicted": stats.evicted,
        "dropped": stats.dropped,
        "degraded": stats.degraded,
        "demoted": stats.demoted,
        "captions_rejected": stats.captions_rejected,
        "stale": stats.stale_commits,
        "retries": stats.retries,
        "reaped": stats.reaped,
        "draws": stats.draws,
        "samples": stats.samples,
        "reuse": stats.mean_reuse,
        "pinned": stats.pinned,
        "pins_refused": stats.pins_refused,
        "pins_gone": stats.pins_gone,
        "step": stats.step,
    }


def look_at_model(model: RingModel) -> dict[str, object]:
    t, spec = model.totals, model.spec

    def named(counts: Counter) -> dict[str, int]:
        return {name: counts[index] for index, name in enumerate(spec.generators)}

    def count(kind: Kind) -> dict[str, int]:
        mine = [group for group in model.groups if group.kind is kind]
        return {
            "open": sum(group.is_open for group in mine),
            "complete": sum(not group.is_open for group in mine),
            "leased": sum(bool(group.leases) for group in mine),
        }

    return {
        "complete": {
            group.task: (
                group.kind,
                group.caption,
                group.negative if group.kind is Kind.PAIR else None,
                tuple(image.member.generator for image in group.ready(0)),
                tuple(image.member.generator for image in group.ready(1)) if group.kind is Kind.PAIR else (),
                group.times,
            )
            for group in model.complete_groups()
        },
        "kinds": {"plain": count(Kind.PLAIN), "pair": count(Kind.PAIR)},
        "backlog": named(model.backlog()),
        "committed": named(model.committed),
        "failed": named(model.failed),
        "free_slots": spec.slots - sum(len(group.images) for group in model.groups),
        "free_groups": spec.groups - len(model.groups),
        "finished": model.finished,
        **{name: t[name] for name in ("opened", "completed", "evicted", "dropped", "degraded", "demoted")},
        **{name: t[name] for name in ("captions_rejected", "stale", "retries", "reaped", "draws", "samples")},
        "reuse": t["samples"] / max(1, t["groups_drawn"]),
        "pinned": sum(group.pinned for group in model.groups),
        "pins_refused": t["pins_refused"],
        "pins_gone": t["pins_gone"],
        "step": model.step,
    }
