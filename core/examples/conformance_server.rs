//! The server that the official conformance suite is run against (`ci/conformance`): the fixtures that
//! its scenarios ask for, behind our sessions, or with `--local` behind rmcp's own.
//!
//! ```text
//! cargo run -p scupper-core --example conformance_server -- [--local]
//! ```
//!
//! Prints the endpoint's address on the first line of stdout and serves until its stdin ends.

use std::{borrow::Cow, sync::Arc, time::Duration};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::*,
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use scupper_core::{
    census::Census,
    session::{ListenerSettings, Server, Sessions, Settings},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

/// Smallest PNG and WAV that are one.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";
/// Between two notifications of a tool: the suite asks for so much.
const PACE: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("http://{}/mcp", socket.local_addr()?);
    let config = StreamableHttpServerConfig::default()
        .with_allowed_origins(["http://localhost:*", "http://127.0.0.1:*"]);
    if std::env::args().any(|argument| argument == "--local") {
        let sessions = Arc::new(LocalSessionManager::default());
        let service = StreamableHttpService::new(|| Ok(Fixtures), sessions, config);
        let app = axum::Router::new().nest_service("/mcp", service);
        axum::serve(socket, app).with_graceful_shutdown(stdin_ended()).await?;
        return Ok(());
    }
    let census = Census::new();
    let sessions = Sessions::start(Settings::default(), &census)?;
    let mcp = sessions.service(|| Ok(Fixtures), config);
    let app = axum::Router::new().nest_service("/mcp", mcp);
    let server = Server::serve(socket, app, sessions, ListenerSettings::default(), &census)?;
    stdin_ended().await;
    eprintln!("{}\n{census}", server.close().await);
    Ok(())
}

async fn stdin_ended() {
    let mut byte = [0];
    while matches!(tokio::io::stdin().read(&mut byte).await, Ok(1)) {}
}

#[derive(Clone, Copy)]
struct Fixtures;

impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        read(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {
                "tools": { "listChanged": true }, "logging": {}, "completions": {}, "prompts": {},
                "resources": { "subscribe": true },
            },
            "serverInfo": { "name": "scupper-conformance", "version": env!("CARGO_PKG_VERSION") },
        }))
        .expect("a server's description")
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        complete(json!({ "tools": tools() }))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        let tools = tools();
        let tool = tools.as_array()?.iter().find(|tool| tool["name"] == name)?;
        read(tool.clone()).ok()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let content = match request.name.as_ref() {
            "test_simple_text" => text("This is a simple text response for testing."),
            "test_image_content" => json!([image()]),
            "test_audio_content" => {
                json!([{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }])
            }
            "test_embedded_resource" => json!([embedded("test://embedded-resource")]),
            "test_multiple_content_types" => json!([
                { "type": "text", "text": "Multiple content types test:" },
                image(),
                embedded("test://mixed-content-resource"),
            ]),
            "test_tool_with_logging" => log_thrice(&context).await?,
            "test_tool_with_progress" => tell_progress(&context).await?,
            "test_sampling" => sample(&context, &arguments).await?,
            "test_elicitation" => elicit(&context, asked_for(&arguments)).await?,
            "test_elicitation_sep1034_defaults" => elicit(&context, defaults()).await?,
            "test_elicitation_sep1330_enums" => elicit(&context, enums()).await?,
            "json_schema_2020_12_tool" => text("valid"),
            "test_error_handling" => {
                let content = text("This tool intentionally returns an error for testing");
                let result: CallToolResult =
                    complete(json!({ "isError": true, "content": content }))?;
                return Ok(result.into());
            }
            other => return Err(ErrorData::invalid_params(format!("no tool `{other}`"), None)),
        };
        let result: CallToolResult = complete(json!({ "content": content }))?;
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let one = |name: &str, kind: &str| json!({ "uri": format!("test://{name}"), "name": name, "mimeType": kind });
        complete(json!({ "resources": [
            one("static-text", "text/plain"),
            one("static-binary", "image/png"),
            one("watched-resource", "text/plain"),
        ]}))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        complete(json!({ "resourceTemplates": [{
            "uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json",
        }]}))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let templated =
            uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let contents = match (uri, templated) {
            (_, Some(id)) => {
                let data =
                    json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() })
            }
            ("test://static-text", _) => json!({
                "uri": uri, "mimeType": "text/plain",
                "text": "This is the content of the static text resource.",
            }),
            ("test://static-binary", _) => {
                json!({ "uri": uri, "mimeType": "image/png", "blob": PNG })
            }
            ("test://watched-resource", _) => {
                json!({ "uri": uri, "mimeType": "text/plain", "text": "watched" })
            }
            _ => {
                let data = Some(json!({ "uri": uri }));
                return Err(ErrorData::invalid_params(format!("no resource `{uri}`"), data));
            }
        };
        let result: ReadResourceResult = complete(json!({ "contents": [contents] }))?;
        Ok(result.into())
    }

    async fn subscribe(
        &self,
        _: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    #[expect(deprecated, reason = "the suite asks for it")]
    async fn set_level(
        &self,
        _: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        complete(json!({ "completion": { "values": ["test"], "total": 1, "hasMore": false } }))
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let argument = |name: &str| json!({ "name": name, "required": true });
        complete(json!({ "prompts": [
            { "name": "test_simple_prompt", "description": "A simple prompt" },
            { "name": "test_prompt_with_arguments", "description": "A prompt with arguments",
              "arguments": [argument("arg1"), argument("arg2")] },
            { "name": "test_prompt_with_embedded_resource", "description": "A prompt with a resource",
              "arguments": [argument("resourceUri")] },
            { "name": "test_prompt_with_image", "description": "A prompt with an image" },
        ]}))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let said = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        let message = |content: Value| json!({ "role": "user", "content": content });
        let words = |words: &str| message(json!({ "type": "text", "text": words }));
        let messages = match request.name.as_str() {
            "test_simple_prompt" => json!([words("This is a simple prompt for testing.")]),
            "test_prompt_with_arguments" => json!([words(&format!(
                "Prompt with arguments: arg1='{}', arg2='{}'",
                said("arg1"),
                said("arg2")
            ))]),
            "test_prompt_with_embedded_resource" => json!([
                message(embedded(&said("resourceUri"))),
                words("Please process the embedded resource above."),
            ]),
            "test_prompt_with_image" => {
                json!([message(image()), words("Please analyze the image above.")])
            }
            other => return Err(ErrorData::invalid_params(format!("no prompt `{other}`"), None)),
        };
        let result: GetPromptResult = complete(json!({ "messages": messages }))?;
        Ok(result.into())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS)
    }
}

/// The fixtures are JSON as the suite states them.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value)
        .map_err(|error| ErrorData::internal_error(format!("a fixture is wrong: {error}"), None))
}

/// Results of 2026-07-28 say that they are complete; rmcp leaves it out where an older client asks.
fn complete<T: DeserializeOwned>(mut result: Value) -> Result<T, ErrorData> {
    result["resultType"] = json!("complete");
    read(result)
}

