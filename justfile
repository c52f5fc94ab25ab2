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
