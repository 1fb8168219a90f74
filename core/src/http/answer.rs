//! What an answer says, read within its limits.

use std::sync::Arc;

use http::{
    Method, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, RequestId,
        ServerJsonRpcMessage,
    },
    transport::common::http_header::{EVENT_STREAM_MIME_TYPE, JSON_MIME_TYPE},
};

use super::{
    connection::Connection,
    error::{RequestError, chain},
};

/// How much of the body of a refusal is read: it may hold a JSON-RPC error.
const REFUSAL_LIMIT_BYTES: usize = 64 * 1024;
/// How much of a body is shown in an error.
const PREVIEW_BYTES: usize = 256;

/// The answer to a POST.
pub(super) enum Answer {
    /// Taken in, and nothing more to say.
    Accepted,
    Message(Box<ServerJsonRpcMessage>),
    Events(Incoming),
}

/// Reads the answer to a POST.
pub(super) async fn read(
    connection: &Connection,
    message: &ClientJsonRpcMessage,
    has_session: bool,
    response: Response<Incoming>,
) -> Result<Answer, RequestError> {
    let status = response.status();
    if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
        return Ok(Answer::Accepted);
    }
    let asked = request_id(message);
    if !status.is_success() {
        return match read_refusal(connection, message, has_session, response).await {
            (Some(answer), _) => Ok(Answer::Message(Box::new(answer))),
            (None, error) => Err(error),
        };
    }
    if is_of_type(&response, EVENT_STREAM_MIME_TYPE) {
        return Ok(Answer::Events(response.into_body()));
    }
    // Some servers answer what needs no answer with 200 and this or that.
    if asked.is_none() {
        return Ok(Answer::Accepted);
    }
    let not_mcp = |why: String, body: &[u8]| RequestError::NotMcp {
        method: Method::POST,
        url: Arc::clone(connection.target.url()),
        why,
        body: preview(body),
    };
    if !is_of_type(&response, JSON_MIME_TYPE) {
        return Err(not_mcp(content_type_of(&response), b""));
    }
    let limit = connection.settings.response_limit_bytes;
    let body = read_body(connection, Method::POST, response, limit).await?;
    match serde_json::from_slice::<ServerJsonRpcMessage>(&body) {
        Ok(message) => Ok(Answer::Message(Box::new(message))),
        Err(error) => Err(not_mcp(error.to_string(), &body)),
    }
}

/// Reads the answer to a GET, which can only be a stream.
pub(super) async fn read_stream(
    connection: &Connection,
    response: Response<Incoming>,
) -> Result<Incoming, RequestError> {
    if !response.status().is_success() {
        return Err(refused(connection, Method::GET, response).await.0);
    }
    if !is_of_type(&response, EVENT_STREAM_MIME_TYPE) {
        return Err(RequestError::NotMcp {
            method: Method::GET,
            url: Arc::clone(connection.target.url()),
            why: content_type_of(&response),
            body: String::new(),
        });
    }
    Ok(response.into_body())
}

/// A refusal, and the JSON-RPC message it may hold, which then is the answer.
async fn read_refusal(
    connection: &Connection,
    message: &ClientJsonRpcMessage,
    has_session: bool,
    response: Response<Incoming>,
) -> (Option<ServerJsonRpcMessage>, RequestError) {
    let status = response.status();
    let is_json = is_of_type(&response, JSON_MIME_TYPE);
    let (error, body) = refused(connection, Method::POST, response).await;
    let Some(id) = request_id(message) else {
        return (None, error);
    };
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return (None, error);
    }
    let said = match serde_json::from_slice::<ServerJsonRpcMessage>(&body) {
        Ok(JsonRpcMessage::Error(said)) => Some(said.error),
        _ => None,
    };
    // A server of an earlier revision refuses what it does not know with any status, and rmcp then
    // falls back to `initialize`.
    let is_discover = matches!(
        message,
        ClientJsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::DiscoverRequest(_))
    );
    let answer = match said {
        Some(said) if is_json || is_discover => Some(said),
        None if is_discover && !has_session && status.is_client_error() => {
            Some(ErrorData::invalid_request(error.to_string(), None))
        }
        _ => None,
    };
    (answer.map(|answer| ServerJsonRpcMessage::error(answer, Some(id))), error)
}

