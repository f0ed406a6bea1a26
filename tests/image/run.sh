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

. tests/image/machines.sh
export TARGET=test-image

build_docker() {
  local tar base
  tar=$(bash tests/image/roots.sh path base)
  base=bookworm:$(basename "$tar" .tar | cut -d - -f 2)
  on docker docker image inspect "$base" >/dev/null 2>&1 ||
    on docker docker import - "$base" <"$tar"
  on docker env FROM="$base" NETWORK=host PIP_CERT="$WORK/ca.crt" \
    "$WORK/checkout/container/build.sh" docker
}

check_machine mmdebstrap
clean_up_at_exit
lock_machines

say "Roots and base"
wait_for bash tests/image/roots.sh base apptainer docker gis
WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/hyperhpc-image.XXXXXX")
DATA=$HYPERHPC_CACHE/image/docker-data
mkdir -p "$DATA"
start_apptainer
start docker "$WORK:$DATA" "
  dockerd --iptables=false --bridge=none --data-root '$DATA' &
  until docker info >/dev/null 2>&1; do kill -0 \$!; sleep 0.2; done"

say "The SIF, by $(on apptainer apptainer --version), as an unprivileged user"
say "The Docker image, by engine $(on docker docker version --format '{{ .Server.Version }}')"
wait_for bash tests/image/sif.sh copy "$WORK"
# at once: each waits for downloads and for the disk by turns
build_docker &
docker=$!
wait_for bash tests/image/sif.sh build "$WORK"
wait "$docker"

say "Tests"
export HYPERHPC_IMAGE_TEST=$WORK
wait_for .venv/bin/python -m pytest tests/image "$@"
