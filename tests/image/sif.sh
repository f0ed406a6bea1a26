#!/usr/bin/env bash
# The SIF of this checkout, built as on a compute node, by jobs/build.sbatch: by an unprivileged
# user, with Apptainer, without Python, on the local Debian base.
#
#   tests/image/sif.sh            print its path in $HYPERHPC_CACHE; build it if it is not there
#   tests/image/sif.sh copy DIR   make DIR/checkout, of which both images are built
#   tests/image/sif.sh build DIR  build DIR/checkout/build/hyperhpc.sif in any case, on the machine
#                                 `apptainer` that runs with DIR (start_apptainer); keep a copy
#
# What is kept is named after the content of all that it was built from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. tests/image/machines.sh
export TARGET=sif

# What a builder needs of the checkout, where the other user can read it.
copy_checkout() {
  container/build.sh prepare
  mkdir -p "$WORK/checkout/build"
  cp -r apptainer.def container jobs "$WORK/checkout/"
  cp -r build/wheel build/arguments "$WORK/checkout/build/"
  # the certificates this machine trusts, for pip in both builds
  cat "${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}" >"$WORK/ca.crt" || true
  chown -R "$USER_ID:$USER_ID" "$WORK/checkout"
  chmod 755 "$WORK"
}

# Where the copy is kept. The wheel counts by its files: itself, it holds the commit's time.
kept_sif() {
  local sum
  sum=$(
    basename "$BASE"
    .venv/bin/python -c 'import sys, zipfile
for file in zipfile.ZipFile(sys.argv[1]).infolist(): print(file.filename, file.CRC)' \
      "$WORK"/checkout/build/wheel/*.whl
    cd "$WORK/checkout"
    find apptainer.def container jobs -type f -print0 | sort -z | xargs -0 sha256sum
  )
  printf '%s\n' "$HYPERHPC_CACHE/image/hyperhpc-$(sha256sum <<<"$sum" | cut -c 1-16).sif"
}

# The base as a SIF, made by root: a folder with all its owners can be read by root only.
make_base_sif() {
  local kept=${BASE%.tar}.sif
  if [ ! -e "$kept" ]; then
    mkdir "$WORK/base"
    tar -C "$WORK/base" -xf "$BASE"
    on apptainer apptainer --quiet build "$WORK/base.sif" "$WORK/base"
    mv "$WORK/base.sif" "$kept"
    rm -rf "$WORK/base"
  fi
  cp "$kept" "$WORK/base.sif"
}

as_user() {
  on apptainer setpriv --reuid "$USER_ID" --regid "$USER_ID" --init-groups \
    env HOME=/srv/user USER=user "$@"
}

build() {
  local kept
  kept=$(kept_sif)
  make_base_sif
  install -d -o "$USER_ID" -g "$USER_ID" "$WORK/room"
  as_user env BOOTSTRAP=localimage FROM="$WORK/base.sif" PIP_CERT="$WORK/ca.crt" \
    HYPERHPC_CACHE="$WORK/cache" APPTAINER_TMPDIR="$WORK/room" \
    SLURM_SUBMIT_DIR="$WORK/checkout" bash "$WORK/checkout/jobs/build.sbatch"
  cp "$WORK/checkout/build/hyperhpc.sif" "$kept.new"
  mv "$kept.new" "$kept"
  # the newest three are enough
  find "$HYPERHPC_CACHE/image" -maxdepth 1 -name 'hyperhpc-*.sif' -printf '%T@ %p\n' |
    sort -rn | tail -n +4 | cut -d ' ' -f 2- | xargs -r -d '\n' rm --
}

# What it prints goes to standard error, without `exec 3>&1`: mmdebstrap fails if 3 is taken.
find_or_build() {
  lock_machines
  bash tests/image/roots.sh base apptainer
  clean_up_at_exit
  WORK=$(mktemp -d "${TMPDIR:-/var/tmp}/hyperhpc-sif.XXXXXX")
  copy_checkout
  kept=$(kept_sif)
  if [ -e "$kept" ]; then
    touch "$kept"
  else
    start_apptainer
    build
  fi
}

BASE=$(bash tests/image/roots.sh path base)
WORK=${2:-}
case ${1:-} in
  copy) copy_checkout ;;
  build) build ;;
  *)
    find_or_build >&2
    echo "$kept"
    ;;
esac
