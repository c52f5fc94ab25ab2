//! Asking the gateway that runs, through its admin listener.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::config::Admin;

/// An answer takes no longer; reading the configuration and writing decisions are quick.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether anybody listens where the running gateway would be asked.
pub async fn is_there(admin: &Admin) -> bool {
    TcpStream::connect(admin.listen).await.is_ok()
}

/// Asks, and gives the JSON of the answer when it is good.
///
/// # Errors
/// Nobody listens, what listens is no gateway, or its answer is no success.
pub async fn ask_for(
    admin: &Admin,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<Value> {
    match ask(admin, method, path, body).await? {
        (StatusCode::OK, answer) => Ok(answer),
        (status, answer) => Err(message(status, &answer)),
    }
}

/// Asks, and gives status and JSON of the answer.
///
/// # Errors
/// Nobody listens, or what listens is no gateway.
pub async fn ask(
    admin: &Admin,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<(StatusCode, Value)> {
    let asked = tokio::time::timeout(PATIENCE, exchange(admin, method, path, body)).await;
    asked.unwrap_or_else(|_| {
        bail!("the gateway at {} did not answer within {} s", admin.listen, PATIENCE.as_secs())
    })
}

async fn exchange(
    admin: &Admin,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> anyhow::Result<(StatusCode, Value)> {
    let address = admin.listen;
    let stream = TcpStream::connect(address).await.with_context(|| {
        format!("no gateway answers at {address} (admin.listen); is it running with this configuration?")
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, address.to_string());
    if let Some(token) = &admin.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    let answer = sender.send_request(request.body(Full::new(body))?).await?;
    let status = answer.status();
    let bytes = answer.into_body().collect().await?.to_bytes();
    let value =
        serde_json::from_slice(&bytes).with_context(|| format!("what listens at {address} is no gateway"))?;
    Ok((status, value))
}

/// The message of an answer that is no success.
pub fn message(status: StatusCode, answer: &Value) -> anyhow::Error {
    let message = answer.get("message").and_then(Value::as_str).unwrap_or_default();
    anyhow::anyhow!("the gateway answered {status}: {message}")
}
