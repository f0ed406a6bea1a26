#!/usr/bin/env bash
# Start a Slurm cluster on this machine and test hyperhpc on it (make test-slurm).
#
#   tests/slurm/run.sh [pytest options]
#   tests/slurm/run.sh --keep            only start it, and hold it until this script is stopped
#
# It needs root on a Debian with user namespaces; elsewhere it says so and ends well, but not in
# CI (CI=true). A controller and four nodes, each with its own network, processes and /tmp, run
# Slurm and Apptainer of a Debian (tests/image/roots.sh) that is not that of the image. The image
# is that of tests/image/sif.sh. All is held in namespaces that end with this script, however it
# ends; nothing of it can reach another network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/image/machines.sh
export TARGET=test-slurm
TRACKING=${TRACKING:-cgroup}

# As on most clusters, control groups hold a job together, and Slurm's signals go to the processes
# that it has started itself. Where there is no freezer (cgroup v1), or with TRACKING=linuxproc,
# they go to all processes of a job: also to the one that keeps a SIF mounted.
track_processes() {
  local plugin=disabled
  if [ "$TRACKING" = cgroup ] && mkdir "$FREEZER" 2>/dev/null; then
    plugin=cgroup/v1
  else
    TRACKING=linuxproc
  fi
  echo "ProctrackType=proctrack/$TRACKING" >"$WORK/host/tracking.conf"
  echo "CgroupPlugin=$plugin" >"$WORK/host/cgroup.conf"
}

# What users find on all hosts: homes, and a folder shared by all with the image, this checkout
# (alice's) and a scene.
lay_out() {
  local sif
  mkdir -p "$WORK/shared/checkout" "$WORK/homes"
  chmod 755 "$WORK"
  chmod 1777 "$WORK/shared"
  install -d -m 700 -o "$USER_ID" -g "$USER_ID" "$WORK/homes/alice"
  install -d -m 700 -o $((USER_ID + 1)) -g $((USER_ID + 1)) "$WORK/homes/mallory"
  cp -r tests/slurm/host "$WORK/host"
  track_processes
  chmod -R a+rX "$WORK/host"
  tar --exclude='./.venv*' --exclude=./build --exclude=./.git --exclude='*_cache' -c . |
    tar -C "$WORK/shared/checkout" -x
  chown -R "$USER_ID:$USER_ID" "$WORK/shared/checkout"
  sif=$(bash tests/image/sif.sh)
  install -m 755 "$sif" "$WORK/shared/hyperhpc.sif"
  umask 022
  .venv/bin/python -m hyperhpc simulate "$WORK/shared/scene.zarr" --size 300x300
}

# In the namespaces that hold the whole cluster. A path under /srv is none that Apptainer binds
# by itself.
hold() {
  setpriv --pdeathsig KILL unshare --mount --net --pid --fork --kill-child --mount-proc \
    --propagation private bash tests/slurm/cluster.sh run "$@" &
  started+=($!)
  until [ -s "$WORK/cluster.pid" ]; do
    sleep 0.05
    first_process "${started[-1]}" >"$WORK/cluster.pid"
  done
  wait "${started[-1]}"
}

check_machine mmdebstrap iproute2
clean_up_at_exit
say "Roots"
wait_for bash tests/image/roots.sh slurm base apptainer # all that is needed, at once
WORK=$(mktemp -d /srv/hyperhpc-slurm.XXXXXX)
export HYPERHPC_SLURM_TEST=$WORK
FREEZER=/sys/fs/cgroup/freezer/${WORK##*/}
say "The image, a scene"
wait_for lay_out
say "The cluster"
if [ "${1:-}" = --keep ]; then
  echo "HYPERHPC_SLURM_TEST=$WORK, until this script is stopped. For example:"
  echo "  tests/slurm/on.sh c1 -u alice sinfo"
  hold sleep infinity
else
  hold .venv/bin/python -m pytest tests/slurm "$@"
fi
