# What one does here. `just` lists it.

_list:
    @just --list --unsorted

# The whole thing at work, with receivers of its own.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# All tests.
test:
    cargo test --workspace

# What it costs, beside two references; see docs/performance.md. `just bench --write docs/performance.md` keeps the tables.
bench *ARGS:
    cargo bench -p cdr-bench --bench gateway -- {{ARGS}}

# Kills the gateway under load, again and again, and counts: just crash ROUNDS=200
crash ROUNDS="ROUNDS=50":
    CDR_CRASH_{{ROUNDS}} cargo test --release -p cdr-tests -- --nocapture nothing_acknowledged_is_lost

# Starts a real CRM in FOLDER (3 minutes the first time: tests/crm/start says what it needs), and brings it calls.
crm FOLDER="target/crm":
    #!/usr/bin/env bash
    set -euo pipefail
    trap 'tests/crm/stop "{{FOLDER}}"' EXIT
    environment=$(tests/crm/start "{{FOLDER}}")
    export $environment
    cargo test -p cdr-tests --test gateway -- --ignored --nocapture gateway::real_crm

# Each fuzz target for so long, on stable: just fuzz SECONDS=600 (cargo install --locked cargo-fuzz). What fails lies in fuzz/artifacts.
fuzz SECONDS="SECONDS=60":
    fuzz/run {{SECONDS}}

# Lines that the tests of the door reach (cargo install --locked cargo-tarpaulin --no-default-features). `just coverage -- fuzzing`: those that the fuzz targets reach.
coverage *ARGS:
    cargo tarpaulin --engine llvm --target-dir target/coverage --skip-clean --out Stdout \
        --include-files 'crates/cdr-core/src/*' 'crates/cdr-ingress/src/*' -p cdr-core -p cdr-ingress {{ARGS}}

# The s3 sink against a server of your own: just s3 http://127.0.0.1:9000 BUCKET ID SECRET
s3 *SERVER:
    CDR_S3="{{SERVER}}" cargo test -p cdr-tests -- --nocapture a_server_of_ones_own

# What a change must pass.
ci:
    .ci/run

# Licences, duplicates and banned crates (cargo install cargo-deny).
deny:
    cargo deny check bans licenses sources

# Format and lints, mended where a machine can.
mend:
    cargo fmt
    cargo clippy --workspace --all-targets --fix --allow-dirty