async fn refused(
    connection: &Connection,
    method: Method,
    response: Response<Incoming>,
) -> (RequestError, Vec<u8>) {
    let status = response.status();
    let hint = hint(&method, &response);
    let challenge = challenge(&response);
    let body = read_body(connection, method.clone(), response, REFUSAL_LIMIT_BYTES).await;
    let body = body.unwrap_or_default();
    let error = RequestError::Status {
        method,
        url: Arc::clone(connection.target.url()),
        status,
        hint,
        challenge,
        body: preview(&body),
    };
    (error, body)
}

fn hint(method: &Method, response: &Response<Incoming>) -> String {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    match response.status() {
        StatusCode::UNAUTHORIZED => {
            "it wants a token, or another one (`HttpServer::with_bearer_token`)".to_owned()
        }
        StatusCode::FORBIDDEN => {
            "it does not let this client in: the token may lack a scope, or the server may not \
             accept this host name"
                .to_owned()
        }
        StatusCode::NOT_FOUND => "there is no endpoint at this path".to_owned(),
        StatusCode::METHOD_NOT_ALLOWED => format!(
            "no {method} at this path; the endpoint may be another, or the server may speak the \
             older HTTP+SSE only"
        ),
        StatusCode::TOO_MANY_REQUESTS => match header(RETRY_AFTER) {
            Some(after) => format!("it asks to come back after {after}"),
            None => "it asks to come back later".to_owned(),
        },
        status if status.is_redirection() => format!(
            "redirects are not followed, because they would carry the token along; use the \
             address it names ({})",
            header(LOCATION).unwrap_or("it names none")
        ),
        status if status.is_server_error() => {
            "the server failed; its own log may say why".to_owned()
        }
        _ => "it does not take this request".to_owned(),
    }
}

/// What a server says about the authorization it wants.
pub(super) fn challenge(response: &Response<Incoming>) -> Option<String> {
    response.headers().get(WWW_AUTHENTICATE)?.to_str().ok().map(str::to_owned)
}

/// Counts before it keeps; a length that is announced can only reject early.
async fn read_body(
    connection: &Connection,
    method: Method,
    response: Response<Incoming>,
    limit_bytes: usize,
) -> Result<Vec<u8>, RequestError> {
    let url = || Arc::clone(connection.target.url());
    let too_large = || RequestError::TooLarge {
        method: method.clone(),
        url: url(),
        what: "the answer",
        limit_bytes,
        setting: "response_limit_bytes",
    };
    let announced = response
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit_bytes) {
        return Err(too_large());
    }
    let wait = connection.settings.answer_wait;
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    loop {
        let frame = match tokio::time::timeout(wait, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => {
                return Err(RequestError::Broken { method, url: url(), why: chain(&error) });
            }
            Err(_) => {
                return Err(RequestError::TimedOut {
                    method,
                    url: url(),
                    what: "the answer did not go on",
                    waited: wait,
                    setting: "answer_wait",
                });
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > limit_bytes - bytes.len() {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
}

fn request_id(message: &ClientJsonRpcMessage) -> Option<RequestId> {
    match message {
        JsonRpcMessage::Request(request) => Some(request.id.clone()),
        _ => None,
    }
}

fn is_of_type(response: &Response<Incoming>, mime: &str) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .get(..mime.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(mime.as_bytes()))
    })
}

fn content_type_of(response: &Response<Incoming>) -> String {
    match response.headers().get(CONTENT_TYPE) {
        Some(value) => format!("its content type is {value:?}"),
        None => "it has no content type".to_owned(),
    }
}

fn preview(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(PREVIEW_BYTES)]).into_owned()
}
