# A Debian of its own for a test: debootstrap makes it in a temporary directory, which is removed at the end. For scripts
# of this directory, which read this file (`. tests/debian.sh`) and have two halves:
#
#   own_debian RELEASE [ARGUMENT...]   the first half: starts the script again, in namespaces of its own, as
#                                      SCRIPT inside ROOT RELEASE [ARGUMENT...], and returns how it ended
#   make_debian ROOT RELEASE           in the second half: makes the Debian, with this machine's settings for downloads
#
# The mounts and processes of the second half end with its namespaces, however it ends.

step() { printf '\n== %s (after %s s)\n' "$1" "$SECONDS"; }

failed() {
  echo "$0: failed to $1" >&2
  exit 1
}

# Prints the release that is asked for, or that of this machine.
debian_release() { # [RELEASE]
  local release=${1:-$(. /etc/os-release && echo "${VERSION_CODENAME:-}")}
  case $release in
    bookworm | trixie) echo "$release" ;;
    *)
      echo "$0: there is no Debian release '$release' (bookworm or trixie; without a name only on one of these)" >&2
      return 64
      ;;
  esac
}

own_debian() { # RELEASE [ARGUMENT...]
  [ "$(id -u)" = 0 ] || failed "make a Debian of its own: only root can (start this through sudo)"
  work=$(mktemp -d)
  namespaces=
  trap remove_debian EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  mkdir "$work/root"
  unshare --mount --pid --fork --kill-child "$0" inside "$work/root" "$@" &
  namespaces=$!
  local status=0
  wait "$namespaces" || status=$?
  namespaces=
  return $status
}

remove_debian() {
  # With `unshare` end all processes that it has started, and with them go their mounts: here nothing is mounted.
  if [ -n "$namespaces" ]; then
    kill -KILL "$namespaces" 2> /dev/null || true
    wait "$namespaces" 2> /dev/null || true
  fi
  # The last of them may still be ending.
  for _ in $(seq 20); do
    rm -rf --one-file-system "$work" 2> /dev/null && return
    sleep 0.5
  done
  echo "$0: failed to remove $work (remove it by hand)" >&2
}

# Sets `settings` too: variables of downloads, for the environment of what is run there.
make_debian() { # ROOT RELEASE
  local root=$1 release=$2 mirror file name names
  # From the mirror of this machine's own packages, if it is a Debian mirror that apt knows.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' | head -n 1)
  debootstrap --variant=minbase --include=ca-certificates "$release" "$root" ${mirror:+"$mirror"} > "$root.log" 2>&1 ||
    { tail -n 20 "$root.log" >&2; failed "make a Debian '$release'"; }

  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"

  # What this machine has set for downloads, at the same places.
  copy() { # FILE, if there is one
    [ -e "$1" ] || return 0
    mkdir -p "$root$(dirname "$1")"
    cp -rL "$1" "$root$1"
  }
  for file in /etc/resolv.conf /etc/hosts /etc/npmrc /etc/pip.conf /etc/apt/auth.conf.d /usr/local/share/ca-certificates; do
    rm -rf "${root:?}$file"
    copy "$file"
  done
  apt-config dump Acquire | grep -v '^Acquire::IndexTargets' > "$root/etc/apt/apt.conf.d/90host"
  chroot "$root" update-ca-certificates > /dev/null 2>&1
  settings=()
  names='^([a-z]+_proxy|[A-Z]+_PROXY|SSL_CERT_(FILE|DIR)|[A-Z_]+_CA_(BUNDLE|CERTS)|CARGO_(HTTP|NET|REGISTR|SOURCE)[A-Z_]*'
  names+='|PIP_(CERT|INDEX_URL|EXTRA_INDEX_URL|PROXY|TRUSTED_HOST|DEFAULT_TIMEOUT)|(NPM_CONFIG|npm_config)_[A-Za-z_]+)$'
  while read -r name; do
    settings+=("$name=${!name}")
    [[ ${!name} != /* ]] || [ -e "$root${!name}" ] || copy "${!name}"
  done < <(compgen -e | grep -E "$names")
}
