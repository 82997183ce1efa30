# Functions that the scripts of this folder share. Source this file; do not run it.

# The folder for everything that is downloaded or built outside the checkout.
FOVEAL_CACHE="${FOVEAL_CACHE:-${HOME:?}/.cache/foveal}"

say() { printf '%s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# apt_install PACKAGE...: installs Debian packages, as root or with a sudo that needs no password.
apt_install() {
    local sudo=()
    have apt-get || die "needs the package(s) $*, and this machine has no apt-get; install them manually"
    if [ "$(id -u)" -ne 0 ]; then
        have sudo && sudo -n true 2>/dev/null || die "needs the package(s) $*: run 'sudo apt-get install $*'"
        sudo=(sudo -n)
    fi
    say "installing with apt-get: $*"
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        </dev/null >/dev/null 2>&1 && return
    "${sudo[@]}" apt-get update -qq </dev/null >/dev/null 2>&1 || true
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
        </dev/null >&2 || die "apt-get could not install $*"
}

# download URL FILE: downloads to a temporary name first, so that FILE is complete or absent.
download() {
    local part="$2.part"
    if have curl; then
        curl -fsSL --retry 3 --connect-timeout 20 -o "$part" "$1" </dev/null || { rm -f "$part"; return 1; }
    elif have wget; then
        wget -q --tries 3 --timeout 20 -O "$part" "$1" </dev/null || { rm -f "$part"; return 1; }
    else
        apt_install curl ca-certificates
        download "$1" "$2"
        return
    fi
    mv "$part" "$2"
}

# date_vendored ROOT: gives the files of crates/vendor the date of their last commit. In a new clone they have the date of
# the clone, and Cargo would compile them again in a target directory that is kept, with every crate of Burn above them.
date_vendored() {
    local date
    date="$(git -C "$1" log -1 --format=@%ct -- crates/vendor 2>/dev/null)" || return 0
    [ -z "$date" ] || find "$1/crates/vendor" -exec touch -d "$date" {} +
}

# foveal ARGUMENTS...: runs the release binary of this checkout, and builds it first if needed. FOVEAL=PATH selects
# another binary.
foveal() {
    if [ -n "${FOVEAL:-}" ]; then
        "$FOVEAL" "$@"
        return
    fi
    have cargo || PATH="$PATH:$HOME/.cargo/bin"
    have cargo || die "cargo is missing: install Rust from https://rustup.rs, or run scripts/check, which installs it"
    local target="${CARGO_TARGET_DIR:-$FOVEAL_CACHE/target}"
    local root
    root="$(dirname "${BASH_SOURCE[0]}")/.."
    date_vendored "$root"
    CARGO_TARGET_DIR="$target" cargo build --release --locked --quiet --manifest-path "$root/Cargo.toml" -p foveal \
        </dev/null >&2 \
        || die "foveal does not build"
    "$target/release/foveal" "$@"
}
