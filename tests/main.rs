//! End to end: the sinks against real servers, the gateway through its built binary.

mod conformance;
mod docs;
mod gateway;
mod simulator_s3;
mod sink_email;
mod sink_file;
mod sink_http;
mod sink_s3;
mod workspace;
