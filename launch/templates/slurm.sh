#!/bin/bash
$options

# The processes handle SIGTERM by a checkpoint; this shell has to wait for them.
trap : TERM
$exports
srun --kill-on-bad-exit=0 --wait=120 --open-mode=append --output=$log \
  $command
status=$$?

# 75: the processes stopped on request, and resume when the job starts again. If the
# state of the job is not RUNNING, Slurm is ending it, and decides whether to requeue it.
now=$$(squeue --noheader --jobs="$$SLURM_JOB_ID" --format=%T)
if [ "$$status" = 75 ] && [ "$$now" = RUNNING ]; then
  scontrol requeue "$$SLURM_JOB_ID"
fi
exit "$$status"
