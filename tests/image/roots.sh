#!/usr/bin/env bash
# Make what the tests of images and of Slurm stand on, once, in $HYPERHPC_CACHE/image:
#
#   base-N.tar      Debian bookworm, minbase: what both images are built from
#   apptainer-N/    a root folder of a machine with Apptainer (Debian trixie; Apptainer from sid)
#   docker-N/       a root folder of a machine with a Docker engine (Debian bookworm)
#   slurm-N/        a root folder of a cluster's hosts: Slurm, munge, Apptainer (as above)
#   gis-N/          a root folder with GDAL and R of Debian trixie; CI itself has those of bookworm
#
#   tests/image/roots.sh WHAT...    make those of base, apptainer, docker, slurm, gis that are missing
#   tests/image/roots.sh path WHAT  print where it is
#
# N is the checksum of its recipe, so a changed recipe is made again, and it alone. The Debian
# mirror is the one this machine's apt uses.
set -euo pipefail

CACHE=${HYPERHPC_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/hyperhpc}/image
USER_ID=1001 # the unprivileged user of the roots

path_of() {
  local recipe
  recipe=$(declare -f "make_$1" bootstrap in_root install_apptainer add_user) || {
    echo "error: there is no root called $1" >&2
    exit 1
  }
  case $1 in
    base) printf '%s/%s-%s.tar\n' "$CACHE" "$1" "$(cksum <<<"$recipe" | cut -d ' ' -f 1)" ;;
    *) printf '%s/%s-%s\n' "$CACHE" "$1" "$(cksum <<<"$recipe" | cut -d ' ' -f 1)" ;;
  esac
}

mirror() {
  cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
    sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb  *\(\[[^]]*\] *\)\?\(http[^ ]*\).*/\2/p' | head -n 1
}

# bootstrap SUITE TARGET [packages,with,commas]
bootstrap() {
  mmdebstrap --quiet --variant=minbase --mode=root --components=main \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    ${3:+--include="$3"} "$1" "$2" "$(mirror)"
}

# No device nodes: they cannot be unpacked in a user namespace.
make_base() {
  bootstrap bookworm "$1.folder"
  rm -rf "$1.folder"/dev/* "$1.folder"/var/lib/apt/lists/*
  tar -C "$1.folder" --numeric-owner --sort=name -cf "$1" .
  rm -rf "$1.folder"
}

make_apptainer() {
  local root=$1
  bootstrap trixie "$root" \
    squashfs-tools,squashfuse,fuse-overlayfs,fakeroot,uidmap,openssl,ca-certificates
  install_apptainer "$root"
  add_user "$root" user
}

make_gis() {
  bootstrap trixie "$1" gdal-bin,r-base-core,r-cran-terra,r-cran-stars
  rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*
}

# One munge key for all hosts is what makes them a cluster.
make_slurm() {
  local root=$1 packages=slurmctld,slurmd,slurm-client,munge,openssl,python3
  packages+=,squashfuse,fuse3,uidmap,iproute2,procps,hostname,make
  bootstrap trixie "$root" "$packages"
  install_apptainer "$root"
  add_user "$root" alice
  add_user "$root" mallory $((USER_ID + 1))
  head -c 1024 /dev/urandom >"$root/etc/munge/munge.key"
  in_root "$root" 'chown munge:munge /etc/munge/munge.key; chmod 400 /etc/munge/munge.key'
}

# Debian's stable releases have no Apptainer. sid's runs on trixie; it alone comes from there.
# sid's index may be past its date on a frozen mirror; its signature is checked all the same.
install_apptainer() {
  local root=$1
  printf 'Package: *\nPin: release n=sid\nPin-Priority: 50\n\n%s\n' \
    'Package: apptainer
Pin: release n=sid
Pin-Priority: 500' >"$root/etc/apt/preferences.d/sid"
  echo "deb [check-valid-until=no] $(mirror) sid main" >"$root/etc/apt/sources.list.d/sid.list"
  in_root "$root" 'apt-get -qq update && apt-get -qq install -y --no-install-recommends apptainer'
}

make_docker() {
  local root=$1 engine
  bootstrap bookworm "$root" ca-certificates
  cp /etc/resolv.conf "$root/etc/resolv.conf"
  # The package is named after a registry's host, which no file of ours names.
  engine=$(printf 'docker.%s' io)
  in_root "$root" "apt-get -qq update && apt-get -qq install -y --no-install-recommends $engine"
  add_user "$root" user
}

in_root() {
  cp /etc/resolv.conf "$1/etc/resolv.conf"
  printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d" # start no service
  chmod 755 "$1/usr/sbin/policy-rc.d"
  DEBIAN_FRONTEND=noninteractive chroot "$1" /bin/sh -ec "$2" >"$1.log" 2>&1 || {
    tail -n 20 "$1.log" >&2
    return 1
  }
  rm -rf "$1.log" "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*
}

# add_user ROOT NAME [ID]: a user who may use user namespaces
add_user() {
  local name=$2 id=${3:-$USER_ID}
  chroot "$1" useradd --create-home --base-dir /srv --uid "$id" --shell /bin/bash "$name"
  echo "$name:$((100000 + (id - USER_ID) * 65536)):65536" |
    tee -a "$1/etc/subuid" >>"$1/etc/subgid"
}

# Made aside and renamed, so that what is there is whole.
make_once() {
  local target
  target=$(path_of "$1")
  if [ -e "$target" ]; then return; fi
  echo "Making $target" >&2
  rm -rf "$target.new"*
  "make_$1" "$target.new"
  mv "$target.new" "$target"
}

if [ "${1:-}" = path ]; then
  path_of "$2"
  exit
fi
mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9 # two clones may get here at once
making=()
for what in "$@"; do
  make_once "$what" &
  making+=($!)
done
for job in "${making[@]}"; do wait "$job"; done
find "$CACHE" -mindepth 1 -maxdepth 1 -mtime +60 ! -name lock -exec rm -rf {} +
