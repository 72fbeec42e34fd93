"""The report process: at the end of a run it keeps some images, measures the generators and writes report.html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from polygen_stream.analyze.image_set import images_of_groups
from polygen_stream.analyze.measure import measure
from polygen_stream.base.files import check_writable, write_atomically
from polygen_stream.base.json_files import write_json
from polygen_stream.base.run_folder import RunFolder
from polygen_stream.captions.journal import read_journal
from polygen_stream.checkpoints import list_checkpoints
from polygen_stream.evaluate.encoder import load_encoder
from polygen_stream.micro.grammar import Style, describe
from polygen_stream.micro.world import Split, sample_scene
from polygen_stream.report import gallery
from polygen_stream.report.caption_grid import Neighbours, neighbours
from polygen_stream.report.gallery import Gallery
from polygen_stream.report.page import run_page
from polygen_stream.report.ring_view import view_ring
from polygen_stream.report.run_data import RunData, read_run_data
from polygen_stream.report.samples import draw_samples
from polygen_stream.ring.inspection import Inspection
from polygen_stream.roles.role import RoleContext, run_role
from polygen_stream.train.device import training_device

MEASURED = 1500  # images of the ring, at most
SAMPLES = 12  # captions in TensorBoard's grid
QUERIES = 4


def main(context: RoleContext) -> None:
    """Leave gallery, analysis and report in the run folder."""
    ring, run = context.ring, context.run_folder
    training_device(context.device, key="evaluate.device")
    ring.heartbeat("measuring the generators")
    seen = view_ring(ring)
    kept = gallery.of_ring(seen.groups, seen.read, ring.spec.generators)
    if kept:
        gallery.save(kept, run.gallery)
        _to_tensorboard(kept, run.tensorboard)
    concepts = {entry.task.task_id: entry.task.concept for entry in read_journal(run.journal)}
    found = images_of_groups(seen.groups, seen.read, ring.spec.generators, concepts, MEASURED)
    if found:
        about = f"{len(found.images)} pictures that the run trained on; diversity is that of one concept's pictures."
        measured = measure(found, found.concept, run.path, device=context.device)
        write_json(run.analysis, {"about": about, "classes": "concept", **measured}, indent=1)
    ring.heartbeat("writing the report")
    write_report(run.path, ring=seen.inspection, device=context.device)


def write_report(
    folder: Path, queries: Sequence[str] = (), ring: Inspection | None = None, device: str = "cpu"
) -> Path:
    """Write RUN/report.html from what lies in the run folder.

    Args:
        folder: the run folder.
        queries: texts whose nearest images are shown; by default some of reserved combinations.
        ring: the state of the ring, while the run goes on.
        device: where the model encodes the pictures that it is shown with: cpu, cuda or cuda:N.

    Returns:
        The path of the report.

    Raises:
        UserError: it is no run folder, a file in it is damaged, the report cannot be written into it, or this
            machine has no such device.
    """
    training_device(device, key="--device")
    run, file = read_run_data(folder, ring), RunFolder(folder).report
    check_writable(file)
    write_atomically(file, run_page(run, _neighbours(run, queries, device)))
    return file


def _neighbours(run: RunData, queries: Sequence[str], device: str = "cpu") -> list[Neighbours]:
    found = list_checkpoints(run.folder)
    if run.gallery is None or not found:
        return []
    return neighbours(run.gallery, load_encoder(str(found[-1][1]), device=device), queries or _default_queries(run))


def _default_queries(run: RunData) -> list[str]:
    if run.config.captions.bank == "micro":
        rng = np.random.default_rng(run.config.seed)
        return [describe(sample_scene(rng, Split.UNSEEN), Style.sample(rng)) for _ in range(QUERIES)]
    assert run.gallery is not None
    samples = run.gallery.samples
    return [samples[i].caption for i in np.unique(np.linspace(0, len(samples) - 1, QUERIES).round().astype(int))]


def _to_tensorboard(kept: Gallery, folder: Path) -> None:
    writer = SummaryWriter(str(folder))
    writer.add_figure("pictures", draw_samples(kept.samples[:SAMPLES], kept.generators))
    writer.close()


if __name__ == "__main__":
    run_role(main, "report")
