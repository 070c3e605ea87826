#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds kubectl-openstack for Linux and macOS, amd64 and arm64, with a site's addresses in it, and
# packs each with its man page, completions and licence. Writes to the directory OUT (default dist):
# the programs, the archives, SHA256SUMS, and openstack.yaml, which is the manifest for krew.
#
# The site is in these variables; those that are empty are asked for, or read from config.yaml, by
# the program itself:
#   VERSION         such as v1.2.0
#   NAME            the cluster's name in kubeconfigs (default cloudveneto)
#   SERVER          the API server's or the proxy's address
#   AUTH_URL        Keystone's address
#   DOMAIN          the users' domain
#   TRUSTEE_ID      the id of osnode-controller's user in Keystone
#   TRUSTEE_NAME    its name, for people
#   ISSUER          an OpenID provider
#   CLIENT_ID       the program's name there
#   DOWNLOAD        where the archives are going to be, for krew's manifest
set -eu

cd "$(dirname "$0")/../.."
: "${VERSION:?give the version, such as v1.2.0}" "${OUT:=dist}" "${DOWNLOAD:=https://example.org/kubectl-openstack}"
here=deploy/kubectl-openstack
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

flags="-s -w -X main.buildVersion=$VERSION"
for pair in \
	"buildName=${NAME:-}" "buildServer=${SERVER:-}" "buildAuthURL=${AUTH_URL:-}" "buildDomain=${DOMAIN:-}" \
	"buildTrusteeID=${TRUSTEE_ID:-}" "buildTrusteeName=${TRUSTEE_NAME:-}" "buildIssuer=${ISSUER:-}" "buildClientID=${CLIENT_ID:-}"; do
	case $pair in
	*=) ;;
	*[!A-Za-z0-9=:/.@_-]*) echo "package.sh: ${pair%%=*}: only letters, digits and :/.@_- are allowed" >&2; exit 2 ;;
	*) flags="$flags -X main.$pair" ;;
	esac
done

# Completions come from the program, so one that runs here comes first.
CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$work/host" ./cmd/kubectl-openstack
for shell in bash zsh fish; do
	"$work/host" completion "$shell" >"$work/kubectl-openstack.$shell"
done

for os in linux darwin; do
	for arch in amd64 arm64; do
		name=kubectl-openstack-$os-$arch
		CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath -ldflags "$flags" -o "$OUT/$name" ./cmd/kubectl-openstack
		stage=$work/$name
		mkdir -p "$stage"
		cp "$OUT/$name" "$stage/kubectl-openstack"
		cp LICENSE $here/kubectl-openstack.1 $here/kubectl_complete-openstack "$work"/kubectl-openstack.bash "$work"/kubectl-openstack.zsh "$work"/kubectl-openstack.fish "$stage"
		chmod 755 "$stage/kubectl-openstack" "$stage/kubectl_complete-openstack"
		# The same sources give the same archive.
		tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C "$stage" -cf - . | gzip -n >"$OUT/$name.tar.gz"
	done
done

cd "$OUT"
sha256sum kubectl-openstack-*.tar.gz >SHA256SUMS
sum() { awk -v file="kubectl-openstack-$1.tar.gz" '$2 == file {print $1}' SHA256SUMS; }
sed -e "s|@VERSION@|$VERSION|g" -e "s|@DOWNLOAD@|$DOWNLOAD|g" \
	-e "s|@linux-amd64@|$(sum linux-amd64)|" -e "s|@linux-arm64@|$(sum linux-arm64)|" \
	-e "s|@darwin-amd64@|$(sum darwin-amd64)|" -e "s|@darwin-arm64@|$(sum darwin-arm64)|" \
	"$OLDPWD/$here/krew.yaml" >openstack.yaml
ls -l "$OUT"
