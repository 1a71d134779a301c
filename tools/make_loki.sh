#!/bin/sh
# Builds Grafana Loki for `make test-loki`, from its Go module, and prints where the program is. Needs Go; takes about six
# minutes and 3 GB the first time. Usage: make_loki.sh FOLDER
set -eu

version=v3.7.8
folder=$1
program=$folder/loki-$version
if [ ! -x "$program" ]; then
    mkdir -p "$folder"
    work=$(mktemp -d "$folder/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    module=$(go mod download -json "github.com/grafana/loki/v3@$version" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
    cp -R "$module" "$work/loki"
    chmod -R u+w "$work/loki"
    cd "$work/loki"
    # The module leaves its own nested module out, so the published one takes its place.
    go mod edit -dropreplace=github.com/grafana/loki/pkg/push
    go build -mod=mod -o "$work/program" ./cmd/loki >&2
    mv "$work/program" "$program"
fi
echo "$program"