fn failed(error: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

fn text(text: &str) -> Value {
    json!([{ "type": "text", "text": text }])
}

fn image() -> Value {
    json!({ "type": "image", "data": PNG, "mimeType": "image/png" })
}

fn embedded(uri: &str) -> Value {
    json!({ "type": "resource", "resource": {
        "uri": uri, "mimeType": "text/plain", "text": "This is an embedded resource content.",
    }})
}

fn tools() -> Value {
    let plain = |name: &str| json!({ "name": name, "description": name, "inputSchema": { "type": "object" } });
    let asking = |name: &str, argument: &str| {
        json!({ "name": name, "description": name, "inputSchema": {
            "type": "object",
            "properties": { argument: { "type": "string" } },
            "required": [argument],
        }})
    };
    json!([
        plain("test_simple_text"),
        plain("test_image_content"),
        plain("test_audio_content"),
        plain("test_embedded_resource"),
        plain("test_multiple_content_types"),
        plain("test_tool_with_logging"),
        plain("test_tool_with_progress"),
        plain("test_error_handling"),
        asking("test_sampling", "prompt"),
        asking("test_elicitation", "message"),
        plain("test_elicitation_sep1034_defaults"),
        plain("test_elicitation_sep1330_enums"),
        { "name": "json_schema_2020_12_tool", "description": "Keywords that have to survive",
          "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": { "address": {
                "$anchor": "addressDef", "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            }},
            "properties": {
                "name": { "type": "string" },
                "address": { "$ref": "#/$defs/address" },
                "contactMethod": { "type": "string", "enum": ["phone", "email"] },
                "phone": { "type": "string" },
                "email": { "type": "string" },
            },
            "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
            "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
            "then": { "required": ["phone"] },
            "else": { "required": ["email"] },
            "additionalProperties": false,
        }},
    ])
}

async fn log_thrice(context: &RequestContext<RoleServer>) -> Result<Value, ErrorData> {
    for words in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        let message = json!({ "method": "notifications/message", "params": { "level": "info", "data": words } });
        context.peer.send_notification(read(message)?).await.map_err(failed)?;
        tokio::time::sleep(PACE).await;
    }
    Ok(text("logged"))
}

async fn tell_progress(context: &RequestContext<RoleServer>) -> Result<Value, ErrorData> {
    for progress in [0, 50, 100] {
        if let Some(token) = context.meta.get_progress_token() {
            let params = json!({ "progressToken": token, "progress": progress, "total": 100 });
            context.peer.notify_progress(read(params)?).await.map_err(failed)?;
        }
        tokio::time::sleep(PACE).await;
    }
    Ok(text("done"))
}

/// Asks the client, in the middle of its own request.
async fn ask(
    context: &RequestContext<RoleServer>,
    method: &str,
    params: Value,
) -> Result<Value, ErrorData> {
    let request = read(json!({ "method": method, "params": params }))?;
    let answer = context.peer.send_request(request).await.map_err(failed)?;
    serde_json::to_value(answer).map_err(failed)
}

async fn sample(
    context: &RequestContext<RoleServer>,
    arguments: &Value,
) -> Result<Value, ErrorData> {
    let prompt =
        json!({ "role": "user", "content": { "type": "text", "text": arguments["prompt"] } });
    let params = json!({ "messages": [prompt], "maxTokens": 100 });
    let answer = ask(context, "sampling/createMessage", params).await?;
    Ok(text(&format!("LLM response: {}", answer["content"]["text"])))
}

async fn elicit(context: &RequestContext<RoleServer>, params: Value) -> Result<Value, ErrorData> {
    let answer = ask(context, "elicitation/create", params).await?;
    Ok(text(&format!(
        "Elicitation completed: action={}, content={}",
        answer["action"], answer["content"]
    )))
}

fn asked_for(arguments: &Value) -> Value {
    json!({ "message": arguments["message"], "requestedSchema": {
        "type": "object",
        "properties": {
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        },
        "required": ["username", "email"],
    }})
}

fn defaults() -> Value {
    json!({ "message": "Please review the defaults", "requestedSchema": {
        "type": "object",
        "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
            "verified": { "type": "boolean", "default": true },
        },
        "required": [],
    }})
}

fn enums() -> Value {
    let titled = |value: &str, title: &str| json!({ "const": value, "title": title });
    let three = || {
        json!([
            titled("value1", "First Option"),
            titled("value2", "Second Option"),
            titled("value3", "Third Option")
        ])
    };
    json!({ "message": "Please choose", "requestedSchema": {
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
            "titledSingle": { "type": "string", "oneOf": three() },
            "legacyEnum": { "type": "string", "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"] },
            "untitledMulti": { "type": "array",
                "items": { "type": "string", "enum": ["option1", "option2", "option3"] } },
            "titledMulti": { "type": "array", "items": { "anyOf": three() } },
        },
        "required": [],
    }})
}
