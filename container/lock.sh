#!/usr/bin/env bash
# Write both locks anew from pyproject.toml (docs/decisions/0002-locks-with-hashes.md).
#
#   container/lock.sh              keep every pin that still fits
#   container/lock.sh --upgrade    take the newest releases that fit all Pythons
#
# UV names a uv to use; else one is installed into a folder that is thrown away.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME

UV_VERSION=0.13.9 # another uv may write the same pins in another form

if [ -z "${UV:-}" ]; then
  python=$(bash container/venv.sh pythons | awk 'NR == 1 { sub(/^[^ ]+ [^ ]+ /, ""); print }')
  if [ -z "$python" ]; then
    echo "error: no Python 3.11, 3.12 or 3.13 to install uv with was found" >&2
    exit 1
  fi
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  echo "Installing uv $UV_VERSION into a throw-away folder" >&2
  "$python" -m venv "$folder/venv"
  "$folder/venv/bin/python" -m pip -qq --disable-pip-version-check install "uv==$UV_VERSION"
  UV=$folder/venv/bin/uv
fi

# No index lines and no header: a lock must not say which mirror it was made behind.
compile() {
  "$UV" pip compile pyproject.toml --extra build --extra notebook --extra test "$@" \
    --universal --python-version 3.11 --fork-strategy fewest \
    --generate-hashes --only-binary :all: --no-header --no-emit-index-url -q
}

echo "Resolving container/requirements.lock" >&2
compile -o container/requirements.lock "$@"
echo "Resolving container/requirements-dev.lock" >&2
compile --extra dev -c container/requirements.lock -o container/requirements-dev.lock "$@"

if command -v git >/dev/null && git rev-parse --git-dir >/dev/null 2>&1; then
  git --no-pager diff --stat -- container/requirements.lock container/requirements-dev.lock
fi
