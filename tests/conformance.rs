//! Every built-in sink keeps the contract.
