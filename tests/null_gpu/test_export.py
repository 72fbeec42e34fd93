"""What engines are built from on a GPU machine: graphs that are exported from tensors on the GPU."""

from __future__ import annotations

import null_gpu
import pytest

pytestmark = pytest.mark.rehearsal


# micro/sd2 has the same classes as micro/sd15.
@pytest.mark.parametrize("name", ["micro/sd15", "micro/sana", "micro/sdxl_turbo"])
def test_a_graph_is_the_same_from_a_gpu_as_from_the_cpu(name: str, record):
    on_cpu, on_gpu = null_gpu.run("export", name, "cpu", "cuda:0")
    assert on_cpu.keys() == on_gpu.keys()
    for part, graph in on_gpu.items():
        assert graph.pop("device") == "cuda:0" and on_cpu[part].pop("device") == "cpu"
        assert graph["operators"] and graph["weights"]
        assert graph == on_cpu[part], part
    operators = sum(sum(graph["operators"].values()) for graph in on_gpu.values())
    record(f"{name}: operators of {len(on_gpu)} graphs from a GPU, from the CPU", operators, operators)
