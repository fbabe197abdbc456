//! The tests of the whole program from outside: the real binary, real sockets, real clients. One
//! test binary, a module per theme.

#![allow(clippy::unwrap_used, reason = "a step that fails ends its test, helpers included")]

mod harness;

mod addresses;
mod auth;
mod auth_basic;
mod auth_certificate;
mod auth_jwt;
mod auth_rules;
mod bad_frames;
mod bad_requests;
mod broken_files;
mod certificates;
mod check;
mod cli;
mod cli_options;
mod config;
mod delivery;
mod descriptions;
mod dial;
mod documents;
mod formats;
mod heartbeat;
mod identity_limits;
mod import;
mod import_destinations;
mod key_updates;
mod limits;
mod limits_of_addresses;
mod lines;
mod links;
mod links_down;
mod links_slow;
mod links_stop;
mod listeners;
mod log_lines;
mod memory;
mod names;
mod node_red;
mod ocpp;
mod origins;
mod present;
mod proxies;
mod rates;
mod real_clients;
mod refusals;
mod regression;
mod relay;
mod relay_hold;
mod reload;
mod replace;
mod secret_files;
mod service;
mod soak;
mod standard_error;
mod stop;
mod tidy;
mod time;
mod tls;
mod two_gateways;
mod undelivered;
mod welcome;
mod wire;
mod withdrawn;
