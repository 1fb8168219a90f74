//! What servers say of themselves and ask for: lists that change, roots, messages, input.

#![expect(
    deprecated,
    reason = "roots and logging are deprecated by SEP-2577; older servers use them"
)]

mod support;

use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{ElicitRequestParams, ElicitResult, ElicitationAction, Root},
    service::RequestContext,
};
use scupper_core::host::{Era, Host, Settings};
use support::{hosted::*, *};

/// A server of MCP 2026-07-28: discovered, listened to, and asking back before it answers.
const MODERN: &str = r#"
tools='{"name":"grow","inputSchema":{"type":"object"}}'
answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
cached='"resultType":"complete","ttlMs":0,"cacheScope":"public"'
meta() { printf '"_meta":{"io.modelcontextprotocol/subscriptionId":%s}' "$heard"; }
while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case "$line" in
    *'"method":"server/discover"'*)
      answer '{'"$cached"',"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}' ;;
    *'"method":"subscriptions/listen"'*)
      heard=$id; echo listening >&2
      echo '{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{'"$(meta)"',"notifications":{"toolsListChanged":true}}}' ;;
    *'"method":"tools/list"'*) answer '{'"$cached"',"tools":['"$tools"']}' ;;
    *'"method":"tools/call"'*'"name":"grow"'*)
      tools="$tools"',{"name":"more","inputSchema":{"type":"object"}}'
      answer '{"resultType":"complete","content":[{"type":"text","text":"grown"}]}'
      echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{'"$(meta)"'}}' ;;
    *'"method":"tools/call"'*'"inputResponses"'*)
      case "$line" in *'"action":"accept"'*) said=accepted ;; *) said=declined ;; esac
      case "$line" in *'"requestState":"opaque"'*) said="$said, state kept" ;; esac
      answer '{"resultType":"complete","content":[{"type":"text","text":"'"$said"'"}]}' ;;
    *'"method":"tools/call"'*)
      answer '{"resultType":"input_required","requestState":"opaque","inputRequests":{"q":{"method":"elicitation/create","params":{"mode":"form","message":"sure?","requestedSchema":{"type":"object","properties":{}}}}}}' ;;
  esac
done
"#;

#[tokio::test]
async fn a_newer_server_is_listened_to_and_its_changes_are_fetched() {
    let host = host();
    add(&host, "alpha", script(MODERN)).await;
    assert_eq!(host.tools().len(), 1);
    assert_eq!(host.stderr_tail("alpha").unwrap().lines, ["listening"]);
    assert_eq!(call(&host, "alpha", "grow").await, "grown");
    settle("the new tool", || (host.tools().len() == 2, format!("{:?}", host.tools()))).await;
    let end = within(host.remove("alpha")).await.unwrap();
    assert!(end.is_clean(), "{end}");
    assert_empty(host.census());
}

/// Says yes.
struct Yes;

impl ClientHandler for Yes {
    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(serde_json::json!({})))
    }
}

#[tokio::test]
async fn what_a_server_wants_to_know_is_asked_of_the_handler() {
    let host = host();
    let spec = script(MODERN).with_era(Era::Discover);
    add(&host, "alone", spec.clone()).await;
    add(&host, "asked", spec.with_handler(Yes)).await;
    assert_eq!(call(&host, "alone", "ask").await, "declined, state kept");
    assert_eq!(call(&host, "asked", "ask").await, "accepted, state kept");
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

/// The older server, with an answer of its own to one more method.
fn with_case(pattern: &str, does: &str) -> String {
    HOSTED.replacen("case \"$line\" in", &format!("case \"$line\" in {pattern}) {does} ;;"), 1)
}

#[tokio::test]
async fn roots_are_told_when_asked_for_and_when_they_change() {
    let host = host();
    let ask = r#"echo '{"jsonrpc":"2.0","id":"r","method":"roots/list"}'"#;
    let asks = with_case("*roots/list_changed*", ask);
    let hears = "case \"$line\" in *'\"roots\":['*) echo \"$line\" >&2 ;;";
    let asks = asks.replacen("case \"$line\" in", hears, 1);
    add(&host, "alpha", script(&asks)).await;
    host.set_roots(vec![Root::new("file:///work")]);
    settle("the roots", || {
        let tail = host.stderr_tail("alpha").unwrap();
        (tail.lines.iter().any(|line| line.contains("file:///work")), tail)
    })
    .await;
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}

#[tokio::test]
async fn the_latest_messages_of_a_server_are_kept_until_its_end() {
    let host = Host::new(Settings { messages: 2, ..Settings::default() });
    let log = r#"for n in 1 2 3; do echo '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"'$n'"}}'; done; called logged"#;
    add(&host, "alpha", script(&with_case("*tools/call*", log))).await;
    assert_eq!(call(&host, "alpha", "log").await, "logged");
    settle("two of three", || {
        let kept = host.messages("alpha").unwrap();
        let mut data: Vec<_> = kept.iter().map(|message| message.data.to_string()).collect();
        data.sort();
        // rmcp hears each in a task of its own, so which two are the latest is not certain.
        (data.len() == 2, format!("{data:?}"))
    })
    .await;
    within(host.call_tool("alpha", tool("log"))).await.unwrap();
    assert_eq!(host.messages("alpha").unwrap().len(), 2);
    within(host.remove("alpha")).await.unwrap();
    assert!(host.messages("alpha").is_err());
    assert_empty(host.census());
}

#[tokio::test]
async fn lists_without_an_end_are_cut_and_say_so() {
    let page = r#"answer '{"tools":['"$tools"','"$tools"'],"nextCursor":"again"}'"#;
    let endless = script(&with_case("*tools/list*", page));
    let cases = [
        (Settings { catalog_pages: 3, ..Settings::default() }, 6, "tools: cut after 3 pages"),
        (Settings { catalog_items: 7, ..Settings::default() }, 7, "tools: cut after 7"),
    ];
    for (settings, count, said) in cases {
        let host = Host::new(settings);
        add(&host, "alpha", endless.clone()).await;
        let catalog = host.server("alpha").unwrap().catalog;
        assert_eq!((catalog.tools.len(), catalog.prompts.len()), (count, 1));
        assert!(catalog.problems[0].starts_with(said), "{:?}", catalog.problems);
        within(host.shutdown(ENOUGH)).await;
        assert_empty(host.census());
    }
}

#[tokio::test]
async fn a_list_that_does_not_come_does_not_keep_a_server_from_being_ready() {
    let settings =
        Settings { catalog_wait: std::time::Duration::from_millis(200), ..Settings::default() };
    let host = Host::new(settings);
    add(&host, "alpha", script(&with_case("*prompts/list*", ":"))).await;
    let catalog = host.server("alpha").unwrap().catalog;
    assert_eq!(catalog.tools.len(), 1);
    assert!(catalog.problems[0].starts_with("prompts: not all there"), "{:?}", catalog.problems);
    within(host.shutdown(ENOUGH)).await;
    assert_empty(host.census());
}
