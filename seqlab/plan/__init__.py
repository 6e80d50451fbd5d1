"""`seqlab plan`: what an experiment's programs take on devices that are not here."""

from seqlab.plan.experiment import plan_experiment

__all__ = ['plan_experiment']
