#!/bin/sh
# Checks all deployment files that can be checked without a container engine, one line for each check.
# A tool that this machine lacks is skipped, except in CI, where it is a failure.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH="$PWD/.venv/bin:$PATH:/usr/sbin"
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failures=0

fail() {
    failures=$((failures + 1))
    echo "failed: $1"
}

# have TOOL: whether this machine has it.
have() {
    if command -v "$1" >/dev/null; then return 0; fi
    if [ "${CI:-}" = true ]; then
        fail "$1 is not installed"
    else
        echo "skipped: $1 is not installed"
    fi
    return 1
}

# check NAME COMMAND...: what a passing tool prints is noise, what a failing tool prints is the answer.
check() {
    name=$1
    shift
    if "$@" >"$scratch/output" 2>&1; then
        echo "ok: $name"
    else
        cat "$scratch/output"
        fail "$name"
    fi
}

# systemd-analyze passes a unit with unknown keys, and fails one whose program is not on this machine.
unit_is_clean() {
    sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' deploy/hitcounter.service >"$scratch/hitcounter.service"
    systemd-analyze verify --man=no "$scratch/hitcounter.service" >"$scratch/verify" 2>&1 || {
        cat "$scratch/verify"
        return 1
    }
    ! grep -F hitcounter.service "$scratch/verify"
}

# What is deployed is what the template gives.
rules_are_rendered() {
    python deploy/prometheus/render.py | diff -u deploy/prometheus/rules.yml -
}

# The programs read the certificates that their files name, and nginx tries its port: all of it is put in scratch.
make_proxies_readable() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=www.example.vn \
        -keyout "$scratch/key.pem" -out "$scratch/cert.pem" || return 1
    cat "$scratch/cert.pem" "$scratch/key.pem" >"$scratch/cert-and-key.pem"
    for file in nginx.conf Caddyfile haproxy.cfg apache.conf; do
        sed "s|/etc/ssl/hitcounter|$scratch|g; s|443|8443|" "deploy/proxies/$file" >"$scratch/$file" || return 1
    done
    echo "pid pid; events {} http { access_log off; include nginx.conf; }" >"$scratch/around-nginx.conf"
    {
        printf 'ServerRoot %s\nDefaultRuntimeDir .\nPidFile pid\nErrorLog error.log\nServerName www.example.vn\nListen 127.0.0.1:8443\n' "$scratch"
        for module in mpm_event authz_core alias headers proxy proxy_http socache_shmcb ssl; do
            echo "LoadModule ${module}_module /usr/lib/apache2/modules/mod_$module.so"
        done
        echo 'Include apache.conf'
    } >"$scratch/around-apache.conf"
}

find deploy src -name '*.yaml' -o -name '*.yml' | sort >"$scratch/yaml"
find deploy/kubernetes -name '*.yaml' ! -name kustomization.yaml | sort >"$scratch/kubernetes"
find .ci deploy requirements bench -name '*.sh' -o -path '.ci/*' | sort >"$scratch/shell"
find src -name 'openapi.yaml' >"$scratch/openapi"

# The lists hold paths of this project, which have no spaces: splitting them is meant.
# shellcheck disable=SC2046
{
    have hadolint && check "hadolint" hadolint --no-color Dockerfile
    have yamllint && check "yamllint" yamllint --strict -c deploy/yamllint.yaml $(cat "$scratch/yaml")
    have check-jsonschema && check "compose schema" \
        check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
    have check-jsonschema && check "dashboard schema" \
        check-jsonschema --schemafile deploy/grafana/schema.json deploy/grafana/hitcounter.json
    # Nobody publishes a schema of kustomization.yaml where we could have it: that it builds is what is checked.
    have check-jsonschema && check "Kubernetes schema" \
        check-jsonschema --schemafile deploy/kubernetes/schema.json $(cat "$scratch/kubernetes")
    have kubectl && check "kubectl kustomize" kubectl kustomize deploy/kubernetes
    have promtool && check "promtool check config" promtool check config deploy/prometheus/prometheus.yml
    have promtool && check "promtool test rules" promtool test rules deploy/prometheus/*.test.yml
    have hitcounter && check "rules of Prometheus" rules_are_rendered
    have amtool && check "amtool check-config" amtool check-config deploy/alertmanager/alertmanager.yml
    have openssl && check "files of proxies" make_proxies_readable
    have nginx && check "nginx -t" nginx -t -p "$scratch" -e stderr -c around-nginx.conf
    have caddy && check "caddy validate" \
        env HOME="$scratch" caddy validate --adapter caddyfile --config "$scratch/Caddyfile"
    have apache2 && check "apache2 -t" apache2 -t -f "$scratch/around-apache.conf"
    have haproxy && check "haproxy -c" haproxy -c -f "$scratch/haproxy.cfg"
    have shellcheck && check "shellcheck" shellcheck -x $(cat "$scratch/shell")
    have systemd-analyze && check "systemd-analyze verify" unit_is_clean
    for file in deploy/hitcounter.toml deploy/kubernetes/hitcounter.toml; do
        have hitcounter && check "settings" \
            python -c 'import sys; from hitcounter import config; config.load({"config": sys.argv[1]}, {})' "$file"
    done
    have openapi-spec-validator && [ -s "$scratch/openapi" ] && check "openapi" \
        openapi-spec-validator $(cat "$scratch/openapi")
}
[ "$failures" -eq 0 ]
