#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cdr_ingress::fuzzing::proof(bytes));
