#!/usr/bin/env bash
# Virtual environments that hold exactly what the lock says.
#
#   container/venv.sh setup          .venv: requirements.lock + this checkout (editable)
#   container/venv.sh setup-dev      the same + the linters of requirements-dev.lock
#   container/venv.sh layered 3.12   .venv-3.12: this checkout on top of a cached environment
#   container/venv.sh pythons        the Pythons that can be used: "version release path"
#
# PYTHON          the interpreter for .venv (default: the first of 3.11, 3.12, 3.13 that works)
# HYPERHPC_CACHE  where layered environments keep what several checkouts can share
#
# Each environment ends with a stamp that says what it was made from, so that a second call
# does nothing, and an environment that is unfinished, moved or outdated is made again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A cluster's module system sets these; they would put other packages before the locked ones.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX
export PIP_USER=0

VERSIONS="3.11 3.12 3.13"
LOCK=container/requirements.lock
DEV_LOCK=container/requirements-dev.lock
CACHE=${HYPERHPC_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/hyperhpc}

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
sum_of() { cksum <"$1" | tr ' ' '-'; }
read_stamp() { cat "$1" 2>/dev/null || true; }
runs() { "$1/bin/python" -I -c '' 2>/dev/null; }
shown() { printf '%s' "${1#"$PWD"/}"; }

# --- which Pythons are there ----------------------------------------------------------

# Prints "3.12 3.12.1 /path" if the candidate runs, is in range and can make environments.
# It has to be run to know: pyenv puts a python3.12 on PATH that may only print an error, and
# Debian's python3 has no ensurepip until python3-venv is installed.
probe() {
  "$1" -I -c '
import os, sys
version = sys.version_info
if not (3, 11) <= version[:2] < (3, 14):
    sys.exit(3)
try:
    import ctypes, ensurepip, ssl, venv, zlib
except ImportError as missing:
    print("Python %d.%d.%d lacks the module" % version[:3], missing.name)
    sys.exit(4)
print("%d.%d" % version[:2], "%d.%d.%d" % version[:3], os.path.realpath(sys.executable))
' 2>/dev/null </dev/null
}

candidates_for() {
  local version=$1 path
  type -ap "python$version" || true
  type -ap python3 || true
  for path in "/usr/bin/python$version" "/usr/local/bin/python$version" \
    "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/"$version".*/bin/"python$version" \
    "${XDG_DATA_HOME:-${HOME:-}/.local/share}"/uv/python/cpython-"$version".*/bin/"python$version"; do
    if [ -x "$path" ]; then printf '%s\n' "$path"; fi
  done
}

# Prints the line of the first candidate of this version; says why one was passed over.
find_python() {
  local version=$1 path line status
  while IFS= read -r path; do
    status=0
    line=$(probe "$path") || status=$?
    if [ "$status" = 0 ] && [ "${line%% *}" = "$version" ]; then
      printf '%s\n' "$line"
      return 0
    elif [ "$status" = 4 ] && [ "${path##*/}" = "python$version" ]; then
      say "passed over $path: $line (Debian, Ubuntu: apt install python3-venv)"
    fi
  done < <(candidates_for "$version" | awk '!seen[$0]++')
  return 1
}

# The interpreter for .venv: "version release path".
choose_python() {
  local line status=0 version
  if [ -n "${PYTHON:-}" ]; then
    line=$(probe "$PYTHON") || status=$?
    case $status in
      0) printf '%s\n' "$line" ;;
      3) die "PYTHON=$PYTHON is not 3.11, 3.12 or 3.13" ;;
      4) die "PYTHON=$PYTHON: $line (Debian, Ubuntu: apt install python3-venv)" ;;
      *) die "PYTHON=$PYTHON does not run" ;;
    esac
    return
  fi
  for version in $VERSIONS; do
    find_python "$version" && return
  done
  die "no Python 3.11, 3.12 or 3.13 that can make a virtual environment was found.
Install one (Debian, Ubuntu: apt install python3-venv), or name it:
  make setup PYTHON=/path/to/python3.12"
}

# --- making environments --------------------------------------------------------------

# Only errors are shown: pip warns about caches and indexes that are not this project's.
pip_in() {
  local venv=$1
  shift
  "$venv/bin/python" -m pip -qq --no-input --disable-pip-version-check "$@"
}

