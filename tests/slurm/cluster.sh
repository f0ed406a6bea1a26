#!/usr/bin/env bash
# The cluster of the folder $HYPERHPC_SLURM_TEST: the controller ctl and the nodes c1 to c4, each
# in namespaces of its own. All this works within the namespaces that hold the whole cluster:
# run.sh makes them, on.sh enters them.
#
#   cluster.sh run COMMAND...     start all hosts, wait until they are idle, run a command; with
#                                 the end of this first process, all ends
#   cluster.sh on HOST USER COMMAND...
#   cluster.sh power_on HOST
#   cluster.sh power_off HOST     at once, as if its plug was pulled
#   cluster.sh link HOST up|down  plug or pull its network cable
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/image/machines.sh

WORK=$HYPERHPC_SLURM_TEST
HOSTS=(ctl c1 c2 c3 c4)

# A host's files live in memory, but for settings, logs, the controller's state, homes, /shared.
power_on() {
  local name=$1 unshare
  local folders=$WORK/host=/etc/slurm:$WORK/$name=/var/local:$WORK/shared
  folders+=:$WORK/homes/alice=/srv/alice:$WORK/homes/mallory=/srv/mallory
  mkdir -p "$WORK/$name"
  setsid bash tests/image/machine.sh --net "$name" "$(bash tests/image/roots.sh path slurm)" \
    "$folders" bash /etc/slurm/start.sh "${WORK##*/}" >"$WORK/$name/start.log" 2>&1 </dev/null &
  unshare=$!
  until [ -s "$WORK/$name/pid" ]; do
    sleep 0.05
    first_process "$unshare" >"$WORK/$name/pid"
  done
  ip link add "to-$name" type veth peer name mc0 netns "$(cat "$WORK/$name/pid")"
  ip link set "to-$name" master switch up
}

power_off() {
  local pid
  pid=$(cat "$WORK/$1/pid")
  rm "$WORK/$1/pid"
  kill -KILL "$pid"
  timeout 20 tail --pid="$pid" -f /dev/null
  ip link delete "to-$1" 2>/dev/null || true # it goes with its other end
}

link() { ip link set "to-$1" "$2"; }

on() {
  local name=$1 user=$2
  shift 2
  nsenter --target "$(cat "$WORK/$name/pid")" --mount --uts --ipc --net --pid -- \
    setpriv --reuid "$user" --regid "$user" --init-groups \
    env -i -C "$WORK/shared" LANG=C.UTF-8 HOME="/srv/$user" USER="$user" LOGNAME="$user" \
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin "$@"
}

start_all() {
  local name tries=0
  ip link set lo up
  ip link add switch type bridge
  ip link set switch up
  for name in "${HOSTS[@]}"; do power_on "$name"; done
  until [ "$(on ctl root sinfo --noheader --states idle --Format nodes: 2>/dev/null)" = 4 ]; do
    tries=$((tries + 1))
    if [ $tries -gt 120 ]; then
      tail -n 20 "$WORK"/*/*.log >&2
      echo "error: the cluster did not start" >&2
      return 1
    fi
    sleep 0.25
  done
}

run() {
  trap 'exit 143' TERM
  start_all
  wait_for "$@"
}

case ${1:-} in
  run | on | power_on | power_off | link) "$@" ;;
  *) echo "error: there is no step '${1:-}'" >&2; exit 2 ;;
esac
