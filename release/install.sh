#!/bin/sh
# Installs codex-manager @VERSION@ into ~/.local/bin, or into the folder that CODEX_MANAGER_INSTALL_DIR names.
set -eu

# A script that arrives in part must not run in part.
main() {
  case $(uname -s) in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    *) fail "no binary for $(uname -s); on Windows use npm or scoop" ;;
  esac
  case $(uname -m) in
    x86_64 | amd64) cpu=x64 ;;
    aarch64 | arm64) cpu=arm64 ;;
    *) fail "no binary for the processor $(uname -m); build with cargo" ;;
  esac
  case $os-$cpu in
@TARGETS@
    *) fail "no binary for $os-$cpu" ;;
  esac
  name=codex-manager-@VERSION@-$target
  to=${CODEX_MANAGER_INSTALL_DIR:-${HOME:-}/.local/bin}
  case $to in
    /.local/bin) fail "HOME is not set; set CODEX_MANAGER_INSTALL_DIR" ;;
    /*) ;;
    *) fail "the folder is not an absolute path: $to" ;;
  esac
  if [ -L "$to/codex-manager" ] || { [ -e "$to/codex-manager" ] && [ ! -f "$to/codex-manager" ]; }; then
    fail "not a regular file, so it is not replaced: $to/codex-manager"
  fi
  temp=$(mktemp -d)
  new=
  trap 'rm -rf "$temp"; [ -z "$new" ] || rm -f "$new"' EXIT
  trap 'exit 1' HUP INT TERM

  download "@DOWNLOADS@/$name.tar.gz" "$temp/archive"
  found=$(digest "$temp/archive")
  if [ "${found%% *}" != "$sha256" ]; then
    fail "$name.tar.gz has the SHA-256 digest ${found%% *}, not $sha256; nothing was installed"
  fi
  tar xzf "$temp/archive" -C "$temp"
  mkdir -p "$to"
  # The new binary gets its name at once, so that a running one or a full disk is no problem.
  new=$(mktemp "$to/.codex-manager.XXXXXX")
  cp "$temp/$name/codex-manager" "$new"
  chmod 755 "$new"
  mv -f "$new" "$to/codex-manager"
  echo "installed codex-manager @VERSION@: $to/codex-manager"
  case :$PATH: in
    *:"$to":*) ;;
    *) echo "$to is not in PATH; add it: export PATH=\"$to:\$PATH\"" ;;
  esac
}

download() {
  if command -v curl >/dev/null; then
    curl -fsSL --proto '=https' --tlsv1.2 -o "$2" "$1" || fail "cannot download $1"
  elif command -v wget >/dev/null; then
    wget -q -O "$2" "$1" || fail "cannot download $1"
  else
    fail "curl or wget is needed"
  fi
}

digest() {
  if command -v sha256sum >/dev/null; then
    sha256sum "$1"
  elif command -v shasum >/dev/null; then
    shasum -a 256 "$1"
  else
    fail "sha256sum or shasum is needed to check the download"
  fi
}

fail() {
  echo "error: $1" >&2
  exit 1
}

main
