//! Servers for hosts, and looks at a host.

use std::time::Duration;

use rmcp::model::CallToolRequestParams;
use scupper_core::{
    host::{Host, OnDuplicate, ServerSpec, ServerState, Settings},
    process::Command,
    stdio::{self, StdioServer},
};

use super::{brisk, settle, within};

/// A server of the older protocol, in shell, with a list of each kind. Tools: `echo`, `die` (exits
/// with 7), `hang` (no answer), `deaf` (closes its stdin), `grow` (has one more tool afterwards, and
/// says so).
pub(crate) const HOSTED: &str = r#"
tools='{"name":"echo","inputSchema":{"type":"object"}}'
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
called() { answer '{"content":[{"type":"text","text":"'"$1"'"}]}'; }
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"method":"notifications/'*) ;;
    *'"method":"initialize"'*)
      answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"resources":{},"prompts":{}},"serverInfo":{"name":"sh","version":"0"}}' ;;
    *'"method":"tools/list"'*) answer '{"tools":['"$tools"']}' ;;
    *'"method":"resources/list"'*) answer '{"resources":[{"uri":"file:///a","name":"a"}]}' ;;
    *'"method":"resources/templates/list"'*) answer '{"resourceTemplates":[{"uriTemplate":"file:///{x}","name":"x"}]}' ;;
    *'"method":"prompts/list"'*) answer '{"prompts":[{"name":"p"}]}' ;;
    *'"method":"prompts/get"'*) answer '{"messages":[]}' ;;
    *'"method":"resources/read"'*) answer '{"contents":[{"uri":"file:///a","text":"A"}]}' ;;
    *'"method":"tools/call"'*'"name":"die"'*) echo 'the tool made it die' >&2; exit 7 ;;
    *'"method":"tools/call"'*'"name":"hang"'*) echo hanging >&2 ;;
    *'"method":"tools/call"'*'"name":"deaf"'*) exec 0<&-; echo deaf >&2; sleep 1000 ;;
    *'"method":"tools/call"'*'"name":"grow"'*)
      tools="$tools"',{"name":"more","inputSchema":{"type":"object"}}'; called grown
      echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}' ;;
    *'"method":"tools/call"'*) called "pid $$" ;;
    *'"id":'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}\n' "$id" ;;
  esac
done
"#;

/// The server above, with lines that run before it and lines that run after its stdin has ended.
pub(crate) fn hosted(before: &str, after: &str) -> ServerSpec {
    script(&format!("{before}\n{HOSTED}\n{after}"))
}

pub(crate) fn script(script: &str) -> ServerSpec {
    scripted(script, brisk())
}

pub(crate) fn scripted(script: &str, settings: stdio::Settings) -> ServerSpec {
    StdioServer::new(Command::new("sh").arg("-c").arg(script)).with_settings(settings).into()
}

pub(crate) fn host() -> Host {
    Host::new(Settings::default())
}

pub(crate) async fn add(host: &Host, name: &str, spec: ServerSpec) {
    within(host.add(name, spec, OnDuplicate::Refuse)).await.expect("added");
}

pub(crate) fn tool(name: &'static str) -> CallToolRequestParams {
    CallToolRequestParams::new(name)
}

/// What a call of the tool said.
pub(crate) async fn call(host: &Host, server: &str, name: &'static str) -> String {
    let result = within(host.call_tool(server, tool(name))).await.expect("called");
    result.content[0].as_text().expect("text").text.clone()
}

pub(crate) async fn until(host: &Host, server: &str, wanted: impl Fn(&ServerState) -> bool) {
    settle("state", || {
        let state = host.server(server).map(|view| view.state);
        (state.as_ref().is_ok_and(&wanted), format!("{state:?}"))
    })
    .await;
}

pub(crate) const ENOUGH: Duration = Duration::from_secs(10);
