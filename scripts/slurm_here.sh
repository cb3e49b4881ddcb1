#!/usr/bin/env bash
# A real Slurm on this machine alone, to try and test cluster jobs.
#
#   scripts/slurm_here.sh [start] [FOLDER]   install it where it is missing, write FOLDER/slurm.conf, start it, wait until it takes jobs
#   scripts/slurm_here.sh stop [FOLDER]      stop the daemons that it started
#
# FOLDER is /etc/slurm, where Slurm's commands look by themselves; for any other, set SLURM_CONF=FOLDER/slurm.conf. One node,
# this host; one partition, learnfair; jobs may be requeued; no accounting. Debian or Ubuntu, as root. A Slurm that runs
# already, of this script or another, is left as it is. State and logs: /var/lib/slurm-here.
set -euo pipefail

usage() { sed -n '4,5s/^# *//p' "$0"; }
fail() { echo "slurm_here: $*" >&2; exit 1; }

action=start
case "${1:-}" in
  start | stop) action=$1; shift ;;
  -h | --help) usage; exit 0 ;;
  -*) fail "unknown option $1 (see: scripts/slurm_here.sh --help)" ;;
esac
if [ $# -gt 1 ]; then fail "too many words; give start or stop, and one folder"; fi
case "${1:-/}" in
  */*) ;;
  *) fail "unknown word $1; give start or stop, then a folder such as ./$1 or /etc/slurm" ;;
esac

folder=$(realpath -m "${1:-/etc/slurm}")
state=/var/lib/slurm-here
export SLURM_CONF="$folder/slurm.conf"
mark='# written by scripts/slurm_here.sh'

answers() { [ -f "$SLURM_CONF" ] && [ -n "$(timeout 5 sinfo --noheader --format=%P 2>/dev/null)" ]; }
ours() { head -n 1 "$SLURM_CONF" 2>/dev/null | grep -qF "$mark"; }
running() { [ -f "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }

# What a daemon said last; it is the reason more often than not.
last_line() { [ -f "$1" ] && tail -n 1 "$1" || echo "it wrote no log"; }

end() { # PIDFILE: ask politely, then wait up to 10 s
  running "$1" || return 0
  local pid; pid=$(cat "$1")
  kill "$pid" 2>/dev/null || return 0
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

if [ "$action" = stop ]; then
  if [ ! -f "$SLURM_CONF" ]; then echo "no Slurm of this script is configured in $folder"; exit 0; fi
  ours || fail "$SLURM_CONF is not of this script; nothing is stopped"
  if answers; then squeue --noheader --format=%A | sort -u | xargs --no-run-if-empty scancel || true; fi
  for name in slurmd slurmctld munged; do end "$state/$name.pid"; done
  rm -f "$SLURM_CONF"
  echo "stopped"
  exit 0
fi

if command -v sinfo >/dev/null && answers; then
  echo "a Slurm is running already: $(sinfo --noheader --format='partition %P, %D node(s), %T' | paste -sd';')"
  exit 0
fi
if [ -f "$SLURM_CONF" ] && ! ours; then fail "$SLURM_CONF is there and not of this script; give another folder"; fi
[ "$(id -u)" = 0 ] || fail "daemons are started, which root alone may; run it as root"

if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
  command -v apt-get >/dev/null || fail "slurm-wlm and munge are missing and there is no apt-get; install them by hand"
  log=$(mktemp)
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge; } >"$log" 2>&1 ||
    fail "slurm-wlm and munge could not be installed: $(tail -n 1 "$log") (see $log)"
  rm -f "$log"
fi

mkdir -p "$folder" "$state/ctld" "$state/d"

# munge proves to one daemon who another is; its files must be its own.
install -d -o munge -g munge -m 0755 /run/munge
install -d -o munge -g munge -m 0700 /etc/munge /var/lib/munge /var/log/munge
if [ ! -s /etc/munge/munge.key ]; then
  head -c 1024 /dev/urandom >/etc/munge/munge.key
  chown munge:munge /etc/munge/munge.key
  chmod 0400 /etc/munge/munge.key
fi
if ! munge -n >/dev/null 2>&1; then
  runuser -u munge -- munged --force >/dev/null 2>&1 || true
  munge -n >/dev/null 2>&1 || fail "munged did not start: $(last_line /var/log/munge/munged.log)"
  cat /run/munge/munged.pid >"$state/munged.pid" 2>/dev/null || true
fi

# Tests of a few small jobs at once should not wait on a machine of two cores: a node may claim more than it has.
host=$(hostname -s)
cpus=$(nproc)
if [ "$cpus" -lt 4 ]; then cpus=4; fi
memory_mb=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)

cat >"$SLURM_CONF" <<CONF
$mark; it is rewritten at each start.
ClusterName=here
SlurmctldHost=$host(localhost)
SlurmUser=root
AuthType=auth/munge
# A requeued job waits as long as its credential lives, by default two minutes.
AuthInfo=cred_expire=5
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1
JobRequeue=1
ReturnToService=2
KillWait=10
SlurmctldTimeout=60
SlurmdTimeout=60
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MpiDefault=none
SlurmctldPidFile=$state/slurmctld.pid
SlurmctldLogFile=$state/slurmctld.log
StateSaveLocation=$state/ctld
SlurmdPidFile=$state/slurmd.pid
SlurmdLogFile=$state/slurmd.log
SlurmdSpoolDir=$state/d
NodeName=$host NodeAddr=localhost CPUs=$cpus RealMemory=$memory_mb State=UNKNOWN
PartitionName=learnfair Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF

# A state of another configuration is of no use: -c leaves it out.
running "$state/slurmctld.pid" || slurmctld >/dev/null 2>&1 || slurmctld -c >/dev/null 2>&1 ||
  fail "slurmctld did not start: $(last_line "$state/slurmctld.log") (see $state/slurmctld.log)"
running "$state/slurmd.pid" || slurmd >/dev/null 2>&1 ||
  fail "slurmd did not start: $(last_line "$state/slurmd.log") (see $state/slurmd.log)"

for _ in $(seq 60); do
  if sinfo --noheader --partition=learnfair --format=%T 2>/dev/null | grep -q '^idle\|^mixed\|^allocated'; then
    echo "Slurm runs on $host: partition learnfair, $cpus CPUs; jobs go in by sbatch$([ "$folder" = /etc/slurm ] || echo " with SLURM_CONF=$SLURM_CONF")"
    exit 0
  fi
  sleep 0.5
done
fail "no idle node after 30 s: $(last_line "$state/slurmctld.log") (see $state/slurmctld.log and slurmd.log)"
