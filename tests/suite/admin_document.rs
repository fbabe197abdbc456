//! The OpenAPI document of the admin listener against the listener itself: schemathesis makes requests from it, right ones
//! and wrong ones, and every answer must be one that it has. `tests/install-clients.sh` installs schemathesis.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::admin::{ADMIN, Caller};
use crate::auth::files_of;
use crate::harness::{Gateway, LISTENERS, Wire, process};

/// What is checked of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,negative_data_rejection";

/// Runs schemathesis with this token, if any.
fn conforms(gateway: &Gateway, token: Option<&str>) {
    let program = PathBuf::from("target/clients/python/bin/schemathesis");
    assert!(program.exists(), "schemathesis is missing: run tests/install-clients.sh");
    let program = program.canonicalize().unwrap();
    let mut command = Command::new(program);
    let document = fs::canonicalize("docs/openapi.json").unwrap();
    command.arg("run").arg(document).args(["--url", &format!("http://127.0.0.1:{}", gateway.admin_port())]);
    command.args(["--checks", CHECKS, "--max-examples", "15", "--seed", "1", "--no-color", "--warnings", "off"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all"]);
    // It would end the gateway.
    command.args(["--exclude-path", "/api/v1/drain"]);
    command.current_dir(gateway.file(""));
    if let Some(token) = token {
        command.args(["--header", &format!("Authorization: Bearer {token}")]);
    }
    let output = process::run(&mut command, Duration::from_secs(300));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
}

#[test]
fn every_answer_is_one_of_the_document_with_every_right_and_with_none() {
    let tokens = ["operator", "stranger"].map(|name| (name, format!("hunter2-{name}")));
    let files = files_of(&tokens.each_ref().map(|(name, token)| (*name, token.as_str())));
    let file = files.path().join("tokens.txt").display().to_string();
    let gateway = Gateway::start(&format!(
        "[gateway]\nfailed_credentials = \"off\"\n[[endpoint]]\npath = \"/rooms/{{room}}\"\n{LISTENERS}\
         [[auth]]\nname = \"ops\"\nkind = \"tokens\"\nfile = {file:?}\n\
         {ADMIN}auth = [\"ops\"]\nallow = [{{ who = \"operator\" }}]\n"
    ));
    let _client = gateway.client(Wire::Plain, "/rooms/7");
    conforms(&gateway, Some("hunter2-operator"));
    conforms(&gateway, Some("hunter2-stranger"));
    conforms(&gateway, None);
    assert_eq!(Caller::of(&gateway).get("/healthz").status, 200);
}
