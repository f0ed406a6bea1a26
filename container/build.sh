#!/usr/bin/env bash
# Build the images: steps, done in the order given.
#
#   container/build.sh prepare   build/wheel/*.whl, build/arguments: what both recipes need
#   container/build.sh sif       build/hyperhpc.sif, by Apptainer, as an ordinary user
#   container/build.sh docker    the Docker image $IMAGE (default hyperhpc:latest)
#
# BOOTSTRAP, FROM     another base: BOOTSTRAP=localimage FROM=/path/base.sif (docker: FROM only)
# HYPERHPC_CACHE      pip's and Apptainer's caches (default: ~/.cache/hyperhpc)
# APPTAINER_TMPDIR    5 GB of room for the build (default: $TMPDIR, /var/tmp or build/)
# PIP_CERT            certificates pip must trust here; lent to the build, not put into the image
# SOURCE_DATE_EPOCH   the time written into the image (default: that of the commit)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CACHE=${HYPERHPC_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/hyperhpc}
IMAGE=${IMAGE:-hyperhpc:latest}
CERTIFICATES=${PIP_CERT:-${SSL_CERT_FILE:-}}

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
in_git() { git rev-parse --git-dir >/dev/null 2>&1; }

# --- what git says --------------------------------------------------------------------

declared_version() { sed -n 's/^__version__ = "\(.*\)"/\1/p' src/hyperhpc/version.py; }

# v1.2.0-3-gabc1234-dirty where there is a tag, 0.1.0+gabc1234-dirty where there is none.
version() {
  if ! in_git; then declared_version; return; fi
  git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null ||
    printf '%s+g%s\n' "$(declared_version)" "$(git describe --always --exclude '*' --dirty)"
}

revision() { if in_git; then git rev-parse HEAD; else echo unknown; fi; }
epoch() { if in_git; then git log -1 --format=%ct; else date +%s; fi; }

# Only a public address: never a folder of this machine, a user or a password.
source_url() {
  local url
  url=$(git config --get remote.origin.url 2>/dev/null || true)
  if [[ $url =~ ^https://[^@]+$ ]]; then echo "$url"; else echo unknown; fi
}

# --- steps ----------------------------------------------------------------------------

prepare() {
  [ -x .venv/bin/hatchling ] || die "There is no .venv/bin/hatchling: make setup makes it"
  export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(epoch)}
  rm -rf build/wheel build/arguments
  mkdir -p build/wheel
  # the build backend is that of the lock, in .venv
  .venv/bin/hatchling build --target wheel --directory build/wheel >/dev/null 2>&1 ||
    die "The wheel was not built: .venv/bin/hatchling build --target wheel says why"
  chmod -R a+rX build/wheel
  cat >build/arguments <<END
VERSION=$(version)
REVISION=$(revision)
CREATED=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
SOURCE=$(source_url)
LOCK_HASH=$(sha256sum container/requirements.lock | cut -d ' ' -f 1)
EPOCH=$SOURCE_DATE_EPOCH
END
  say "Prepared: $(basename build/wheel/*.whl), $(sed -n 's/^VERSION=/version /p' build/arguments)"
}

# A local disk if possible: on a network's file system a build as an ordinary user may fail.
folder_with_room() {
  local folder
  for folder in "${TMPDIR:-/tmp}" /var/tmp "$PWD/build"; do
    if [ -w "$folder" ] && [ "$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')" -gt 5000000 ]; then
      echo "$folder"
      return
    fi
  done
  die "No folder has 5 GB of room for the build: set APPTAINER_TMPDIR to one"
}

need_prepared() { [ -s build/arguments ] || die "Run container/build.sh prepare first"; }

# pip's cache and certificates are bound for the time of the build. %post does not see our
# variables, except these of Apptainer's own.
sif() {
  need_prepared
  command -v apptainer >/dev/null || die "Apptainer is not installed
  hint: its site has packages for most systems; make docker needs Docker instead"
  local lent room arguments=(--build-arg-file build/arguments)
  room=${APPTAINER_TMPDIR:-$(folder_with_room)}
  lent=$CACHE/build-$(id -u)
  mkdir -p "$lent/pip"
  export APPTAINER_TMPDIR=$room \
    APPTAINER_CACHEDIR=${APPTAINER_CACHEDIR:-$CACHE/apptainer} \
    APPTAINERENV_PIP_CACHE_DIR=/mnt/pip
  if [ -s "$CERTIFICATES" ]; then
    cp "$CERTIFICATES" "$lent/ca.crt"
    export APPTAINERENV_PIP_CERT=/mnt/ca.crt
  fi
  SOURCE_DATE_EPOCH=$(sed -n 's/^EPOCH=//p' build/arguments)
  export SOURCE_DATE_EPOCH
  if [ -n "${BOOTSTRAP:-}" ]; then arguments+=(--build-arg "BOOTSTRAP=$BOOTSTRAP"); fi
  if [ -n "${FROM:-}" ]; then arguments+=(--build-arg "FROM=$FROM"); fi
  # zstd: quicker to make and to read than gzip (docs/decisions/0004)
  apptainer build --force --mksquashfs-args "-comp zstd -Xcompression-level 9" \
    --bind "$lent:/mnt" "${arguments[@]}" build/hyperhpc.sif apptainer.def ||
    die "The image was not built: see above
  hint: where it speaks of fakeroot, subuid or user namespaces, this user may not build here.
        Ask for a range in /etc/subuid and /etc/subgid (usermod --add-subuids), or build on
        another machine and copy build/hyperhpc.sif: a SIF runs wherever Apptainer does"
  say "Built build/hyperhpc.sif, $(($(stat -c %s build/hyperhpc.sif) / 1000000)) MB"
}

docker() {
  need_prepared
  local line arguments=()
  while IFS= read -r line; do arguments+=(--build-arg "$line"); done <build/arguments
  if [ -n "${FROM:-}" ]; then arguments+=(--build-arg "FROM=$FROM"); fi
  if [ -s "$CERTIFICATES" ]; then arguments+=(--secret "id=ca,src=$CERTIFICATES"); fi
  DOCKER_BUILDKIT=1 command docker build --network "${NETWORK:-default}" --progress plain \
    --file container/Dockerfile --tag "$IMAGE" "${arguments[@]}" .
  say "Built $IMAGE, $(($(command docker image inspect -f '{{ .Size }}' "$IMAGE") / 1000000)) MB"
}

[ $# -gt 0 ] || die "usage: container/build.sh prepare | sif | docker ..."
for step in "$@"; do
  case $step in
    prepare | sif | docker) "$step" ;;
    *) die "There is no step $step" ;;
  esac
done
