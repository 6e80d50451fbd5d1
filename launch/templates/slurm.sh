#!/bin/bash
$options

# SIGTERM is for the processes, which then write a checkpoint; this shell waits for them.
trap : TERM
$exports
srun --kill-on-bad-exit=0 --wait=120 --open-mode=append --output=$log \
  $command
status=$$?

# 75: they were told to stop, and go on when the job is started once more. If it is not
# running any more then Slurm is ending it, and knows itself whether it shall come back.
now=$$(squeue --noheader --jobs="$$SLURM_JOB_ID" --format=%T)
if [ "$$status" = 75 ] && [ "$$now" = RUNNING ]; then
  scontrol requeue "$$SLURM_JOB_ID"
fi
exit "$$status"
