#!/bin/sh
# The way into the image. install.sh puts this file at /opt/hyperhpc/bin as hyperhpc and python:
# it sets the environment and starts the program of the same name. Not in %environment, since
# Apptainer shows it none of the user's variables. What is set here must hold for any user, any
# host, a read-only root and no home.
set -eu

# Nothing of the host's Python, conda, desktop or module system gets in.
export PYTHONNOUSERSITE=1 PYTHONUTF8=1 LANG=C.UTF-8 LC_ALL=C.UTF-8 MPLBACKEND=Agg
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS MATPLOTLIBRC
unset PROJ_DATA PROJ_LIB GDAL_DATA GDAL_DRIVER_PATH

# One thread per library: Dask has the threads. Whoever sets a variable keeps it.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OPENBLAS_NUM_THREADS="${OPENBLAS_NUM_THREADS:-1}"
export MKL_NUM_THREADS="${MKL_NUM_THREADS:-1}" NUMBA_NUM_THREADS="${NUMBA_NUM_THREADS:-1}"
export BLOSC_NTHREADS="${BLOSC_NTHREADS:-1}" NUMEXPR_NUM_THREADS="${NUMEXPR_NUM_THREADS:-1}"

# A job's TMPDIR may not be bound into the container.
if [ -n "${TMPDIR:-}" ] && [ ! -w "$TMPDIR" ]; then
  echo "hyperhpc: TMPDIR=$TMPDIR cannot be written in the container; /tmp is used" >&2
  echo "  hint: bind it, apptainer run --bind \"\$TMPDIR\"" >&2
  TMPDIR=/tmp
fi
export TMPDIR="${TMPDIR:-/tmp}"

# Caches are programs and lists that are loaded again: a folder of another user is not trusted.
hyperhpc_cache="$TMPDIR/hyperhpc-cache-$(id -u)"
mkdir -m 700 "$hyperhpc_cache" 2>/dev/null || true
if [ ! -O "$hyperhpc_cache" ] || [ -L "$hyperhpc_cache" ]; then
  hyperhpc_cache="$(mktemp -d)"
fi
mkdir -p "$hyperhpc_cache/matplotlib"
cp -n /opt/hyperhpc/matplotlib/fontlist-*.json "$hyperhpc_cache/matplotlib/" 2>/dev/null || true
export MPLCONFIGDIR="$hyperhpc_cache/matplotlib" NUMBA_CACHE_DIR="$hyperhpc_cache/numba"
export XDG_CACHE_HOME="$hyperhpc_cache" XDG_CONFIG_HOME="$hyperhpc_cache/config"
export XDG_DATA_HOME="$hyperhpc_cache/data" DASK_TEMPORARY_DIRECTORY="$TMPDIR"
unset hyperhpc_cache

exec "/opt/hyperhpc/venv/bin/${0##*/}" "$@"
