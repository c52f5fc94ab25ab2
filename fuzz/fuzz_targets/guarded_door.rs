#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cdr_ingress::fuzzing::guarded_door(bytes));
