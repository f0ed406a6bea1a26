#!/usr/bin/env bash
# Use a cluster that run.sh --keep holds, or one whose tests are running.
#
#   tests/slurm/on.sh HOST [-u USER] COMMAND...   on ctl or c1 to c4, as root or as USER
#   tests/slurm/on.sh cluster power_off c2        a step of cluster.sh
#
# HYPERHPC_SLURM_TEST names its folder; the newest one by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

newest() { find /srv -maxdepth 1 -name 'hyperhpc-slurm.*' -printf '%T@ %p\n' | sort -n; }
folder=${HYPERHPC_SLURM_TEST:-$(newest | tail -n 1 | cut -d ' ' -f 2-)}
host=$1 user=root
shift
if [ "$1" = -u ]; then user=$2; shift 2; fi
if [ "$host" = cluster ]; then step=("$@"); else step=(on "$host" "$user" "$@"); fi
exec nsenter --target "$(cat "$folder/cluster.pid")" --mount --net --pid -- \
  env HYPERHPC_SLURM_TEST="$folder" bash "$PWD/tests/slurm/cluster.sh" "${step[@]}"