install_lock() {
  pip_in "$1" install --require-hashes --only-binary :all: -r "$2"
}

install_checkout() {
  pip_in "$1" install --no-deps --no-build-isolation -e .
}

new_venv() {
  local venv=$1 python=$2
  if [ -e "$venv" ] || [ -L "$venv" ]; then
    say "$(shown "$venv") is unfinished, outdated or moved: it is made again"
    rm -rf "$venv"
  fi
  mkdir -p "$(dirname "$venv")"
  "$python" -I -m venv "${@:3}" "$venv"
}

# An environment with the locked packages only. Nothing is done if it is there.
locked_venv() {
  local venv=$1 release=$2 python=$3 wanted
  wanted=$(printf '%s\n' "$release" "$python" "$(sum_of "$LOCK")" "$venv")
  if [ "$(read_stamp "$venv/.locked")" = "$wanted" ] && runs "$venv"; then
    return
  fi
  say "Making $(shown "$venv") with Python $release ($python)"
  new_venv "$venv" "$python"
  say "Installing the $(grep -c '^[a-z0-9].*==' "$LOCK") packages of $LOCK (a minute or two)"
  install_lock "$venv" "$LOCK"
  printf '%s\n' "$wanted" >"$venv/.locked"
}

setup() {
  local venv=$PWD/.venv line stamp release python
  if [ -z "${PYTHON:-}" ] && [ -s "$venv/.locked" ] && runs "$venv"; then
    # Keep the interpreter the environment has: another one may have come onto PATH since.
    { read -r release; read -r python; } <"$venv/.locked"
  else
    line=$(choose_python)
    line=${line#* } release=${line%% *} python=${line#* }
  fi
  locked_venv "$venv" "$release" "$python"
  stamp=$(sum_of pyproject.toml)
  if [ "$(read_stamp "$venv/.checkout")" != "$stamp" ]; then
    say "Installing hyperhpc from this checkout"
    install_checkout "$venv"
    printf '%s\n' "$stamp" >"$venv/.checkout"
  fi
}

setup_dev() {
  setup
  local venv=$PWD/.venv stamp
  stamp=$(sum_of "$DEV_LOCK")
  if [ "$(read_stamp "$venv/.dev")" != "$stamp" ]; then
    say "Installing the linters of $DEV_LOCK"
    install_lock "$venv" "$DEV_LOCK"
    printf '%s\n' "$stamp" >"$venv/.dev"
  fi
}

# One environment is more than 1 GB, and only the checkout differs between two clones. So the
# locked packages live once per Python in the cache, and .venv-3.12 is a thin one over them.
layered() {
  local version=$1 line release python base venv wanted site
  line=$(find_python "$version" 2>/dev/null) || die "no usable Python $version was found"
  line=${line#* } release=${line%% *} python=${line#* }
  mkdir -p "$CACHE/venvs"
  base=$CACHE/venvs/$release-$(uname -s)-$(uname -m)-$(sum_of "$LOCK")
  (
    # Two clones may get here at once. (macOS has no flock; there it is left to luck.)
    if command -v flock >/dev/null; then flock 9; fi
    locked_venv "$base" "$release" "$python"
  ) 9>"$base.lock"
  touch "$base"
  find "$CACHE/venvs" -mindepth 1 -maxdepth 1 -mtime +60 -exec rm -rf {} +

  venv=$PWD/.venv-$version
  wanted="$(read_stamp "$base/.locked") $(sum_of pyproject.toml) $venv"
  if [ "$(read_stamp "$venv/.checkout")" = "$wanted" ] && runs "$venv"; then
    return
  fi
  new_venv "$venv" "$python" --without-pip
  site=lib/python$version/site-packages
  # addsitedir, not a bare path, so that .pth files among the packages work too.
  "$python" -I -c 'import sys; print("import site; site.addsitedir(%r)" % sys.argv[1])' \
    "$base/$site" >"$venv/$site/locked-packages.pth"
  install_checkout "$venv"
  printf '%s\n' "$wanted" >"$venv/.checkout"
}

case "${1:-}" in
  setup) setup ;;
  setup-dev) setup_dev ;;
  layered) layered "${2:?which version?}" ;;
  pythons) for version in ${2:-$VERSIONS}; do find_python "$version" || true; done ;;
  *) die "usage: container/venv.sh setup | setup-dev | layered VERSION | pythons [VERSION]" ;;
esac
