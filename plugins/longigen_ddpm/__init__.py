"""The DDPM family of samplers, with steps by schedulers of diffusers."""

from longigen_ddpm.discrete import DiscreteSampler
from longigen_ddpm.distilled import DistilledSampler
from longigen_ddpm.flow import FlowSampler
from longigen_ddpm.scheduled import ScheduledSampler
from longigen_ddpm.solvers import DDIMSampler, DDPMSampler, DPMSolverSampler, EulerSampler, UniPCSampler

__all__ = [
    "DDIMSampler",
    "DDPMSampler",
    "DPMSolverSampler",
    "DiscreteSampler",
    "DistilledSampler",
    "EulerSampler",
    "FlowSampler",
    "ScheduledSampler",
    "UniPCSampler",
]
