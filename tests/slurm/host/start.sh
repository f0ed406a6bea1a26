#!/usr/bin/env bash
# The first process of a host of the cluster: its addresses, munge and Slurm's daemon. This folder
# is /etc/slurm there.
#
#   start.sh CLUSTER
set -euo pipefail

name=$(hostname)
freezer=/sys/fs/cgroup/freezer

# Slurm's control groups, apart from those of other hosts and clusters.
if [ "${1:-}" != inside ] && [ -d "$freezer/$1" ]; then
  mkdir -p "$freezer/$1/$name"
  echo $$ >"$freezer/$1/$name/cgroup.procs"
  exec unshare --cgroup bash "${BASH_SOURCE[0]}" inside
fi
if [ "${1:-}" = inside ]; then
  umount "$freezer"
  mount -t cgroup -o freezer cgroup "$freezer"
fi

cp /etc/slurm/hosts /etc/hosts
ip link set lo up
until ip link show mc0 >/dev/null 2>&1; do sleep 0.05; done
ip address add "$(getent hosts "$name" | cut -d ' ' -f 1)/24" dev mc0
ip link set mc0 up

# private NAME ADDRESS: an interface that is up and leads to no other host
private() {
  ip link add "$1" type veth peer name "$1-end"
  ip address add "$2" dev "$1"
  ip link set "$1" up
  ip link set "$1-end" up
}
private docker0 172.17.0.1/16 # the same on all hosts
if [ "$name" = c1 ]; then private ib0 10.88.0.1/24; fi

install -d -o munge -g munge /run/munge /var/log/munge /var/lib/munge
install -d -o slurm -g slurm /var/local/slurmctld
install -d /var/spool/slurmd
setpriv --reuid munge --regid munge --clear-groups munged
if [ "$name" = ctl ]; then
  touch /var/local/slurmctld.log
  chown slurm:slurm /var/local/slurmctld.log
  setpriv --reuid slurm --regid slurm --clear-groups slurmctld
else
  slurmd
fi
while :; do sleep 3600 & wait $!; done
