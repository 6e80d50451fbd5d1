#!/usr/bin/env bash
# A private Slurm on this machine: munge, controller and node, of Debian's slurm-wlm.
#
#   tests/launch/slurm.sh start FOLDER    # then SLURM_CONF=FOLDER/slurm.conf sinfo
#   tests/launch/slurm.sh stop FOLDER
#
# Needs root. FOLDER is made, and all is kept in it. The node has four cores, whatever
# the machine has. Jobs go to the partition `low`; those of `high` preempt them, which
# get SIGTERM and a minute, and are requeued.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "slurm.sh: $*" >&2
  exit 1
}

free_ports() {
  python3 -c 'import socket
found = [socket.socket() for _ in range(2)]
for s in found: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in found))'
}

configure() {
  read -r controller node < <(free_ports)
  cat > "$folder/slurm.conf" << END
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthInfo=socket=$folder/munge.socket,cred_expire=5
SlurmctldPort=$controller
SlurmdPort=$node
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=4
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 MaxTime=1-0
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
END
}

start() {
  for program in munged slurmctld slurmd sbatch; do
    command -v $program > /dev/null || fail "there is no $program; install slurm-wlm"
  done
  [ "$(id -u)" = 0 ] || fail 'root is needed'
  mkdir -p "$folder"/{state,spool}
  chmod 755 "$folder"
  (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
  munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
    --seed-file="$folder/munge.seed" > /dev/null 2>&1 ||
    fail "munged does not start: $(tail -n 1 "$folder/munged.log")"
  configure
  export SLURM_CONF=$folder/slurm.conf
  slurmctld -c > "$folder/slurmctld.out" 2>&1 ||
    fail "slurmctld does not start: $(tail -n 1 "$folder/slurmctld.log")"
  slurmd > "$folder/slurmd.out" 2>&1 ||
    fail "slurmd does not start: $(tail -n 1 "$folder/slurmd.log")"
  for _ in $(seq 150); do
    [ "$(sinfo --noheader --partition=low --format=%T 2> /dev/null)" = idle ] && return
    sleep 0.2
  done
  fail "the node does not come up: $(tail -n 1 "$folder/slurmd.log")"
}

stop() {
  export SLURM_CONF=$folder/slurm.conf
  scancel --me --signal=KILL --full 2> /dev/null || true
  scancel --me 2> /dev/null || true
  for _ in $(seq 100); do
    [ -z "$(squeue --noheader 2> /dev/null)" ] && break
    sleep 0.1
  done
  for program in slurmctld slurmd munged; do
    [ -f "$folder/$program.pid" ] && kill "$(cat "$folder/$program.pid")" || true
  done
}

[ $# = 2 ] || fail 'say start or stop, and a folder'
folder=$(realpath -m "$2")
case $1 in
  start) start ;;
  stop) stop ;;
  *) fail "say start or stop, not $1" ;;
esac
