#!/usr/bin/env bash
# Build both images from nothing and test them (make test-image): the SIF by Apptainer as an
# unprivileged user, the Docker image by a Docker engine, both on one local Debian base.
#
#   tests/image/run.sh [pytest options]
#
# It needs root on a Debian with user namespaces; elsewhere it says so and ends well, but not in
# CI (CI=true). The engines run in root folders of their own (roots.sh, machine.sh): nothing but
# mmdebstrap is installed on the machine, and nothing is left running. Bases, pip's downloads
# and Docker's layers are kept in $HYPERHPC_CACHE, so that a second time is quicker.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

export HYPERHPC_CACHE=${HYPERHPC_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/hyperhpc}
USER_ID=1001 # of the unprivileged user, as in roots.sh

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }

skip() {
  if [ "${CI:-}" = true ]; then
    echo "error: the images cannot be tested here: $*" >&2
    exit 1
  fi
  echo "SKIPPED test-image: $*"
  exit 0
}

check_machine() {
  [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || skip "it needs Linux on x86_64"
  [ "$(id -u)" = 0 ] || skip "it needs root, for namespaces and mounts"
  command -v apt-get >/dev/null || skip "it needs a Debian, for apt"
  unshare --mount --uts --ipc --pid --fork --propagation private true 2>/dev/null ||
    skip "it may not make namespaces"
  unshare --user true 2>/dev/null || skip "it may not make user namespaces"
  if ! command -v mmdebstrap >/dev/null; then
    echo "Installing mmdebstrap"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends mmdebstrap \
      >/dev/null || skip "mmdebstrap cannot be installed"
  fi
}

# --- the two machines -----------------------------------------------------------------

WORK=
started=()

# In the background: bash hears no signal while a command runs in front.
wait_for() { "$@" & wait $!; }

# The engine's control groups outlive it, and are empty once all its processes are gone.
clean_up() {
  local status=$? pid file
  trap - EXIT INT TERM
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
  find /sys/fs/cgroup -depth -type d \( -path '*/docker' -o -path '*/docker/*' \) \
    -exec rmdir {} + 2>/dev/null || true
  if [ -n "$WORK" ]; then rm -rf "$WORK"; fi
  exit "$status"
}

# start NAME FOLDERS SCRIPT: a machine whose first process runs SCRIPT, then keeps house.
start() {
  local name=$1 folders=$2 script=$3 tries=0
  bash tests/image/machine.sh "$(bash tests/image/roots.sh path "$name")" "$folders" bash -ec \
    "trap 'kill \$(jobs -p); wait; exit' TERM
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
  # unshare's child is the first process of the new machine
  tr -d ' ' <"/proc/${started[-1]}/task/${started[-1]}/children" >"$WORK/$name.pid"
}

# on NAME COMMAND: run it there, as root.
on() {
  local pid
  pid=$(cat "$WORK/$1.pid")
  nsenter --target "$pid" --mount --uts --ipc --pid -- env -i LANG=C.UTF-8 HOME=/tmp \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${@:2}"
}

as_user() {
  on apptainer setpriv --reuid "$USER_ID" --regid "$USER_ID" --init-groups \
    env HOME=/srv/user USER=user "$@"
}

# --- building -------------------------------------------------------------------------

# What a builder needs of the checkout, where the other user can read it.
copy_checkout() {
  mkdir -p "$WORK/checkout/build" "$LENT"
  cp -r apptainer.def container jobs "$WORK/checkout/"
  cp -r build/wheel build/arguments "$WORK/checkout/build/"
  # the certificates this machine trusts, for pip in both builds
  cat "${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}" >"$WORK/ca.crt" || true
  chown -R "$USER_ID:$USER_ID" "$WORK/checkout" "$LENT"
  chmod 755 "$WORK"
}

# The base as a SIF, made by root: a folder with all its owners can be read by root only.
make_base_sif() {
  if [ ! -e "$BASE_SIF" ]; then
    mkdir "$WORK/base"
    tar -C "$WORK/base" -xf "$BASE"
    on apptainer apptainer --quiet build "$WORK/base.sif" "$WORK/base"
    mv "$WORK/base.sif" "$BASE_SIF"
    rm -rf "$WORK/base"
  fi
  cp "$BASE_SIF" "$WORK/base.sif"
}

build_sif() {
  make_base_sif
  as_user env BOOTSTRAP=localimage FROM="$WORK/base.sif" PIP_CERT="$WORK/ca.crt" \
    HYPERHPC_CACHE="$WORK/cache" APPTAINER_TMPDIR="$WORK/checkout/build" "$WORK/checkout/container/build.sh" sif
}

build_docker() {
  local base=bookworm:${BASE##*base-}
  base=${base%.tar}
  on docker docker image inspect "$base" >/dev/null 2>&1 ||
    on docker docker import - "$base" <"$BASE"
  on docker env FROM="$base" NETWORK=host PIP_CERT="$WORK/ca.crt" \
    "$WORK/checkout/container/build.sh" docker
}

check_machine
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir -p "$HYPERHPC_CACHE"
exec 8>"$HYPERHPC_CACHE/image.lock" # two clones would share Docker's folder
flock 8

say "Roots and base"
wait_for bash tests/image/roots.sh
BASE=$(bash tests/image/roots.sh path base)
BASE_SIF=${BASE%.tar}.sif
WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/hyperhpc-image.XXXXXX")
LENT=$HYPERHPC_CACHE/image/user # what becomes the unprivileged user's HYPERHPC_CACHE
DATA=$HYPERHPC_CACHE/image/docker-data
mkdir -p "$DATA"
container/build.sh prepare
copy_checkout

# The cache may lie in root's home, where no other user gets in: it is shown elsewhere
mkdir "$WORK/cache"
start apptainer "$WORK:$LENT=$WORK/cache" :
start docker "$WORK:$DATA" "
  dockerd --iptables=false --bridge=none --data-root '$DATA' &
  until docker info >/dev/null 2>&1; do kill -0 \$!; sleep 0.2; done"

say "The SIF, by $(on apptainer apptainer --version), as an unprivileged user"
wait_for build_sif
say "The Docker image, by engine $(on docker docker version --format '{{ .Server.Version }}')"
wait_for build_docker

say "Tests"
export HYPERHPC_IMAGE_TEST=$WORK
wait_for .venv/bin/python -m pytest tests/image "$@"
