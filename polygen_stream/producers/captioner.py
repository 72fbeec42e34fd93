"""The captioner: ledger -> captions -> open groups in the ring, paced by the renderers and mixed by the curriculum."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing

from polygen_stream.captions.base import Caption, CaptionSource, Dropped
from polygen_stream.captions.journal import CaptionJournal, JournalEntry, read_journal
from polygen_stream.captions.selection.selector import CaptionSelector
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import CaptionsConfig, curriculum_of
from polygen_stream.producers.failures import Failures
from polygen_stream.producers.pause import Pause
from polygen_stream.producers.task_scheduler import TaskCursor, TaskScheduler, aim, members_of, open_groups, target_of
from polygen_stream.ring import GeneratorsDown, Kind, WaitStopped
from polygen_stream.roles.device_lock import POLL_S, DeviceLock
from polygen_stream.roles.role import RoleContext, run_role


def main(context: RoleContext, source_of: Callable[[CaptionsConfig], CaptionSource] = caption_source) -> None:
    config, ring = context.config, context.ring
    file = context.run_folder.journal
    with closing(CaptionJournal(file)) as journal:
        device_lock = context.device_lock(config.captions.device)
        begun = _go_on(context, read_journal(file), device_lock)
        if begun is not None and begun.opened < target_of(config) and ring.spec.mode != "replay":
            if not device_lock.acquire(ring.heartbeat, lambda: context.stopping):
                return
            ring.heartbeat("loading the caption source")
            with closing(source_of(config.captions)) as source:
                journal.record_provenance(source.provenance)
                _write(context, begun, source, journal, device_lock)
    if not context.stopping:
        ring.finish_opening()


def _go_on(context: RoleContext, entries: Iterable[JournalEntry], device_lock: DeviceLock) -> TaskCursor | None:
    """Opens, in order, what an earlier captioner wrote and the ring did not get or has lost; None: the run stops."""
    config, ring = context.config, context.ring
    known, begun = ring.stats().known, TaskCursor(config.launch.node)
    curriculum, pause = curriculum_of(config), Pause(context)
    for entry in entries:
        if entry.task.task_id >= known:
            while not context.stopping and open_groups(ring.stats()) >= config.captions.backlog:
                pause.take()
            if context.stopping or not _open(context, entry, device_lock):
                return None
        if ring.spec.deterministic:
            # What a task is must not depend on where a run was interrupted. In throughput mode it depends on the
            # pace of everybody anyway, and what rounding left over is less than one caption.
            share = curriculum.production_share(*aim(context, 0, 0.0, entry.task.task_id, begun.opened))
            begun.pairs.take(share, 1)
        begun.task_id = entry.task.task_id + config.launch.nodes
        begun.opened += isinstance(entry.outcome, Caption)
    return begun


def _write(
    context: RoleContext, begun: TaskCursor, source: CaptionSource, journal: CaptionJournal, device_lock: DeviceLock
) -> None:
    """Hands tasks to the source while there is room for their pictures, and opens groups of what comes back, in order,
    until there are enough."""
    config, ring = context.config, context.ring
    target = target_of(config)
    selection = CaptionSelector(config.captions, source.concepts, config.seed)
    selection.replay(read_journal(context.run_folder.journal))
    orders, failures, pause = TaskScheduler(context, source, begun), Failures(), Pause(context, source)
    while not context.stopping and begun.opened < target:
        stats = ring.stats()
        began = time.monotonic()
        wanted = 0 if device_lock.slice_expired() else orders.wanted(stats, source.pending)
        if (wanted or source.pending) and not device_lock.try_acquire():
            time.sleep(POLL_S)
            ring.heartbeat(f"waiting for its turn on {device_lock.device}", waited_s=time.monotonic() - began)
            continue
        if wanted:
            pause.over()
            for task, kind in orders.next(wanted, stats):
                source.submit(task, kind is Kind.PAIR)
        elif not source.pending:
            if device_lock.contested():
                source.sleep()
                device_lock.release()
            pause.take()
            continue
        ring.heartbeat(f"writing {source.pending} captions")
        entries = []
        for written in source.collect():
            task, kind = orders.done()
            used = selection.select(task.task_id, _fitting(written, ring.spec.caption_bytes))
            entries.append(JournalEntry(task, kind is Kind.PAIR, used))
        if entries:
            journal.write(entries)
        for entry in entries:
            failures.note(entry.outcome)
            if not _open(context, entry, device_lock):
                return
            begun.opened += isinstance(entry.outcome, Caption)
        ring.heartbeat("writing captions", busy_s=time.monotonic() - began)


def _fitting(caption: Caption | Dropped, most: int) -> Caption | Dropped:
    """The caption, or why it cannot go into the ring: nothing is ever cut."""
    if isinstance(caption, Caption) and any(
        len(text.encode()) > most for text in (caption.text, caption.negative) if text is not None
    ):
        return Dropped((*caption.rejected, "too long for the ring"))
    return caption


def _open(context: RoleContext, entry: JournalEntry, device_lock: DeviceLock) -> bool:
    """Opens the task's group, or skips the task; False when the run stops first.

    While the ring has no room others may have the device, without whom it never will.
    """
    config, ring, task = context.config, context.ring, entry.task
    device_lock.touch()

    def stop() -> bool:
        if device_lock.idle_while_contested():
            device_lock.release()
        return context.stopping

    waiting = (config.ring.open_timeout_s, stop)
    try:
        if isinstance(entry.outcome, Dropped):
            ring.skip_task(task.task_id, *waiting)
            return True
        kind = Kind.PAIR if entry.pair else Kind.PLAIN
        members = members_of(task, kind, config.generators.negatives)
        try:
            ring.open_group(task.task_id, kind, entry.outcome.text, entry.outcome.negative, members, *waiting)
        except GeneratorsDown:
            ring.skip_task(task.task_id, *waiting)
    except WaitStopped:
        return False
    return True


if __name__ == "__main__":
    run_role(main, "captioner")
