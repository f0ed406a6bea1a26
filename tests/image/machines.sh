#!/usr/bin/env bash
# What the scripts share that test on machines of their own; it is sourced, not run.
#
# A machine NAME (machine.sh) has its first process in $WORK/NAME.pid, its log in $WORK/NAME.log.
# TARGET is the make target that asks.
set -euo pipefail

export HYPERHPC_CACHE=${HYPERHPC_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/hyperhpc}
USER_ID=1001 # of the unprivileged user, as in roots.sh
WORK=
started=()

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

skip() {
  if [ "${CI:-}" = true ]; then
    echo "error: $TARGET is not possible here: $*" >&2
    exit 1
  fi
  echo "SKIPPED $TARGET: $*"
  exit 0
}

# check_machine PACKAGE...: may machines be made here, and are these programs installed?
check_machine() {
  local program missing=()
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || skip "it needs Linux on x86_64"
  [ "$(id -u)" = 0 ] || skip "it needs root, for namespaces and mounts"
  command -v apt-get >/dev/null || skip "it needs a Debian, for apt"
  unshare --mount --uts --ipc --net --pid --fork --propagation private true 2>/dev/null ||
    skip "it may not make namespaces"
  unshare --user true 2>/dev/null || skip "it may not make user namespaces"
  for program in "$@"; do
    dpkg -s "$program" >/dev/null 2>&1 || missing+=("$program")
  done
  if [ ${#missing[@]} = 0 ]; then return; fi
  echo "Installing ${missing[*]}"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    "${missing[@]}" >/dev/null || skip "${missing[*]} cannot be installed"
}

# In the background: bash hears no signal while a command runs in front.
wait_for() { "$@" & wait $!; }

clean_up_at_exit() {
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

# Control groups of Docker and Slurm outlive them, and are empty once all processes are gone.
clean_up() {
  local status=$? pid file
  trap - EXIT INT TERM
  # shellcheck disable=SC2046 # numbers
  kill $(jobs -p) 2>/dev/null || true
  if [ -n "$WORK" ]; then
    for file in "$WORK"/*.pid; do
      if [ -s "$file" ]; then kill -TERM "$(cat "$file")" 2>/dev/null || true; fi
    done
  fi
  for pid in ${started[@]+"${started[@]}"}; do
    timeout 20 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  find /sys/fs/cgroup -depth -type d \( -path '*/docker' -o -path '*/docker/*' \
    -o -path "*/${WORK##*/}" -o -path "*/${WORK##*/}/*" \) -exec rmdir {} + 2>/dev/null || true
  if [ -n "$WORK" ]; then rm -rf "$WORK"; fi
  exit "$status"
}

# Prints the first process of a machine: the child of the unshare that machine.sh becomes.
first_process() {
  if [ "$(cat "/proc/$1/comm")" = unshare ]; then tr ' ' '\n' <"/proc/$1/task/$1/children"; fi
}

# start NAME FOLDERS SCRIPT: a machine whose first process runs SCRIPT, then keeps house.
start() {
  local name=$1 folders=$2 script=$3 tries=0
  bash tests/image/machine.sh "$name" "$(bash tests/image/roots.sh path "$name")" "$folders" \
    bash -ec "trap 'kill \$(jobs -p); wait; exit' TERM
    $script
    touch '$WORK/$name.ready'
    while :; do sleep 3600 & wait \$!; done" >"$WORK/$name.log" 2>&1 </dev/null &
  started+=($!)
  until [ -e "$WORK/$name.ready" ]; do
    tries=$((tries + 1))
    if [ $tries -gt 300 ] || ! kill -0 "${started[-1]}" 2>/dev/null; then
      cat "$WORK/$name.log" >&2
      echo "error: the machine for $name did not start" >&2
      return 1
    fi
    sleep 0.2
  done
  first_process "${started[-1]}" >"$WORK/$name.pid"
}

# Two clones would share the folders of pip's and Docker's caches.
lock_machines() {
  mkdir -p "$HYPERHPC_CACHE"
  exec 8>"$HYPERHPC_CACHE/image.lock"
  flock 8
}

# The machine that builds the SIF. The cache may lie in root's home, where no other user gets in:
# it is shown elsewhere.
start_apptainer() {
  local lent=$HYPERHPC_CACHE/image/user
  mkdir -p "$lent" "$WORK/cache"
  chown "$USER_ID:$USER_ID" "$lent"
  start apptainer "$WORK:$lent=$WORK/cache" :
}

# on NAME COMMAND: run it there, as root.
on() {
  local pid
  pid=$(cat "$WORK/$1.pid")
  nsenter --target "$pid" --mount --uts --ipc --pid -- env -i LANG=C.UTF-8 HOME=/tmp \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"
}
