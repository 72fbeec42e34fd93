"""For the processes of a run on null GPUs, which import it at their start.

diffusers' schedulers look for their first timestep among numbers on the device, and DDIM computes the next one there.
Nothing is computed on a null GPU: the first is at position 0, as in every run, and DDIM has its timesteps on the host.
"""

import importlib.abc
import importlib.machinery
import sys


def _begin_at_the_first(scheduler):
    scheduler.index_for_timestep = lambda self, timestep, schedule_timesteps=None: 0


def _keep_timesteps_on_the_host(scheduler):
    set_timesteps = scheduler.set_timesteps

    def on_the_host(self, *arguments, device=None, **keywords):
        set_timesteps(self, *arguments, device="cpu", **keywords)

    scheduler.set_timesteps = on_the_host


CHANGES = {
    "diffusers.schedulers.scheduling_ddim": ("DDIMScheduler", _keep_timesteps_on_the_host),
    "diffusers.schedulers.scheduling_dpmsolver_multistep": ("DPMSolverMultistepScheduler", _begin_at_the_first),
    "diffusers.schedulers.scheduling_euler_ancestral_discrete": (
        "EulerAncestralDiscreteScheduler",
        _begin_at_the_first,
    ),
    "diffusers.schedulers.scheduling_flow_match_euler_discrete": (
        "FlowMatchEulerDiscreteScheduler",
        _begin_at_the_first,
    ),
}


class _AfterImport(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in CHANGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        scheduler, change = CHANGES[name]

        def load_and_change(module):
            load(module)
            change(getattr(module, scheduler))

        spec.loader.exec_module = load_and_change
        return spec


sys.meta_path.insert(0, _AfterImport())
