"""The captioner: ledger -> captions -> open groups in the ring, paced by the renderers and mixed by the curriculum."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing

from polygen_stream.base.importing import collector_paused
from polygen_stream.captions.base import Caption, CaptionSource, Dropped
from polygen_stream.captions.journal import CaptionJournal, JournalEntry, read_journal
from polygen_stream.captions.selection.selector import CaptionSelector
from polygen_stream.captions.sources import LANGUAGE_MODELS, caption_source
from polygen_stream.config import CaptionsConfig, curriculum_of
from polygen_stream.producers.failures import FailureStreak
from polygen_stream.producers.pause import Pause
from polygen_stream.producers.task_scheduler import (
    TaskCursor,
    TaskScheduler,
    count_open_groups,
    group_members,
    target_groups,
    target_step,
)
from polygen_stream.ring import GeneratorsDown, GroupRequest, Kind, RingStats, WaitStopped
from polygen_stream.roles.device_lock import POLL_S, DeviceLock
from polygen_stream.roles.role import RoleContext, run_role
from polygen_stream.synthesis.rows import FeedbackRows


def main(context: RoleContext, source_factory: Callable[[CaptionsConfig], CaptionSource] = caption_source) -> None:
    """Open groups until the run's target, or until the process is asked to stop.

    Args:
        context: config, ring and run folder.
        source_factory: builds the caption source of a config.

    Raises:
        UserError: the caption source cannot be built from the config.
        PolygenError: the source fails, or its captions all do.
    """
    config, ring = context.config, context.ring
    with closing(CaptionJournal(context.run_folder.journal)) as journal:
        device_lock = context.device_lock(config.captions.device)
        cursor = _open_journaled(context, read_journal(context.run_folder.journal))
        if cursor is not None and cursor.opened < target_groups(config) and ring.spec.mode != "replay":
            if not device_lock.acquire(ring.heartbeat, lambda: context.stopping):
                return
            ring.heartbeat(f"loading {_described(config.captions)}")
            with collector_paused():
                source = source_factory(config.captions)
            with closing(source):
                journal.record_provenance(source.provenance)
                _Writer(context, cursor, source, journal, device_lock).run()
    if not context.stopping:
        ring.finish_opening()


def _described(captions: CaptionsConfig) -> str:
    """What takes the time when a caption source is loaded, in words."""
    if captions.source not in LANGUAGE_MODELS:
        return f"the caption source {captions.source}"
    return " and ".join(dict.fromkeys((captions.writer, captions.editor)))


def _open_journaled(context: RoleContext, entries: Iterable[JournalEntry]) -> TaskCursor | None:
    """Open, in order, the journal's groups that the ring never got or has lost. This uses no device.

    Returns:
        Where to continue, or None if the run stops first.
    """
    config, ring = context.config, context.ring
    known, cursor = ring.stats().known, TaskCursor(config.launch.node)
    rows = FeedbackRows.of_names(*ring.feedback_names())
    curriculum, pause = curriculum_of(config), Pause(context)
    for entry in entries:
        if entry.task.task_id >= known:
            while not context.stopping and count_open_groups(ring.stats()) >= config.captions.backlog:
                pause.wait()
            if context.stopping or not _open(context, entry, rows, lambda: context.stopping):
                return None
        if ring.spec.deterministic:
            # A task must not depend on where a run was interrupted. In throughput mode it depends on the pace of all
            # processes anyway, and what rounding left over is less than one caption.
            share = curriculum.production_share(*target_step(context, 0, 0.0, entry.task.task_id, cursor.opened))
            cursor.rounding.take(share, 1)
        cursor.next_task = entry.task.task_id + config.launch.nodes
        cursor.opened += isinstance(entry.outcome, Caption)
    return cursor


class _Writer:
    """Has a source write captions, journals them and opens their groups, in the order of the tasks."""

    def __init__(
        self,
        context: RoleContext,
        cursor: TaskCursor,
        source: CaptionSource,
        journal: CaptionJournal,
        device_lock: DeviceLock,
    ) -> None:
        self._context, self._cursor, self._source = context, cursor, source
        self._journal, self._device_lock = journal, device_lock
        self._selector = CaptionSelector(context.config.captions, source.concepts, context.config.seed)
        self._selector.replay(read_journal(context.run_folder.journal))
        self._scheduler = TaskScheduler(context, source, cursor)
        self._rows = FeedbackRows.of_names(*context.ring.feedback_names())  # which the scheduler has named
        self._failures, self._pause = FailureStreak(), Pause(context, source)
        self._written: deque[JournalEntry] = deque()  # journaled, and not in the ring yet

    def run(self) -> None:
        """Write until the target is reached or the process is asked to stop."""
        ring, source, device_lock = self._context.ring, self._source, self._device_lock
        target = target_groups(self._context.config)
        while not self._context.stopping and self._cursor.opened < target:
            stats = ring.stats()
            start = time.monotonic()
            wanted = 0 if device_lock.slice_expired() else self._scheduler.count_wanted(stats, source.pending)
            if (wanted or source.pending) and not device_lock.try_acquire():
                time.sleep(POLL_S)
                ring.heartbeat(f"waiting for its turn on {device_lock.device}", waited_s=time.monotonic() - start)
                continue
            if wanted:
                self._submit(wanted, stats)
            elif not source.pending:
                self._wait_for_renderers()
                continue
            ring.heartbeat(f"writing {source.pending} captions")
            self._collect()
            if not self._open_groups():
                return
            ring.heartbeat("writing captions", busy_s=time.monotonic() - start)

    def _submit(self, count: int, stats: RingStats) -> None:
        self._pause.end()
        for scheduled in self._scheduler.next_tasks(count, stats):
            self._source.submit(scheduled.task, scheduled.kind is Kind.PAIR)

    def _wait_for_renderers(self) -> None:
        """Wait a moment, with no caption pending; another process may have the device meanwhile."""
        if self._device_lock.contested():
            self._release_device()
        self._pause.wait()

    def _release_device(self) -> None:
        """Give the device to another process, without the language models' weights and caches on it.

        The only way to do so: models sleep when they have no request, so what they are writing is finished first.
        """
        while self._source.pending and not self._context.stopping:
            self._context.ring.heartbeat(f"finishing {self._source.pending} captions before another process's turn")
            self._collect()
        if not self._context.stopping:
            self._source.sleep()
            self._device_lock.release()

    def _collect(self) -> None:
        """Take the captions that are written, select among them, and journal the outcome."""
        caption_bytes = self._context.ring.spec.caption_bytes
        entries = []
        for written in self._source.collect():
            task, kind, choice = self._scheduler.finish_oldest()
            outcome = self._selector.select(task.task_id, _check_length(written, caption_bytes))
            entries.append(JournalEntry(task, kind is Kind.PAIR, outcome, choice))
        if entries:
            self._journal.write(entries)
            self._written += entries

    def _open_groups(self) -> bool:
        """Open the groups of what is written; False if the run stops first.

        While the ring has no room other processes may have the device: without their work there never will be any.
        """

        def stop() -> bool:
            if self._device_lock.idle_while_contested():
                self._release_device()
            return self._context.stopping

        while self._written:
            entry = self._written.popleft()
            self._failures.record(entry.outcome)
            self._device_lock.touch()
            if not _open(self._context, entry, self._rows, stop):
                return False
            self._cursor.opened += isinstance(entry.outcome, Caption)
        return True


def _check_length(caption: Caption | Dropped, caption_bytes: int) -> Caption | Dropped:
    """Drop a caption that does not fit into the ring's text area: a caption is never cut."""
    if isinstance(caption, Caption) and any(
        len(text.encode()) > caption_bytes for text in (caption.text, caption.negative) if text is not None
    ):
        return Dropped((*caption.rejected, "too long for the ring"))
    return caption


def _open(context: RoleContext, entry: JournalEntry, rows: FeedbackRows, stop: Callable[[], bool]) -> bool:
    """Open the task's group, or skip the task; False if `stop`, asked while the ring has no room, says so first."""
    config, ring, task = context.config, context.ring, entry.task
    waiting = (config.ring.open_timeout_s, stop)
    try:
        if isinstance(entry.outcome, Dropped):
            ring.skip_task(task.task_id, *waiting)
            return True
        kind = Kind.PAIR if entry.pair else Kind.PLAIN
        members = group_members(task, kind, config.generators.negatives)
        try:
            axis, concept = rows.of(task.axis, task.concept)
            request = GroupRequest(
                task.task_id, kind, entry.outcome.text, entry.outcome.negative, members, axis=axis, concept=concept
            )
            ring.open_groups([request], *waiting)
        except GeneratorsDown:
            ring.skip_task(task.task_id, *waiting)
    except WaitStopped:
        return False
    return True


if __name__ == "__main__":
    run_role(main, "captioner")
