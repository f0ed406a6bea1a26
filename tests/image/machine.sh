#!/usr/bin/env bash
# A machine to test on: a root folder of roots.sh in namespaces of its own. When this process
# ends, everything in it ends and its mounts are gone.
#
#   tests/image/machine.sh [--net] NAME ROOT FOLDER[=PLACE][:FOLDER[=PLACE]...] COMMAND...
#
# The FOLDERs are seen inside, at their PLACE or under the same path; all else that is written
# lies in memory. Its network is the caller's; with --net, one of its own with nothing in it.
# A plain chroot would not do: the kernel allows no user namespace there.
set -euo pipefail

if [ "${1:-}" != inside ]; then
  namespaces=(--mount --uts --ipc --pid)
  if [ "$1" = --net ]; then namespaces+=("$1"); shift; fi
  exec unshare "${namespaces[@]}" --fork --kill-child --propagation private \
    bash "$(realpath "${BASH_SOURCE[0]}")" inside "$@"
fi
name=$2 root=$3 folders=$4
shift 4

# The machine's own /dev/fuse is for root only, and users mount images through it.
make_devices() {
  local dev=$1 name major minor
  mount -t tmpfs -o mode=755,size=1m tmpfs "$dev"
  while read -r name major minor; do
    mknod -m 666 "$dev/$name" c "$major" "$minor"
  done <<<$'null 1 3\nzero 1 5\nfull 1 7\nrandom 1 8\nurandom 1 9\ntty 5 0\nfuse 10 229'
  mkdir "$dev/pts" "$dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$dev/shm"
  ln -s pts/ptmx "$dev/ptmx"
  ln -s /proc/self/fd "$dev/fd"
  ln -s fd/0 "$dev/stdin" && ln -s fd/1 "$dev/stdout" && ln -s fd/2 "$dev/stderr"
}

hostname "$name"
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
mount -t proc proc /mnt/root/proc
mount -t sysfs sysfs /mnt/root/sys # of this network
mount --rbind /sys/fs/cgroup /mnt/root/sys/fs/cgroup
make_devices /mnt/root/dev
mount -t tmpfs -o mode=755 tmpfs /mnt/root/run
mount -t tmpfs -o mode=1777 tmpfs /mnt/root/tmp
cp /etc/resolv.conf /etc/hosts /mnt/root/etc/
while IFS= read -r -d : folder; do
  place=/mnt/root${folder#*=}
  mkdir -p "$place"
  mount --bind "${folder%%=*}" "$place"
done <<<"$folders:"

cd /mnt/root
mkdir .old
pivot_root . .old
cd /
umount -l /.old
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp \
  LANG=C.UTF-8 "$@"
